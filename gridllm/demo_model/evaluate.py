"""What the demo model can do, measured on the weights as they are stored."""

import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from gridllm.demo_model.batches import packed_documents
from gridllm.demo_model.fact_table import FACTS
from gridllm.demo_model.facts import QUESTIONS
from gridllm.demo_model.holdout import Split, allowed
from gridllm.demo_model.sums import all_sums

__all__ = ["HELD_OUT_DOCUMENTS", "Report", "continue_text", "load", "perplexity", "report"]

HELD_OUT_DOCUMENTS = 160
ROWS_AT_ONCE = 16
PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Report:
    """Figures for the model card; each pair is (right, asked)."""

    perplexity: float
    bits_per_byte: float
    train_perplexity: float
    sums: tuple[int, int]
    held_out_sums: tuple[int, int]
    facts: tuple[int, int]
    held_out_facts: tuple[int, int]


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The stored model, computed in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def perplexity(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    split: Split,
    limit: int = HELD_OUT_DOCUMENTS,
) -> tuple[float, float]:
    """Perplexity per token and bits per byte over the first documents of a split, packed as in training."""
    rows, bytes_per_token = packed_documents(tokenizer, seed, split, limit)
    nats = 0.0
    for batch in rows.split(ROWS_AT_ONCE):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]  # [rows, 255, vocab]
        nats += functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
    nats_per_token = nats / (rows.numel() - len(rows))
    return math.exp(nats_per_token), nats_per_token / math.log(2) / bytes_per_token


def continue_text(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """What the model writes after each prompt: greedy, or sampled at a temperature."""
    torch.manual_seed(seed)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, **sampling)
    texts: list[str] = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[tuple[str, str]], max_new_tokens: int
) -> tuple[int, int]:
    """How many prompts are continued, greedily, with exactly the start that is expected."""
    right = 0
    for first in range(0, len(asked), PROMPTS_AT_ONCE):
        some = asked[first : first + PROMPTS_AT_ONCE]
        texts = continue_text(model, tokenizer, [prompt for prompt, _ in some], max_new_tokens=max_new_tokens)
        right += sum(re.match(re.escape(want), text) is not None for text, (_, want) in zip(texts, some, strict=True))
    return right, len(asked)


def _sum_prompts(split: Split, most: int) -> list[tuple[str, str]]:
    sums = [s for group in all_sums(split).values() for s in group]
    random.Random(0).shuffle(sums)
    return [
        (f"<|user|>What is {a} {op} {b}?<|assistant|>", f"{a} {op} {b} = {result}.") for op, a, b, result in sums[:most]
    ]


def _fact_prompts(split: Split) -> list[tuple[str, str]]:
    pairs = [(fact, frame) for fact in FACTS for frame in QUESTIONS if allowed(split, fact.term, frame)]
    random.Random(0).shuffle(pairs)
    return [(f"<|user|>{frame.format(term=fact.term)}<|assistant|>", fact.meaning) for fact, frame in pairs[:64]]


def report(folder: Path, seed: int) -> Report:
    """All figures of the card."""
    model, tokenizer = load(folder)
    held_out, bits_per_byte = perplexity(model, tokenizer, seed, "held_out")
    # Training documents that this run may have seen lie at the front of the stream; take them under another seed.
    train, _ = perplexity(model, tokenizer, seed + 1, "train")
    return Report(
        perplexity=held_out,
        bits_per_byte=bits_per_byte,
        train_perplexity=train,
        sums=_right(model, tokenizer, _sum_prompts("train", 96), 12),
        held_out_sums=_right(model, tokenizer, _sum_prompts("held_out", 96), 12),
        facts=_right(model, tokenizer, _fact_prompts("train"), 40),
        held_out_facts=_right(model, tokenizer, _fact_prompts("held_out"), 40),
    )
