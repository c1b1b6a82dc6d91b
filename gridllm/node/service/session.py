"""One client's session on this node: what it may send, where its output goes, what is kept for replay."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gridllm.engine.cache import SessionCache
from gridllm.errors import NotUpstream, StaleEpoch
from gridllm.ids import PeerId, SessionId
from gridllm.node.counter.till import Terms
from gridllm.node.service.steps import kept, passed_on, whole
from gridllm.swarm.link import Link
from gridllm.wire.messages import Ack, Hop, Open, Output, Pay, Resume, RowSlice, Step
from gridllm.wire.replay import ReplayBuffer
from gridllm.wire.slices import Piece, select
from gridllm.wire.tensor import pack


@dataclass(slots=True)
class Served:
    """What a session cost since its last Ack."""

    tokens: int = 0
    passes: int = 0
    compute_s: float = 0.0
    queued_s: float = 0.0


class Held(NamedTuple):
    """A step that waits for its payment."""

    step: Step
    hidden: torch.Tensor  # [tokens, hidden_size], CPU


class Parcel(NamedTuple):
    """A message on its way out of this node."""

    link: Link | None  # None: the link to the next hop is lost, and the client knows
    message: Step | Output
    body: memoryview


class NodeSession:
    """State of one session. Lives on the event loop; the engine holds its KV rows."""

    def __init__(
        self, opened: Open, client: PeerId, client_link: Link, cache: SessionCache, hidden_size: int, dtype: torch.dtype
    ) -> None:
        self.id = SessionId(opened.session)
        self.client = client
        self.client_link = client_link
        self.orphaned_at: float | None = None  # loop time the client's link ended; None while it lives
        self.used_at = asyncio.get_running_loop().time()  # loop time of the last Open, Resume or Step
        self.cache = cache
        self.epoch = opened.epoch
        self.upstream = PeerId(opened.upstream)
        self.upstream_certificate = opened.upstream_certificate
        self.told_epoch: int | None = None  # the client knows that a neighbour of this epoch is admitted no longer
        self.next: Hop | None = opened.next
        self.next_link: Link | None = None
        self.need = list(opened.need)
        self.lengths = [0] * opened.rows  # of the rows once everything taken in has run
        self.step = 0
        self.replay: ReplayBuffer | None = ReplayBuffer(opened.rows, hidden_size, dtype)  # None: dropped, memory
        self.waiting = 0  # pieces in the engine
        self.idle = asyncio.Event()
        self.idle.set()
        self.served = Served()
        self.terms = Terms()
        self.held: deque[Held] = deque()  # in order, until a voucher comes
        self.held_bytes = 0
        self.held_since = 0.0  # loop time the first of them came to be first
        self.unread: Pay | None = None  # of a client that pays faster than this node verifies

    def check(self, step: Step, sender: PeerId) -> None:
        """Check where a step comes from.

        Raises:
            StaleEpoch, NotUpstream: it must not be taken in.
        """
        if step.epoch != self.epoch:
            raise StaleEpoch(f"The step is of epoch {step.epoch} and the session is at {self.epoch}.")
        if sender != self.upstream:
            raise NotUpstream(f"This session takes steps from {self.upstream}, not from {sender}.")

    def resume(self, resumed: Resume) -> None:
        """Take over the new shape of the chain; call when idle.

        Rows that the client's latest call changed are cut to what it left in place, unless the call arrived here. Rows
        whose output is needed again but is no longer held are cut to 0, so that upstream replays them.
        """
        if resumed.valid and self.step < resumed.step:
            self.lengths = [min(have, valid) for have, valid in zip(self.lengths, resumed.valid, strict=True)]
            if self.replay is not None:
                self.replay.cut(self.lengths)
        self.upstream = PeerId(resumed.upstream)
        self.upstream_certificate = resumed.upstream_certificate
        self.next = resumed.next
        self.need = list(resumed.need)
        if self.replay is None:
            self.lengths = [0 if n < have else have for n, have in zip(self.need, self.lengths, strict=True)]

    def again(self) -> Iterable[tuple[list[RowSlice], torch.Tensor]]:
        """What the next hop lacks of what this node computed before."""
        if self.replay is None:
            return
        for piece, hidden in self.replay.from_positions(self.need):
            yield [piece], hidden

    def parcel(self, slices: list[RowSlice], hidden: torch.Tensor, step: int, *, replay: bool) -> Parcel | None:
        """What leaves this node of computed ``hidden``, and over which link; None when nothing does."""
        leaving = self._leaving(slices, replay=replay)
        if not leaving:
            return None
        rows = [s for s, _ in leaving]
        body = pack(select(hidden, leaving))
        if self.next is None:
            return Parcel(self.client_link, Output(self.id, self.epoch, step, rows), body)
        return Parcel(self.next_link, Step(self.id, self.epoch, step, rows, replay), body)

    def _leaving(self, slices: list[RowSlice], *, replay: bool) -> Piece:
        """Which computed slices leave this node, each with its offset in the computed hidden states."""
        if replay:
            return list(passed_on(slices, self.need))
        return list(kept(slices) if self.next is None else whole(slices))

    def acknowledge(self) -> Ack | None:
        """What was served since the last call, if anything."""
        served, self.served = self.served, Served()
        if not served.tokens:
            return None
        return Ack(self.id, served.tokens, served.passes, round(served.compute_s * 1e6), round(served.queued_s * 1e6))
