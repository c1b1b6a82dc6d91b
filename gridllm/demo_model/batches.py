"""The corpus as packed rows of tokens."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gridllm.demo_model.corpus import documents
from gridllm.demo_model.holdout import Split
from gridllm.demo_model.tokenizer import encode_documents

__all__ = ["ROW_TOKENS", "TOKENS_PER_STEP", "packed_documents", "training_batches"]

ROW_TOKENS = 256
LONG_ROW_TOKENS = 1024
LONG_ROW_EVERY = 8  # one step in eight is of long rows, so that positions up to the declared maximum have been seen
TOKENS_PER_STEP = 1024  # small steps learn faster: 2.13 perplexity after 600,000 tokens, against 2.40 with 2,048
DOCUMENTS_PER_CHUNK = 512


def token_stream(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[int]:
    """Endless training tokens; no document comes twice."""
    texts = documents(seed, "train")
    while True:
        for ids in encode_documents(tokenizer, islice(texts, DOCUMENTS_PER_CHUNK)):
            yield from ids


def training_batches(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int) -> Iterator[Tensor]:
    """One batch a step.  # [4, 256] or [1, 1024], int64"""
    stream = token_stream(tokenizer, seed)
    for step in range(steps):
        length = LONG_ROW_TOKENS if step % LONG_ROW_EVERY == LONG_ROW_EVERY - 1 else ROW_TOKENS
        yield torch.tensor(list(islice(stream, TOKENS_PER_STEP))).view(-1, length)


def packed_documents(tokenizer: PreTrainedTokenizerFast, seed: int, split: Split, limit: int) -> tuple[Tensor, float]:
    """The first documents of a split in whole rows, and how many bytes of text one token stands for."""
    texts = list(documents(seed, split, limit))
    ids = [token for document in encode_documents(tokenizer, texts) for token in document]
    bytes_per_token = sum(len(text.encode()) for text in texts) / len(ids)
    rows = len(ids) // ROW_TOKENS
    return torch.tensor(ids[: rows * ROW_TOKENS]).view(rows, ROW_TOKENS), bytes_per_token  # [rows, 256]
