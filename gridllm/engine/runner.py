"""The engine: one worker thread that takes whatever is ready through the span, pass after pass."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from gridllm.engine.cache import RowCache, SessionCache, TokenBudget
from gridllm.engine.forward import run_pass
from gridllm.engine.gathering import Rhythm, start_at
from gridllm.engine.metrics import EngineMetrics, Meter
from gridllm.engine.scheduler import next_pass
from gridllm.errors import Full, GridError, NodeFault
from gridllm.models.span import Span
from gridllm.wire.messages import RowSlice

log = logging.getLogger(__name__)

PASS_WEIGHT: Final = 0.25  # of the newest pass in the running mean of their times
PASS_TOKENS: Final = 512  # tokens in one pass; more would make decoding sessions wait for others' prompts
QUEUE_BYTES: Final = 512 * 1024**2  # of all sessions; beyond that they are sent elsewhere
WORK_BYTES: Final = 4096  # what a step takes beside its hidden states
QUEUED_TOKENS: Final = 16_384  # of one session; beyond that its client is told to slow down


@dataclass(slots=True)
class Work:
    """One step of one session, on its way through the engine."""

    session: SessionCache
    slices: Sequence[RowSlice]
    hidden: torch.Tensor  # [tokens, hidden_size], CPU
    capacities: list[int]  # of the session's rows once this step is in
    done: Callable[[Work], None]  # called on the event loop
    tokens: int
    decoding: bool
    arrival: int
    blocks: tuple[int, int]
    submitted_s: float  # time.perf_counter()
    priority: int = 0  # class of its session in the batch; a higher one goes first
    output: torch.Tensor | None = None  # [tokens, hidden_size], CPU; None when ``error`` is set
    error: GridError | None = None
    queued_s: float = 0.0  # waited for the worker
    compute_s: float = 0.0  # this step's share of the pass, by tokens

    @property
    def nbytes(self) -> int:
        """Memory that the step takes while it waits."""
        return self.hidden.nbytes + WORK_BYTES


class Engine:
    """Runs a span. ``submit`` and ``close_session`` are called on the event loop; all tensors live in the worker."""

    def __init__(self, span: Span, *, cache_tokens: int, pass_tokens: int = PASS_TOKENS) -> None:
        self.span = span
        self.budget = TokenBudget(cache_tokens)
        self._pass_tokens = pass_tokens
        self._ready = threading.Condition()
        self._queues: dict[SessionCache, deque[Work]] = {}  # guarded by _ready
        self._rhythms: dict[SessionCache, Rhythm] = {}  # of decoding sessions; guarded by _ready
        self._queued_bytes = 0  # event loop only
        self._free_s = 0.0  # when the last pass ended; worker only
        self._pass_s = 0.0  # a pass of decoding steps, smoothed; worker only
        self._stopping = False
        self._arrivals = itertools.count()
        self._meter = Meter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the worker; results are delivered to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the worker after the pass it is in; waiting steps are dropped."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def open_session(self, rows: int, start: int, end: int) -> SessionCache:
        """Empty rows for blocks [start, end) of the model, within the span."""
        shapes = self.span.cache_shapes()[start - self.span.start : end - self.span.start]
        empty = RowCache(shapes, self.span.dtype, self.span.device)
        return SessionCache([empty.twin() for _ in range(rows)], start, end)

    def close_session(self, session: SessionCache) -> None:
        """Free a session's rows; its waiting steps are dropped without an answer."""
        for capacity in session.capacities:
            self.budget.release(capacity)
        session.capacities = [0] * len(session.capacities)
        with self._ready:
            for work in self._queues.pop(session, ()):
                self._queued_bytes -= work.nbytes
            self._rhythms.pop(session, None)
            self._ready.notify()  # a pass may be waiting for it

    def reserve(self, session: SessionCache, slices: Sequence[RowSlice], *, replay: bool = False) -> None:
        """Make sure that a step's tokens fit; call before ``submit``. A replay may queue all that the rows hold.

        Raises:
            Full: no room in the KV cache, or too much of this session is waiting.
        """
        tokens = sum(s.tokens for s in slices)
        bound = QUEUED_TOKENS + (sum(session.capacities) if replay else 0)
        if session.queued_tokens and session.queued_tokens + tokens > bound:
            raise Full(f"More than {bound} tokens of this session wait for the node; send more slowly.")
        if self._queued_bytes > QUEUE_BYTES:
            raise Full(f"{self._queued_bytes >> 20} MiB of steps wait for this node already; try another node.")
        for s in slices:
            session.capacities[s.row] = self.budget.grow(session.capacities[s.row], s.position + s.tokens)

    def submit(
        self,
        session: SessionCache,
        slices: Sequence[RowSlice],
        hidden: torch.Tensor,
        done: Callable[[Work], None],
        *,
        priority: int = 0,
    ) -> None:
        """Queue a step: ``hidden`` [sum(tokens), hidden_size], model dtype, CPU; checked and reserved by the caller.

        ``done(work)`` is called on the event loop with ``work.output`` or ``work.error``; steps of one session run in
        order.
        """
        tokens = hidden.shape[0]
        session.queued_tokens += tokens
        work = Work(
            session=session,
            slices=slices,
            hidden=hidden,
            capacities=list(session.capacities),
            done=done,
            tokens=tokens,
            decoding=all(s.tokens == 1 for s in slices),
            arrival=next(self._arrivals),
            blocks=(session.start, session.end),
            submitted_s=time.perf_counter(),
            priority=priority,
        )
        self._queued_bytes += work.nbytes
        with self._ready:
            if work.decoding:
                self._rhythms.setdefault(session, Rhythm()).asked(work.submitted_s)
            else:
                self._rhythms.pop(session, None)  # whatever comes next, its pace is not known
            self._queues.setdefault(session, deque()).append(work)
            self._ready.notify()

    def metrics(self) -> EngineMetrics:
        """Counters since the start, and the cache's state now."""
        with self._ready:
            waiting = sum(len(queue) for queue in self._queues.values())
        return self._meter.read(self.budget, waiting)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run(batch)

    def _next_batch(self) -> list[Work] | None:
        """Wait for steps; None when the engine stops."""
        with self._ready:
            while not self._stopping:
                if not self._queues:
                    self._ready.wait()
                elif (patience_s := self._patience_s()) > 0:
                    self._ready.wait(patience_s)
                else:
                    return self._take(next_pass((queue[0] for queue in self._queues.values()), self._pass_tokens))
        return None

    def _patience_s(self) -> float:
        """How much longer the next pass waits for sessions that are due."""
        waiting = [queue[0] for queue in self._queues.values()]
        if len(self._rhythms) <= len(waiting) or not all(work.decoding for work in waiting):
            return 0.0
        now = time.perf_counter()
        ready = [rhythm for work in waiting if (rhythm := self._rhythms.get(work.session)) is not None]
        absent = [rhythm for session, rhythm in self._rhythms.items() if session not in self._queues]
        since_s = max(self._free_s, min(work.submitted_s for work in waiting))
        return start_at(since_s, self._pass_s, ready, absent, now) - now

    def _take(self, batch: list[Work]) -> list[Work]:
        """Take the chosen steps off their queues."""
        for work in batch:
            queue = self._queues[work.session]
            queue.popleft()
            if not queue:
                del self._queues[work.session]
        return batch

    def _run(self, batch: list[Work]) -> None:
        started = time.perf_counter()
        try:
            run_pass(self.span, batch)
        except GridError as error:
            for work in batch:
                work.error = error
        except Exception as error:
            log.exception("A forward pass failed")
            for work in batch:
                work.error = NodeFault(f"The node failed to compute the step: {type(error).__name__}: {error}.")
        ended = time.perf_counter()
        elapsed = ended - started
        self._free_s = ended
        if all(work.decoding for work in batch):
            self._pass_s += PASS_WEIGHT * (elapsed - self._pass_s)
        tokens = sum(work.tokens for work in batch)
        for work in batch:
            work.queued_s = started - work.submitted_s
            work.compute_s = elapsed * work.tokens / tokens
        self._meter.add(sequences=sum(len(w.slices) for w in batch), steps=len(batch), tokens=tokens, elapsed_s=elapsed)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, batch)
        with self._ready:
            for work in batch:
                if work.decoding and (rhythm := self._rhythms.get(work.session)) is not None:
                    rhythm.answered(ended)

    def _deliver(self, batch: list[Work]) -> None:
        for work in batch:
            work.session.queued_tokens -= work.tokens
            self._queued_bytes -= work.nbytes
            work.done(work)
