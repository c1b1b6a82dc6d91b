"""What the client knows of the grid's nodes, and the chains it may use."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final

from gridllm.admission.certificate import Certificate
from gridllm.admission.gate import Gatekeeper
from gridllm.errors import GridError, RouteError
from gridllm.ids import ModelRoot, PeerId
from gridllm.planning.health import Health
from gridllm.planning.routing import Leg, plan_chain
from gridllm.wire.record import NodeRecord
from gridllm_client.links import LinkPool
from gridllm_client.listing import Listing, Nodes

RTT_S: Final = 60.0  # measured round trips are believed this long
PING_CALL: Final = "gridllm.ping"
PING_TIMEOUT_S: Final = 1.0
MAX_PINGS: Final = 8  # candidates measured before a chain is chosen
LAST_RESORT: Final = 8  # banned nodes that are tried again when nobody else serves their blocks


class Routes:
    """Plans chains for one model from the directory, measured round trips and past failures."""

    def __init__(
        self,
        directory: Nodes,
        pool: LinkPool,
        model: ModelRoot,
        dtype: str,
        *,
        name: str = "",
        gate: Gatekeeper | None = None,
        health: Health | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            directory: lists admitted nodes only.
            name: the model's, as errors tell people to serve it; "": the one that nodes serve unasked.
            gate: by which a node in use is checked again; None: all are admitted.
        """
        self.model = model
        self.dtype = dtype
        self._name = name
        self.health = health if health is not None else Health()
        self._directory = directory
        self._gate = gate
        self._pool = pool
        self._clock = clock
        self._wall_clock = wall_clock
        self._listing = Listing(directory, model, clock)
        self._rtts: dict[PeerId, tuple[float, float]] = {}  # peer → (milliseconds, when measured)
        self._failed_at: dict[PeerId, float] = {}  # Unix time
        self._failed_as: dict[PeerId, float] = {}  # peer → ``since`` of its record when it failed
        # A node that another one reported lost has left its session before its own link ends; it counts all the same.
        pool.watchers.append(self.failed)
        pool.on_notices.append(self.forget)

    async def plan(
        self,
        start: int,
        end: int,
        *,
        avoid: Collection[PeerId] = frozenset(),
        tokens: int = 0,
        before: NodeRecord | None = None,
        after: PeerId | None = None,
        seed: int | None = None,
        measure: bool = False,
        desperate: bool = True,
    ) -> tuple[Leg, ...]:
        """The best chain over blocks [start, end) without ``avoid``.

        Records a few seconds old will do; when they give no chain, they are read again. Nodes that failed lately are
        left out unless they were started anew; when there are no others, first those that announced themselves since.

        Args:
            tokens: room a node must have in its KV cache.
            before, after: living neighbours of the stretch; None: the client.
            measure: take time to ping candidates whose distance is unknown.
            desperate: when there are no others, try nodes that failed just now, too.

        Raises:
            RouteError: some blocks are served by nobody; names them.
        """
        records = await self.records(fresh=False)
        if measure:
            await self._measure([r for r in records if r.start <= start or r.end >= end])

        def best(banned: frozenset[PeerId]) -> tuple[Leg, ...]:
            return plan_chain(
                records,
                start,
                end,
                rtt_ms=self._known_rtts(),
                banned=frozenset(avoid) | banned,
                model=self.model,
                dtype=self.dtype,
                tokens=tokens,
                before=before,
                after=after,
                seed=seed,
                name=self._name,
            ).hops

        with contextlib.suppress(RouteError):
            return best(self._banned(records))
        records = await self.records(fresh=True)
        banned, error = self._banned(records), RouteError(f"No chain over blocks {start}:{end} was found.")
        for pardoned in self._pardons(records, banned, desperate=desperate):
            try:
                return best(banned - pardoned)
            except RouteError as failure:
                error = failure
        raise self._with_those_shut_out(error)

    def _with_those_shut_out(self, error: RouteError) -> RouteError:
        """Also says whether the blocks that are lacking have nodes that were not admitted."""
        touching = [
            record
            for record in self._directory.shut_out(self.model)
            if any(record.start < end and start < record.end for start, end in error.uncovered)
        ]
        if not touching:
            return error
        nodes = "1 node that is" if len(touching) == 1 else f"{len(touching)} nodes that are"
        return RouteError(f"{error} They have {nodes} not admitted; gridllm status --all says why.", error.uncovered)

    async def records(self, *, fresh: bool) -> list[NodeRecord]:
        """Records of the model's nodes, as ``Listing.records`` gives them."""
        return await self._listing.records(fresh=fresh)

    def forget(self) -> None:
        """What was read of the nodes no longer counts: they may be admitted no longer."""
        self._listing.forget()

    def check(self, record: NodeRecord) -> Certificate | None:
        """The certificate by which a node is admitted now; None in an open grid.

        Raises:
            CertificateError: it is admitted no longer.
        """
        if self._gate is None:
            return None
        return self._gate.check(record.certificate, record.peer, model=self.model, dtype=self.dtype)

    def left_s(self, record: NodeRecord) -> float:
        """Seconds until a node's certificate expires; infinite in an open grid. Raises as ``check`` does."""
        certificate = self.check(record)
        return math.inf if certificate is None else certificate.expires - self._wall_clock()

    def failed(self, peer: PeerId) -> None:
        """Stay away from a node for a while; longer each time."""
        now = self._clock()
        self._failed_at[peer] = self._wall_clock()
        self._failed_as[peer] = next((r.since for r in self._listing.latest if r.peer == peer), 0.0)
        if peer not in self.health.banned(now):
            self.health.failed(peer, now)

    def succeeded(self, peer: PeerId) -> None:
        """The node did its work."""
        self.health.succeeded(peer)

    def _banned(self, records: list[NodeRecord]) -> frozenset[PeerId]:
        """Who is to be left out as long as there are others."""
        started_anew = {r.peer for r in records if r.since != self._failed_as.get(r.peer, r.since)}
        return self.health.banned(self._clock()) - started_anew

    def _pardons(
        self, records: list[NodeRecord], banned: frozenset[PeerId], *, desperate: bool
    ) -> Iterator[frozenset[PeerId]]:
        """Whom to let in after all, in the order of trying: nobody, then ever more.

        First those that announced themselves since they failed. The others may be dead: as few of them as will do,
        those that failed longest ago first, so that each gets its turn.
        """
        yield frozenset()
        here = banned & {r.peer for r in records}
        recovered = {p for p in here if self._directory.announced_at(p) > self._failed_at.get(p, math.inf)}
        yield frozenset(recovered)
        if desperate:
            silent = sorted(here - recovered, key=lambda peer: (self._failed_at.get(peer, 0.0), peer))
            for count in range(1, min(len(silent), LAST_RESORT) + 1):
                yield frozenset(recovered.union(silent[:count]))

    def _known_rtts(self) -> dict[PeerId, float]:
        return {peer: ms for peer, (ms, _) in self._rtts.items()} | self._pool.rtts_ms()

    async def _measure(self, candidates: list[NodeRecord]) -> None:
        """Ping candidate first and last hops nobody measured lately; a choice of one needs no measuring."""
        now = self._clock()
        near = self._pool.rtts_ms()
        unknown = [
            r for r in candidates if r.peer not in near and now - self._rtts.get(r.peer, (0.0, -RTT_S))[1] >= RTT_S
        ]
        if len(candidates) > 2:
            await asyncio.gather(*(self._ping(record) for record in unknown[:MAX_PINGS]))

    async def _ping(self, record: NodeRecord) -> None:
        peer = record.peer
        try:
            await within(
                PING_TIMEOUT_S, self._pool.swarm.connect(peer, tuple(record.addresses), timeout_s=PING_TIMEOUT_S)
            )
            started = self._clock()
            await within(PING_TIMEOUT_S, self._pool.swarm.call(peer, PING_CALL, b"", timeout_s=PING_TIMEOUT_S))
            ms = (self._clock() - started) * 1e3
        except (GridError, TimeoutError):
            ms = PING_TIMEOUT_S * 1e3  # chosen only when nobody else serves the blocks
        self._rtts[peer] = (ms, self._clock())


async def within(seconds: float, work: Awaitable[object]) -> None:
    """Await ``work`` for at most ``seconds``; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        await work
