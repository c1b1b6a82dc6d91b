"""The demo model's tokenizer: byte-level BPE learned from the corpus, saved the way transformers expects it."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gridllm.demo_model.corpus import documents
from gridllm.demo_model.dialogue import CHAT_TEMPLATE, SPECIAL_TOKENS

__all__ = ["build_tokenizer", "encode_documents"]

VOCAB_SIZE = 2048
LEARNED_FROM = 6000  # documents; fixed, so that runs of any length share one tokenizer


def build_tokenizer(seed: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A tokenizer learned from the first training documents; it puts `<s>` before every text and never adds `</s>`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(documents(seed, "train", LEARNED_FROM), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL_TOKENS[:3], strict=True)),
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        model_max_length=max_tokens,
        padding_side="left",  # generation continues the right end
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each document, from `<s>` to `</s>`."""
    eos: int = tokenizer.eos_token_id
    encoded: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    return [ids if ids[-1] == eos else [*ids, eos] for ids in encoded]
