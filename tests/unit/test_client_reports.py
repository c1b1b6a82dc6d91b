"""What a client counts of its sessions, and what it tells the authorities of it, or nobody."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.admission.cards import AuthorityCard, publish_card
from gridllm.admission.figures import Figures
from gridllm.admission.fitness import FITNESS_CALL, LEAST_TOKENS, SpeedReport, verify_report
from gridllm.charter.document import SignedCharter
from gridllm.errors import TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.record import NodeRecord
from gridllm_client.pace import PIECE_S, Crowd, Pace, Tally
from gridllm_client.reports import MOST_WAITING, Reporter
from gridllm_client.routes import PING_CALL
from tests.certificates import certified, closed_grid, gate_of
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.unit.notes import until

SIGNED = closed_grid()
ROOT = ModelRoot(ENTRY.root)


def record(peer: PeerId, start: int, end: int, **changes: Any) -> NodeRecord:
    fields: dict[str, Any] = {
        "peer": peer,
        "version": "0",
        "model": ROOT,
        "start": start,
        "end": end,
        "state": "serving",
        "dtype": "float32",
        "blocks_per_s": 1.0,
        "free_tokens": 0,
        "total_tokens": 0,
        "next_hop_ms": {},
        "addresses": [],
        "since": 0.0,
        "certificate": certified(SIGNED, peer, figures=Figures(decode_blocks_per_s=100.0)),
    }
    return NodeRecord(**(fields | changes))


@dataclass
class Place:
    record: NodeRecord
    start: int
    end: int


A, B = Identity.ephemeral(), Identity.ephemeral()
HOPS = [Place(record(A.peer, 0, 5), 0, 5), Place(record(B.peer, 5, 8), 5, 8)]


def counted(crowd: Crowd | None = None) -> tuple[Pace, list[Tally]]:
    tallies: list[Tally] = []
    return Pace(crowd or Crowd(), tallies.append, clock=lambda: 1000.0), tallies


def test_a_session_is_told_once_when_it_ends() -> None:
    pace, tallies = counted()
    pace.begin()
    for _ in range(20):
        pace.step(1, HOPS, 0.1)
    assert tallies == []
    pace.end()
    pace.end()
    (tally,) = tallies
    assert (tally.tokens, tally.seconds) == (20, pytest.approx(2.0))
    assert [(r.peer, s, e) for r, s, e in tally.hops] == [(A.peer, 0, 5), (B.peer, 5, 8)]


def test_too_few_steps_are_not_worth_a_word() -> None:
    pace, tallies = counted()
    for _ in range(LEAST_TOKENS - 1):
        pace.step(1, HOPS, 0.1)
    pace.end()
    assert tallies == []


def test_a_repaired_chain_is_another_chain() -> None:
    pace, tallies = counted()
    for epoch, steps in ((1, 16), (2, 3), (3, 17)):
        for _ in range(steps):
            pace.step(epoch, HOPS[:epoch], 0.1)
    pace.end()
    assert [(tally.tokens, len(tally.hops)) for tally in tallies] == [(16, 1), (17, 2)]


def test_a_long_session_is_told_in_pieces() -> None:
    pace, tallies = counted()
    for _ in range(200):
        pace.step(1, HOPS, 1.0)
    pace.end()
    assert [tally.tokens for tally in tallies] == [60, 60, 60, 20]
    assert all(tally.seconds <= PIECE_S for tally in tallies)


def test_steps_beside_another_session_of_ones_own_do_not_count() -> None:
    crowd = Crowd()
    pace, tallies = counted(crowd)
    other, _ = counted(crowd)
    for _ in range(16):
        pace.step(1, HOPS, 0.1)
    other.begin()
    for _ in range(50):
        pace.step(1, HOPS, 9.0)
    other.end()
    pace.end()
    assert [(tally.tokens, tally.seconds) for tally in tallies] == [(16, pytest.approx(1.6))]
    assert crowd.sessions == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30))))
def test_no_step_is_told_twice(steps: list[tuple[int, float]]) -> None:
    pace, tallies = counted()
    for epoch, seconds in steps:
        pace.step(epoch, HOPS, seconds)
    pace.end()
    assert sum(tally.tokens for tally in tallies) <= len(steps)
    assert all(tally.tokens >= LEAST_TOKENS for tally in tallies)


class Town:
    """Two nodes that answer pings, one authority that keeps what it is told, and a client."""

    def __init__(self, signed: SignedCharter = SIGNED, **changes: Any) -> None:
        self.network = MemoryNetwork(latency_s=0.002)
        self.nodes = [self.network.join(A), self.network.join(B)]
        self.authority = self.network.join(Identity.ephemeral())
        self.identity = Identity.ephemeral()
        self.client: MemorySwarm = self.network.join(self.identity)
        self.told: list[SpeedReport] = []
        self.sent_at: list[float] = []  # of these; seconds, monotonic
        self.pings = 0
        self.looks = 0
        self.refusing = False
        self.signed = signed
        options: dict[str, Any] = {"spacing_s": 0.0, "rtts_ms": dict} | changes
        rtts = options.pop("rtts_ms")
        self.reporter = Reporter(self.client, self.identity, signed, gate_of(signed), rtts, find=self.find, **options)

    async def open(self) -> Town:
        for node in self.nodes:
            await node.serve_calls(PING_CALL, self.ping)
        await self.authority.serve_calls(FITNESS_CALL, self.hear)
        return self

    async def find(self, swarm: Any, signed: SignedCharter) -> Sequence[AuthorityCard]:
        self.looks += 1
        now = int(time.time())
        return [
            AuthorityCard(
                grid=signed.grid,
                maintainer=MAINTAINERS[0].public_key.hex(),
                peer=self.authority.peer,
                addresses=list(self.authority.addresses),
                issued=now,
                expires=now + 900,
            )
        ]

    async def ping(self, peer: PeerId, payload: bytes) -> bytes:
        self.pings += 1
        return b""

    async def hear(self, peer: PeerId, payload: bytes) -> bytes:
        self.told.append(verify_report(payload, self.signed.grid, peer))
        self.sent_at.append(self.reporter._sent_at)
        if self.refusing:
            raise TooSoon("Enough.")
        return b""


def tally(tokens: int = 20, seconds: float = 4.0, **changes: Any) -> Tally:
    now = time.time()
    hops = tuple((place.record, place.start, place.end) for place in HOPS)
    fields: dict[str, Any] = {"hops": hops, "tokens": tokens, "seconds": seconds, "began": now - 10, "ended": now}
    return Tally(**(fields | changes))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The farewell has all the time that a slow machine takes for it."""
    monkeypatch.setattr("gridllm_client.reports.FAREWELL_S", 60.0)


async def test_a_report_says_who_served_how_much_and_how_long() -> None:
    town = await Town().open()
    town.reporter.take(ROOT, tally())
    await until(lambda: bool(town.told))
    (report,) = town.told
    assert [(leg.peer, leg.start, leg.end) for leg in report.chain] == [(A.peer, 0, 5), (B.peer, 5, 8)]
    assert (report.tokens, report.seconds, report.model) == (20, 4.0, ENTRY.root)
    assert report.client == town.identity.public_key.hex()
    assert report.expected_s == pytest.approx(20 * 8 / 100.0)
    assert report.network_s >= 20 * 0.004  # pinged: there was no link whose heartbeats could tell
    assert town.pings > 0
    await town.reporter.close()


async def test_the_quickest_round_trip_counts() -> None:
    town = await Town(rtts_ms=lambda: {A.peer: 1.0, B.peer: 3.0}).open()  # pings take 4 ms here
    town.reporter.take(ROOT, tally())
    await until(lambda: len(town.told) == 1)
    near_s = 20 * (0.004 + 3 * 0.0007)
    assert town.told[0].network_s == pytest.approx(near_s)
    town.reporter._rtts_ms = dict
    town.network.latency_s = 0.02  # the node is busy, and answers late: that is not the network's time
    town.reporter.take(ROOT, tally(tokens=20, seconds=5.0))
    await until(lambda: len(town.told) == 2)
    assert town.told[1].network_s == pytest.approx(near_s)
    await town.reporter.close()


async def test_reports_are_spaced_and_what_waits_is_bounded() -> None:
    town = await Town(spacing_s=1.0).open()
    for _ in range(100):
        town.reporter.take(ROOT, tally())
    assert len(town.reporter._waiting) == MOST_WAITING
    await until(lambda: len(town.told) >= 2)
    first, second = town.sent_at[:2]
    assert second - first > 0.99
    await town.reporter.close()
    assert town.looks == 1


async def test_leaving_with_much_to_say_takes_but_a_moment(patient: None) -> None:
    town = await Town(spacing_s=1e6).open()
    for _ in range(100):
        town.reporter.take(ROOT, tally())
    await town.reporter.close()  # not one by one
    assert len(town.told) == MOST_WAITING


async def test_nothing_goes_wrong_when_nobody_listens_or_all_refuse() -> None:
    town = await Town().open()
    town.refusing = True
    town.reporter.take(ROOT, tally())
    await until(lambda: bool(town.told))
    town.network.kill(town.authority.peer)
    town.reporter.take(ROOT, tally())
    town.reporter.take(ROOT, tally(began=time.time() + 1e6))  # a clock was set back meanwhile
    town.network.kill(A.peer)
    town.reporter.take(ROOT, tally())
    await asyncio.sleep(0.2)
    town.reporter.take(ROOT, tally())
    await town.reporter.close()
    town.reporter.take(ROOT, tally())  # after the end
    assert len(town.told) == 1


async def test_leaving_waits_but_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridllm_client.reports.FAREWELL_S", 0.2)
    town = await Town().open()
    town.network.freeze(town.authority.peer)
    town.reporter.take(ROOT, tally())
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await town.reporter.close()
    assert 0.1 < time.monotonic() - started < 60


async def test_leaving_sends_what_was_just_counted(patient: None) -> None:
    town = await Town().open()
    town.reporter.take(ROOT, tally())
    await town.reporter.close()
    assert len(town.told) == 1


async def test_leaving_sends_what_waits_for_its_turn(patient: None) -> None:
    town = await Town(spacing_s=1e6).open()
    town.reporter.take(ROOT, tally())
    await until(lambda: len(town.told) == 1)
    town.reporter.take(ROOT, tally())
    await asyncio.sleep(0.05)
    assert len(town.told) == 1
    await town.reporter.close()
    assert len(town.told) == 2


async def test_an_open_grid_counts_nothing() -> None:
    from gridllm.charter.document import sign_charter

    town = await Town(sign_charter(charter(), MAINTAINERS[:2])).open()
    assert town.reporter.pace(ROOT) is None
    closed = await Town().open()
    assert isinstance(closed.reporter.pace(ROOT), Pace)


async def test_authorities_are_found_by_their_cards() -> None:
    town = await Town().open()
    reporter = Reporter(town.client, town.identity, SIGNED, gate_of(SIGNED), lambda: {A.peer: 1.0, B.peer: 1.0})
    reporter.take(ROOT, tally())  # no card yet: dropped
    await until(lambda: reporter._task is not None and reporter._task.done())
    await publish_card(town.authority, SIGNED.grid, MAINTAINERS[0])
    reporter.take(ROOT, tally())
    await until(lambda: bool(town.told))
    with contextlib.suppress(TimeoutError):
        await reporter.close()
    assert len(town.told) == 1
