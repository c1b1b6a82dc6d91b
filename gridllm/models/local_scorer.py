"""A model of this machine as a ``Scorer``: the twin of the one that runs on the grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gridllm.models.families import build_meta, plain_attention, read_config
from gridllm.models.inventory import Inventory
from gridllm.models.loading import Progress, fill
from gridllm.models.scoring import Scores, batches, check_rows, checked, joined, length_of, scores_of, tokens_at_once
from gridllm.models.tokenizers import read_tokenizer
from gridllm.models.weights import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gridllm.models.manifest import Manifest


class LocalScorer:
    """A model from a folder, whole in this process's memory. One call at a time."""

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        self.max_length = length_of(model.config)
        self._folder = folder
        self._model = model
        self._vocabulary: int = model.config.vocab_size
        self._tokens = tokens_at_once(self._vocabulary)

    @staticmethod
    def load(
        folder: Path,
        manifest: Manifest | None = None,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> LocalScorer:
        """Load a model from its safetensors (in any layout, that of the cache included); no code of a model ever runs.

        Args:
            manifest: the folder is checked against it. None: trusted folder.

        Raises:
            ModelError: unsupported family, or files that are missing, corrupt or another model's.
        """
        config = read_config(folder)
        if manifest is not None:
            manifest.check_config(folder)
            manifest.check_tokenizer(folder)
        model = build_meta(config, dtype=dtype, attn=plain_attention(config))
        fill(
            Inventory(model),
            Checkpoint.open(folder),
            manifest,
            device=torch.device(device),
            layers=None,
            progress=progress,
        )
        return LocalScorer(folder, model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer. Raises ModelError."""
        return read_tokenizer(self._folder)

    def logprobs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """As ``Scorer``."""
        check_rows(rows, starts, self._vocabulary, self.max_length)
        found: dict[int, Scores] = {}
        with torch.inference_mode():
            for batch in batches([len(row) for row in rows], self._tokens):
                scored = self._batch([rows[at] for at in batch], [starts[at] for at in batch])
                found |= zip(batch, scored, strict=True)
        return [checked(found[at], starts[at]) for at in range(len(rows))]

    def _batch(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """Rows of one pass, padded at their ends; or one row that is longer than a pass."""
        longest = max(map(len, rows))
        if longest > self._tokens:
            return [self._long(rows[0], starts[0])]
        device = self._model.device
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
        padded = None if len(set(map(len, rows))) == 1 else mask
        logits = self._model(input_ids=ids, attention_mask=padded, use_cache=False).logits  # [rows, longest, vocab]
        return [
            scores_of(logits[at, start - 1 : len(row) - 1], ids[at, start : len(row)])
            for at, (row, start) in enumerate(zip(rows, starts, strict=True))
        ]

    def _long(self, row: Sequence[int], start: int) -> Scores:
        """One row in several passes, by the model's own cache."""
        from transformers import DynamicCache

        ids = torch.tensor(row, device=self._model.device)
        cache = DynamicCache(config=self._model.config)
        parts = []
        for first in range(0, len(row) - 1, self._tokens):
            fed = ids[None, first : min(first + self._tokens, len(row) - 1)]
            end = first + fed.shape[1]  # of what is held then
            run = self._model if end >= start else self._model.base_model  # whose head is not wanted yet
            out = run(input_ids=fed, past_key_values=cache, use_cache=True)
            if end >= start:
                skipped = max(0, start - 1 - first)
                parts.append(scores_of(out.logits[0, skipped:], ids[first + skipped + 1 : end + 1]))
        return joined(parts)
