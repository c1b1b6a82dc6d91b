"""A model on the grid's nodes as a ``Scorer``: graders use it for models too large for their own machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

from gridllm.models.scoring import Scores, batches, check_rows, checked, joined, length_of, scores_of, tokens_at_once
from gridllm.wire.messages import MAX_ROWS, RowSlice
from gridllm_client.model import GridModel
from gridllm_client.terms import OnEvent, Patience

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SESSION_TOKENS: Final = 1024  # of all rows of one session: little enough for the cache of a small node
SESSIONS: Final = 4  # under way at once: while one is on its way to a node, that node works on another
WAIT_S: Final = 60.0  # for a node to appear where one is lacking


class ChainScorer:
    """Scores by a chain of nodes; embedding and head run here. Nodes lost on the way are replaced."""

    def __init__(self, model: GridModel, *, wait_s: float = WAIT_S, on_event: OnEvent | None = None) -> None:
        """
        Args:
            wait_s: seconds to wait for nodes where no chain covers the model.
            on_event: called on the grid's thread when nodes are lost and replaced.
        """
        self._model = model = model.fixed()
        self.max_length = length_of(model.ends.config)
        self._patience = Patience(wait_s=wait_s)
        self._on_event = on_event
        self._vocabulary: int = model.ends.config.vocab_size

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer. Raises ModelError."""
        return self._model.tokenizer

    def logprobs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """As ``gridllm.models.scoring.Scorer``; also raises what ``GridModel.generate`` does."""
        return self._model.runtime.run(self._logprobs(rows, starts))

    async def alogprobs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """``logprobs``, awaited on any event loop."""
        return await self._model.runtime.arun(self._logprobs(rows, starts))

    async def _logprobs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        check_rows(rows, starts, self._vocabulary, self.max_length)
        found: dict[int, Scores] = {}
        room = asyncio.Semaphore(SESSIONS)

        async def score(batch: list[int]) -> None:
            async with room:
                scored = await self._batch([rows[at] for at in batch], [starts[at] for at in batch])
            found.update(zip(batch, scored, strict=True))

        try:
            async with asyncio.TaskGroup() as group:
                for batch in batches([len(row) for row in rows], SESSION_TOKENS, MAX_ROWS):
                    group.create_task(score(batch))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # people are shown one sentence
        return [checked(found[at], starts[at]) for at in range(len(rows))]

    async def _batch(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Scores]:
        """Rows of one session."""
        hidden = await self._forward(rows, starts)
        scored = []
        for row, start, kept in zip(rows, starts, hidden, strict=True):
            scored.append(await self._scores(torch.tensor(row[start:]), kept))
        return scored

    async def _forward(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[torch.Tensor]:
        """Per row, what the last block gave at the positions before its scored tokens: [row - start, hidden_size]."""
        fed = [row[:-1] for row in rows]  # nothing is asked of what follows the last token
        slices = [
            RowSlice(at, at, 0, len(row), len(row) - start + 1)
            for at, (row, start) in enumerate(zip(fed, starts, strict=True))
        ]
        ids = torch.tensor([token for row in fed for token in row])
        positions = torch.cat([torch.arange(len(row)) for row in fed])
        longest = max(map(len, fed))
        session = self._model.session(
            rows=len(rows), tokens=longest, prompt=longest - 1, patience=self._patience, on_event=self._on_event
        )
        try:
            await session.open()  # what is fed while a chain is made is a replay: neither in frames nor paid alike
            async with self._model.ends_lock:
                embedded = await asyncio.to_thread(self._model.ends.embed, ids, positions)
            out = await session.forward(slices, embedded)
        finally:
            session.close()
        return list(out.split([s.keep for s in slices]))

    async def _scores(self, targets: torch.Tensor, hidden: torch.Tensor) -> Scores:
        """Of one row, by the head in stretches: its logits are far larger than its hidden states."""
        step = tokens_at_once(self._vocabulary)
        ends, parts = self._model.ends, []
        for first in range(0, len(targets), step):
            async with self._model.ends_lock:
                logits = await asyncio.to_thread(ends.head, hidden[first : first + step])
                parts.append(await asyncio.to_thread(scores_of, logits, targets[first : first + step]))
        return joined(parts)
