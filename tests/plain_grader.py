"""What plain transformers says of a model and the leaderboard's items: nothing of ours between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gridllm_leaderboard.results import Line


class PlainGrader:
    """A model of this machine, one row at a time."""

    def __init__(self, folder: Path, window: int = 1024) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._window = window

    @torch.inference_mode()
    def nats(self, before: list[int], after: list[int]) -> float:
        """Log-likelihood of the tokens ``after``."""
        ids = torch.tensor([before + after])
        logprobs = self.model(input_ids=ids).logits[0].double().log_softmax(-1)
        return sum(float(logprobs[len(before) - 1 + at, token]) for at, token in enumerate(after))

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, text: str) -> float:
        """In windows that end one after the other; the last one is scored after as much as fits before it."""
        ids, done, nats = [self.tokenizer.bos_token_id, *self.tokens(text)], 1, 0.0
        while done < len(ids):
            end = min(done + self._window - 1, len(ids))
            nats += self.nats(ids[max(0, end - self._window) : done], ids[done:end])
            done = end
        return nats

    def choices(self, item: Line) -> list[float]:
        """Log-likelihood of each choice after the question."""
        query, bos = item["query"], [self.tokenizer.bos_token_id]
        before = self.tokens(query)
        return [self.nats(bos + before, self.tokens(f"{query} {one}")[len(before) :]) for one in item["choices"]]

    def right(self, items: Sequence[Line]) -> float:
        """Share of questions whose likeliest choice is the right one."""
        best = [(max(range(len(one["choices"])), key=self.choices(one).__getitem__), one["gold"]) for one in items]
        return sum(said == gold for said, gold in best) / len(best)

    def bits_per_byte(self, items: Sequence[Line]) -> float:
        """Over all texts together."""
        bits = -sum(self.text(one["text"]) for one in items) / math.log(2)
        return bits / sum(len(one["text"].encode()) for one in items)

    def text_points(self, items: Sequence[Line]) -> float:
        """Mean of 2 to the power of minus each text's bits per byte."""
        return sum(2.0 ** -self.bits_per_byte([one]) for one in items) / len(items)
