"""Tells the grid's authorities how fast its nodes served: in the background, seldom, and only what a report holds.

Nothing here may hold up or fail a generation: what cannot be sent soon is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from pydantic import ValidationError

from gridllm.admission.cards import AuthorityCard, find_authorities
from gridllm.admission.fitness import FITNESS_CALL, Leg, SpeedReport, expected_s, network_s, sign_report
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.document import SignedCharter
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.interface import Swarm
from gridllm_client.pace import Crowd, Pace, Tally
from gridllm_client.routes import PING_CALL

log = logging.getLogger(__name__)

SPACING_S: Final = 5.0  # between reports: authorities read none sooner than after 2 s
MOST_WAITING: Final = 4  # beyond that the oldest is dropped
CARDS_S: Final = 300.0  # authorities are looked up again
TIMEOUT_S: Final = 5.0  # for connecting, and for one call
FAREWELL_S: Final = 1.5  # what is under way when the client leaves gets so long
PINGS: Final = 5  # for each report; the quickest counts: the others met something on their way
NEAR_S: Final = 600.0  # so long a quickest round trip counts: machines and paths move
MOST_KNOWN: Final = 1024  # nodes
UNKNOWN_MS: Final = 60_000.0  # from hop to hop; the way over the client counts instead


class Reporter:
    """One client's reports, under the identity it takes part with."""

    def __init__(
        self,
        swarm: Swarm,
        identity: Identity,
        signed: SignedCharter,
        gate: Gatekeeper,
        rtts_ms: Callable[[], Mapping[PeerId, float]],
        *,
        spacing_s: float = SPACING_S,
        find: Callable[[Swarm, SignedCharter], Awaitable[Sequence[AuthorityCard]]] = find_authorities,
    ) -> None:
        """``rtts_ms`` gives what is known of distances (``LinkPool.rtts_ms``)."""
        self._swarm = swarm
        self._identity = identity
        self._signed = signed
        self._gate = gate
        self._rtts_ms = rtts_ms
        self._spacing_s = spacing_s
        self._find = find
        self._crowd = Crowd()
        self._waiting: deque[tuple[ModelRoot, Tally]] = deque(maxlen=MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._cards: Sequence[AuthorityCard] = ()
        self._read_at = float("-inf")
        self._sent_at = float("-inf")
        self._leaving = asyncio.Event()
        self._nearest: dict[PeerId, tuple[float, float]] = {}  # quickest round trip, and when it was seen; seconds

    def pace(self, model: ModelRoot) -> Pace | None:
        """What counts the steps of one new session; None in an open grid, where nothing is certified."""
        if not self._gate.required:
            return None
        return Pace(self._crowd, lambda tally: self.take(model, tally))

    def take(self, model: ModelRoot, tally: Tally) -> None:
        """Report this soon, if it can be; never waits, never raises."""
        if self._leaving.is_set():
            return
        self._waiting.append((model, tally))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Send what waits, for a moment; then let it be."""
        self._leaving.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FAREWELL_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            pause_s = self._sent_at + self._spacing_s - time.monotonic()
            if pause_s > 0:
                with contextlib.suppress(TimeoutError):  # who leaves pauses no longer: better one unread than none sent
                    await asyncio.wait_for(self._leaving.wait(), pause_s)
            model, tally = self._waiting.popleft()
            try:
                await self._report(model, tally)
            except (GridError, TimeoutError, ValidationError) as error:
                log.debug("The speed of a session was not reported: %s", error)
            except Exception:
                log.exception("Reporting the speed of a session failed")

    async def _report(self, model: ModelRoot, tally: Tally) -> None:
        cards = await self._authorities()
        if not cards:
            return
        raw = sign_report(await self._written(model, tally), self._identity)
        self._sent_at = time.monotonic()
        await asyncio.gather(*(self._send(card, raw) for card in cards))

    async def _authorities(self) -> Sequence[AuthorityCard]:
        if time.monotonic() - self._read_at >= CARDS_S:
            async with asyncio.timeout(TIMEOUT_S):
                self._cards = await self._find(self._swarm, self._signed)
            if self._cards:
                self._read_at = time.monotonic()
        return self._cards

    async def _written(self, model: ModelRoot, tally: Tally) -> SpeedReport:
        """Raises GridError (a node is no longer certified or near), ValidationError (a clock was set meanwhile)."""
        peers = [record.peer for record, _, _ in tally.hops]
        chain = [Leg(peer=record.peer, start=start, end=end) for record, start, end in tally.hops]
        speeds = {}
        for record, _, _ in tally.hops:
            certificate = self._gate.check(record.certificate, record.peer)
            speeds[record.peer] = certificate.figures.decode_blocks_per_s if certificate is not None else 0.0
        rtt_s = dict(zip(peers, await asyncio.gather(*map(self._rtt_s, peers)), strict=True))
        push_s = [a.next_hop_ms.get(b.peer, UNKNOWN_MS) / 1e3 for (a, _, _), (b, _, _) in pairwise(tally.hops)]
        return SpeedReport(
            grid=self._signed.grid,
            client=self._identity.public_key.hex(),
            model=model,
            chain=chain,
            tokens=tally.tokens,
            seconds=tally.seconds,
            expected_s=expected_s(chain, tally.tokens, speeds),
            network_s=network_s(peers, tally.tokens, rtt_s, push_s),
            began=int(tally.began),
            issued=int(tally.ended),
        )

    async def _rtt_s(self, peer: PeerId) -> float:
        """The quickest round trip of late: a slow machine answers pings late, which is not the network's time."""
        found = [self._rtts_ms().get(peer, float("inf")) / 1e3]
        for _ in range(PINGS):
            started = time.perf_counter()
            await self._swarm.call(peer, PING_CALL, b"", timeout_s=TIMEOUT_S)
            found.append(time.perf_counter() - started)
        now_s = time.monotonic()
        known_s, at_s = self._nearest.get(peer, (float("inf"), now_s))
        if min(found) <= known_s or now_s - at_s > NEAR_S:
            known_s, at_s = min(found), now_s
        if len(self._nearest) >= MOST_KNOWN:
            self._nearest.clear()
        self._nearest[peer] = known_s, at_s
        return known_s

    async def _send(self, card: AuthorityCard, raw: bytes) -> None:
        peer = PeerId(card.peer)
        try:
            await self._swarm.connect(peer, tuple(card.addresses), timeout_s=TIMEOUT_S)
            await self._swarm.call(peer, FITNESS_CALL, raw, timeout_s=TIMEOUT_S)
        except GridError as error:
            log.debug("Authority %s took no report: %s", peer, error)
