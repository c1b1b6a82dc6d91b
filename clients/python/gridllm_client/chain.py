"""The hops of one session: which nodes they are, and bringing all of them into one shape."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection

from gridllm.errors import (
    BadPayment,
    CallTimeout,
    NodeFault,
    NotAdmitted,
    PeerLost,
    RouteError,
    SessionExists,
    StaleEpoch,
    SwarmError,
    UnknownSession,
)
from gridllm.ids import PeerId, SessionId
from gridllm.planning.routing import Leg
from gridllm.wire.messages import Close, Ready
from gridllm.wire.record import NodeRecord
from gridllm_client.hop import Hop, HopFailed, Shaping
from gridllm_client.links import LinkPool
from gridllm_client.node_link import Blamed, Listener, NodeLink
from gridllm_client.paying import Payer
from gridllm_client.repair import Call, gaps_of, need_of, ways
from gridllm_client.routes import Routes
from gridllm_client.standing import Standing
from gridllm_client.terms import Patience, Terms

AVOID_S = 15.0  # a node that was full, leaving or accused is not chosen again by this session for so long


class Chain:
    """The hops of a session, head first. One task at a time may change it."""

    def __init__(
        self,
        pool: LinkPool,
        routes: Routes,
        terms: Terms,
        patience: Patience,
        listener: Listener,
        payer: Payer | None = None,
    ) -> None:
        """``payer``: of the hops; None: nobody pays."""
        self.hops: list[Hop] = []
        self.epoch = 0
        self.id = SessionId(os.urandom(16))
        self._pool = pool
        self._routes = routes
        self._terms = terms
        self._patience = patience
        self._listener = listener
        self.payer = payer
        self._desperate = True
        self._avoid: dict[PeerId, float] = {}  # peer → until when
        self._clock: Callable[[], float] = time.monotonic
        self.standing = Standing(routes, lambda: self.hops)

    @property
    def shape(self) -> tuple[tuple[PeerId, int, int], ...]:
        """(peer, start, end) of every hop."""
        return tuple((hop.peer, hop.start, hop.end) for hop in self.hops)

    def next_of(self, peer: PeerId) -> PeerId | None:
        """The hop that ``peer`` pushes to; None for the tail and for strangers."""
        peers = [hop.peer for hop in self.hops]
        return peers[peers.index(peer) + 1] if peer in peers[:-1] else None

    def before(self, peer: PeerId) -> PeerId | None:
        """The hop that pushes to ``peer``; None for the head and for strangers."""
        peers = [hop.peer for hop in self.hops]
        return peers[peers.index(peer) - 1] if peer in peers[1:] else None

    def silent_s(self, peer: PeerId) -> float:
        """How long nothing has come from a hop, seconds; 0 for strangers."""
        return max((hop.link.silent_s for hop in self.hops if hop.peer == peer and hop.link is not None), default=0.0)

    def avoid(self, peer: PeerId) -> None:
        """Leave a node out of this session's plans for a while; others may still use it."""
        self._avoid[peer] = self._clock() + AVOID_S

    def failed(self, peer: PeerId) -> None:
        """A node is lost: all sessions stay away from it for a while."""
        self._routes.failed(peer)

    def succeeded(self, peer: PeerId) -> None:
        """A node did its work."""
        self._routes.succeeded(peer)

    async def replan(
        self,
        gone: frozenset[PeerId],
        accused: frozenset[PeerId] = frozenset(),
        accusers: frozenset[PeerId] = frozenset(),
        *,
        desperate: bool = True,
    ) -> bool:
        """Put substitutes in the place of hops that are gone, as far as possible of accused ones too.

        Args:
            desperate: nodes that failed lately will do when there are no others.

        Returns:
            Whether the chain changed.

        Raises:
            RouteError: blocks of hops that are gone are served by nobody else.
        """
        self._desperate = desperate
        lost = gone | {hop.peer for hop in self.hops if hop.lost}
        failure: RouteError | None = None
        for way in ways(lost, accused, accusers):
            if self.hops and not way:
                return False
            try:
                self._adopt(await self._substituted(way))
            except RouteError as error:
                failure = failure or error
            else:
                return True
        if len(self.hops) > 1:
            with contextlib.suppress(RouteError):  # living hops may serve more blocks than they do now
                await self._start_over()
                return True
        raise failure or RouteError("The chain has no hops.")

    async def reshape(self, call: Call) -> tuple[list[int], list[tuple[PeerId, int]]]:
        """Open or resume every hop in a new epoch, tail first.

        Returns:
            Per row, the position from which the client must feed the head; and how far each hop had got, head first.

        Raises:
            HopFailed: a node did not come along.
        """
        self.epoch += 1
        for peer, fault in self.standing.unadmitted():
            raise HopFailed(peer, NotAdmitted(str(fault)))
        await self._arrange_pay(call)
        await self._connect()
        shaping = Shaping(self.id, self.epoch, self._pool.swarm.peer, self._terms, self._patience, call)
        need = call.wanted()
        reports: list[tuple[PeerId, int]] = []
        for index in reversed(range(len(self.hops))):
            hop = self.hops[index]
            ready = await self._ready(index, shaping, need)
            if len(ready.lengths) != self._terms.rows:
                raise HopFailed(hop.peer, NodeFault(f"Node {hop.peer} reports {len(ready.lengths)} rows."))
            need = need_of(call, ready.lengths, ready.step)
            await self._pay_replay(hop, ready, call, need)
            reports.insert(0, (hop.peer, ready.step))
        return need, reports

    def begin_anew(self) -> None:
        """The same nodes, under a new session id; rows are fed again from position 0."""
        hops = [Hop(hop.record, hop.start, hop.end) for hop in self.hops]
        self.close()
        self.id = SessionId(os.urandom(16))
        self.hops = hops

    def close(self) -> None:
        """Free the session on all nodes; never waits."""
        hops, self.hops = self.hops, []
        for hop in hops:
            self._release(hop)

    async def _substituted(self, gone: Collection[PeerId]) -> list[Hop]:
        """The hops with new ones in place of ``gone``; nothing is changed."""
        result: list[Hop] = []
        done = 0
        taken = {hop.peer for hop in self.hops if hop.peer not in gone}  # those gone are banned already, or shunned
        for gap in gaps_of(self.shape, gone, self._terms.blocks):
            result += self.hops[done : gap.first]
            before = self.hops[gap.first - 1].record if gap.first else None
            after = self.hops[gap.last].peer if gap.last < len(self.hops) else None
            legs = await self._plan(gap.start, gap.end, taken, before, after)
            taken |= {leg.record.peer for leg in legs}
            result += [Hop(leg.record, leg.start, leg.end) for leg in legs]
            done = gap.last
        return result + self.hops[done:]

    async def _start_over(self) -> None:
        """A whole new chain under a new session id; rows are fed again from position 0."""
        legs = await self._plan(0, self._terms.blocks, (), None, None)
        self.close()
        self.id = SessionId(os.urandom(16))
        self.hops = [Hop(leg.record, leg.start, leg.end) for leg in legs]

    async def _plan(
        self, start: int, end: int, avoid: Collection[PeerId], before: NodeRecord | None, after: PeerId | None
    ) -> tuple[Leg, ...]:
        now = self._clock()
        shunned = {peer for peer, until in self._avoid.items() if until > now}
        return await self._routes.plan(
            start,
            end,
            avoid={*avoid, *shunned},
            tokens=self._terms.rows * self._terms.tokens,
            before=before,
            after=after,
            seed=int.from_bytes(self.id[:4], "big"),
            measure=not self.hops,
            desperate=self._desperate,
        )

    def _adopt(self, hops: list[Hop]) -> None:
        for hop in self.hops:
            if hop not in hops:
                self._release(hop)
        self.hops = hops

    def _release(self, hop: Hop) -> None:
        if hop.link is None:
            return
        if self.payer is not None:
            self.payer.settle(hop)
        hop.link.forget(self.id)
        if hop.link.lost is None:
            with contextlib.suppress(PeerLost):
                hop.link.send(Close(self.id))
        hop.link = None

    async def _arrange_pay(self, call: Call) -> None:
        if self.payer is None:
            return
        try:
            await self.payer.arrange(self.id, self.hops, sum(call.after))
        except BadPayment:
            self.begin_anew()
            await self.payer.arrange(self.id, self.hops, sum(call.after))

    async def _pay_replay(self, hop: Hop, ready: Ready, call: Call, need: list[int]) -> None:
        if self.payer is None:
            return
        try:
            stands = await self.payer.stands(hop, ready, call, need)
        except BadPayment as error:
            raise HopFailed(hop.peer, NodeFault(str(error))) from error
        if not stands:
            self.begin_anew()
            raise HopFailed(hop.peer, StaleEpoch("The session goes on under another id."))

    async def _connect(self) -> None:
        """Open all missing links at once."""
        missing = [hop for hop in self.hops if hop.link is None or hop.link.lost is not None]
        outcomes = await asyncio.gather(
            *(self._pool.get(hop.peer, tuple(hop.record.addresses)) for hop in missing), return_exceptions=True
        )
        unreachable: list[PeerId] = []
        failure: SwarmError | None = None
        for hop, outcome in zip(missing, outcomes, strict=True):
            if isinstance(outcome, NodeLink):
                hop.link = outcome
                outcome.listen(self.id, self._listener)
            elif isinstance(outcome, SwarmError):
                self._routes.failed(hop.peer)
                unreachable.append(hop.peer)
                failure = outcome
            else:
                raise outcome
        if failure is not None:
            raise HopFailed(unreachable[-1], failure, unreachable=tuple(unreachable[:-1]))

    async def _ready(self, index: int, shaping: Shaping, need: list[int]) -> Ready:
        hop = self.hops[index]
        if hop.link is None:
            raise HopFailed(hop.peer, PeerLost(f"The link to {hop.peer} was closed."))
        before = self.hops[index - 1] if index else None
        after = self.hops[index + 1] if index + 1 < len(self.hops) else None
        try:
            ready = await shaping.ask(hop.link, hop, before, after, need)
        except Blamed as refusal:
            if self.payer is not None and isinstance(refusal.refusal, SessionExists | UnknownSession):
                if not self.payer.anew(hop.peer):
                    raise HopFailed(hop.peer, NodeFault("It neither opens nor resumes the session.")) from refusal
                self.begin_anew()
            raise HopFailed(hop.peer, refusal.refusal, refusal.peer) from refusal
        except (PeerLost, CallTimeout) as error:
            self._routes.failed(hop.peer)
            raise HopFailed(hop.peer, error) from error
        hop.opened = True
        return ready
