"""Clients' speed reports as they come in: checked, weighed against the nodes' certificates, and counted."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

from gridllm.admission.certificate import SKEW_S, Certificate
from gridllm.admission.fitness import FITNESS_CALL, SpeedReport, expected_s, ratio, verify_report
from gridllm.charter.document import SignedCharter
from gridllm.errors import AdmissionError, CertificateError, ClockSkew, GridError, Malformed, NotAdmitted, TooSoon
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.interface import Swarm
from gridllm.swarm.places import places_of
from gridllm.wire.record import NodeRecord
from gridllm_bootstrap.fitness.fitness import Fitness, Reading, Suspicion

log = logging.getLogger(__name__)

SPACING_S: Final = 2.0  # between two reports of one client; ours send none sooner than after 5 s
PER_SECOND: Final = 20.0  # of all clients: verifying one takes about a millisecond
BURST: Final = 200.0
REMEMBERED: Final = 8192  # clients, and reports, that were heard lately
LOOK_EVERY_S: Final = 10.0  # into the directory, for the certificates of nodes


class Roster(Protocol):
    """Who is certified at what."""

    async def certificates(self, model: ModelRoot) -> Mapping[PeerId, Certificate]:
        """The certificates of the nodes that serve ``model``, by node; verified."""
        ...


class Nodes(Protocol):
    """The part of ``swarm.directory.Directory`` that a roster is read from."""

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        """Records of the admitted nodes that announce ``model``."""
        ...


class DirectoryRoster:
    """``Roster`` from the grid's directory, read at most every ``LOOK_EVERY_S``."""

    def __init__(
        self,
        directory: Nodes,
        check: Callable[[bytes, PeerId], Certificate | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``check`` verifies a certificate (``Gatekeeper.check``)."""
        self._directory = directory
        self._check = check
        self._clock = clock
        self._known: dict[ModelRoot, tuple[float, dict[PeerId, Certificate]]] = {}

    async def certificates(self, model: ModelRoot) -> Mapping[PeerId, Certificate]:
        """See ``Roster``. Raises SwarmError when the directory does not answer."""
        read_at, found = self._known.get(model, (float("-inf"), {}))
        if self._clock() - read_at >= LOOK_EVERY_S:
            self._known[model] = self._clock(), found  # others that ask meanwhile make do with what is known
            found = dict(self._verified(await self._directory.nodes(model)))
            self._known[model] = self._clock(), found
        return found

    def _verified(self, records: Iterable[NodeRecord]) -> Iterable[tuple[PeerId, Certificate]]:
        for record in records:
            try:
                certificate = self._check(record.certificate, record.peer)
            except CertificateError:
                continue
            if certificate is not None:
                yield record.peer, certificate


class SpeedReports:
    """Answers ``FITNESS_CALL``: what is believable goes into the fold, and whom it makes suspect is told."""

    def __init__(
        self,
        signed: SignedCharter,
        fitness: Fitness,
        roster: Roster,
        suspect: Callable[[Suspicion, Certificate], None],
        seen_at: Callable[[PeerId], Awaitable[tuple[str, ...]]],
        *,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
        spacing_s: float = SPACING_S,
        blocks: Callable[[str], int | None] | None = None,
    ) -> None:
        """
        Args:
            blocks: how many a model of the grid has, by its root; None: as the charter says.
            suspect: called at once, and not again for an hour, when a node has become one.
            clock: Unix time, for what reports say.
            elapsed: for how often they come: a clock that is set back must not make all of them too soon.
            seen_at: the addresses a peer is connected from (``Swarm.seen_at``).
        """
        self._signed = signed
        self._blocks = blocks or {entry.root: entry.blocks for entry in signed.charter.models}.get
        self._fitness = fitness
        self._roster = roster
        self._suspect = suspect
        self._seen_at = seen_at
        self._clock = clock
        self._elapsed = elapsed
        self._spacing_s = spacing_s
        self._heard_at: OrderedDict[PeerId, float] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._allowance, self._counted_at = BURST, elapsed()

    async def serve(self, swarm: Swarm) -> None:
        """Answer from now on."""
        await swarm.serve_calls(FITNESS_CALL, self.answer)

    async def answer(self, caller: PeerId, payload: bytes) -> bytes:
        """Take one report in.

        Raises:
            TooSoon: the client, or all of them together, report more often than is read.
            Malformed: no report, forged, another's, of another grid, or handed in before.
            ClockSkew: its time is not ours.
            NotAdmitted: its chain is none of certified nodes; or its client has left.
        """
        self._limit(caller)
        try:
            report = verify_report(payload, self._signed.grid, caller)
        except AdmissionError as error:
            raise Malformed(str(error)) from error
        await self._take(report, await self._voice_of(caller))
        return b""

    async def _voice_of(self, client: PeerId) -> str:
        """Whose word it is. Keys cost nothing, so all clients at one address speak as one.

        Raises:
            NotAdmitted: it is not seen connected, so nobody knows.
        """
        try:
            addresses = await self._seen_at(client)
        except GridError:
            addresses = ()
        if not addresses:
            raise NotAdmitted("This authority cannot see where the report comes from: the client has left.")
        # One of its places, so that there are no more voices than places; on this machine each has its own.
        return min(places_of(addresses), default=client)

    async def _take(self, report: SpeedReport, voice: str) -> None:
        now_s = self._clock()
        if abs(report.issued - now_s) > SKEW_S:
            raise ClockSkew(
                f"The report's time differs from ours by {abs(report.issued - now_s):.0f} s; set the clock."
            )
        _once(self._seen, hashlib.sha256(report.model_dump_json().encode()).digest())
        model = ModelRoot(report.model)
        if self._blocks(model) != report.blocks:
            raise Malformed("The chain is not one over a whole model of this grid.")
        try:
            known = await self._roster.certificates(model)
            speeds = {peer: certificate.figures.decode_blocks_per_s for peer, certificate in known.items()}
            # Our own reckoning: the client may know older certificates, or none.
            expected = expected_s(report.chain, report.tokens, speeds)
        except GridError as error:
            raise NotAdmitted(f"The report's chain is not one of certified nodes: {error}") from error
        served = ratio(report.seconds, expected, report.network_s)
        reading = Reading(now_s - max(report.issued - report.began, report.seconds), now_s, served)
        for leg in report.chain:
            peer = PeerId(leg.peer)
            self._fitness.add(peer, voice, reading, known[peer].figures)
            suspicion = self._fitness.judge(peer, now_s)
            if suspicion is not None:
                self._fitness.measured(peer, now_s)  # it will be: nothing more is held against it meanwhile
                self._suspect(suspicion, known[peer])

    def _limit(self, caller: PeerId) -> None:
        now_s = self._elapsed()
        if now_s - self._heard_at.get(caller, float("-inf")) < self._spacing_s:
            raise TooSoon(f"One speed report in {self._spacing_s:.0f} s is enough; send fewer.")
        self._allowance = min(BURST, self._allowance + (now_s - self._counted_at) * PER_SECOND)
        self._counted_at = now_s
        if self._allowance < 1:
            raise TooSoon("This authority has more speed reports than it reads; send fewer.")
        self._allowance -= 1
        self._heard_at[caller] = now_s
        self._heard_at.move_to_end(caller)
        if len(self._heard_at) > REMEMBERED:
            self._heard_at.popitem(last=False)


def _once(seen: OrderedDict[bytes, None], digest: bytes) -> None:
    """Note a report. Raises Malformed when it was noted before."""
    if digest in seen:
        raise Malformed("This speed report was handed in before; it counts once.")
    seen[digest] = None
    if len(seen) > REMEMBERED:
        seen.popitem(last=False)
