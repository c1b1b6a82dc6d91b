"""The authority's side of speed reports: what it takes in, and what it refuses by which name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from gridllm.admission.certificate import SKEW_S, Certificate
from gridllm.admission.figures import Figures
from gridllm.admission.fitness import FITNESS_CALL, Leg, SpeedReport, sign_report
from gridllm.errors import ClockSkew, Malformed, NotAdmitted, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.record import NodeRecord
from gridllm_bootstrap.fitness.fitness import Fitness, Suspicion
from gridllm_bootstrap.fitness.reports import DirectoryRoster, SpeedReports
from tests.certificates import certificate, certified, closed_grid, gate_of
from tests.charters import ENTRY

SIGNED = closed_grid()
FAST, SLOW = Identity.ephemeral().peer, Identity.ephemeral().peer
FIGURES = {FAST: 1000.0, SLOW: 10.0}
TOKENS = 20
EXPECTED_S = TOKENS * (5 / 1000 + 3 / 10)


class FixedRoster:
    """Both nodes hold certificates."""

    async def certificates(self, model: ModelRoot) -> Mapping[PeerId, Certificate]:
        return {
            peer: certificate(SIGNED, peer, figures=Figures(decode_blocks_per_s=speed))
            for peer, speed in FIGURES.items()
        }


class Desk:
    """An authority's desk for reports, with a clock that the test sets."""

    def __init__(self, **changes: Any) -> None:
        self.now = time.time()
        self.set_back = 0.0  # the wall clock, seconds
        self.fitness = Fitness(**changes)
        self.suspects: list[Suspicion] = []
        self.places: dict[PeerId, tuple[str, ...]] = {}
        self.reports = SpeedReports(
            SIGNED,
            self.fitness,
            FixedRoster(),
            lambda one, _: self.suspects.append(one),
            self.seen_at,
            clock=lambda: self.now - self.set_back,
            elapsed=lambda: self.now,
        )

    async def seen_at(self, peer: PeerId) -> tuple[str, ...]:
        return self.places.get(peer, ("/ip4/127.0.0.1/tcp/9",))

    def report(self, client: Identity, seconds: float = 10.0, **changes: Any) -> bytes:
        fields = {
            "grid": SIGNED.grid,
            "client": client.public_key.hex(),
            "model": ENTRY.root,
            "chain": [Leg(peer=FAST, start=0, end=5), Leg(peer=SLOW, start=5, end=8)],
            "tokens": TOKENS,
            "seconds": seconds,
            "expected_s": EXPECTED_S,
            "network_s": 0.0,
            "began": int(self.now) - 30,
            "issued": int(self.now),
        }
        return sign_report(SpeedReport.model_validate(fields | changes), client)

    async def hand_in(self, client: Identity, **changes: Any) -> None:
        self.now += 40  # later than the last session ended
        await self.reports.answer(client.peer, self.report(client, **changes))


async def test_slow_sessions_of_five_clients_make_every_node_of_their_chain_suspect() -> None:
    desk = Desk(least_sessions=10)
    clients = [Identity.ephemeral() for _ in range(5)]
    for i in range(10):
        assert not desk.suspects
        await desk.hand_in(clients[i % 5], seconds=4 * EXPECTED_S)
    assert {one.peer for one in desk.suspects} == {FAST, SLOW}
    assert all(one.ratio == pytest.approx(0.25) for one in desk.suspects)
    for i in range(20):  # told once an hour
        await desk.hand_in(clients[i % 5], seconds=4 * EXPECTED_S)
    assert len(desk.suspects) == 2


async def test_any_number_of_clients_at_one_address_are_one_voice() -> None:
    desk = Desk(least_sessions=5)
    clients = [Identity.ephemeral() for _ in range(40)]
    for number, client in enumerate(clients):
        more = (f"/ip6/2001:db8:0:{number:x}::1/tcp/9",) if number % 2 else ()  # within one household's prefix
        desk.places[client.peer] = (f"/ip4/203.0.113.7/tcp/{1024 + number}", *more)
        await desk.hand_in(client, seconds=4 * EXPECTED_S)
    assert not desk.suspects
    for number in range(4):
        client = Identity.ephemeral()
        desk.places[client.peer] = (f"/ip4/203.0.113.{8 + number}/tcp/9",)
        await desk.hand_in(client, seconds=4 * EXPECTED_S)
    assert {one.clients for one in desk.suspects} == {5}


async def test_a_report_from_nowhere_does_not_count() -> None:
    desk, client = Desk(), Identity.ephemeral()
    desk.places[client.peer] = ()
    with pytest.raises(NotAdmitted, match="has left"):
        await desk.hand_in(client)
    assert len(desk.fitness) == 0


async def test_a_client_that_expects_too_much_changes_nothing() -> None:
    desk = Desk(least_sessions=5)
    for client in [Identity.ephemeral() for _ in range(5)]:
        await desk.hand_in(client, seconds=1.2 * EXPECTED_S, expected_s=0.01)
    assert not desk.suspects
    assert len(desk.fitness) == 10


async def test_a_report_counts_once() -> None:
    desk, client = Desk(), Identity.ephemeral()
    raw = desk.report(client)
    await desk.reports.answer(client.peer, raw)
    desk.now += 20
    with pytest.raises(Malformed, match="handed in before"):
        await desk.reports.answer(client.peer, raw)
    again = raw.replace(b'{"payload"', b'{ "payload"')  # the same words in another wrapping
    desk.now += 20
    assert again != raw
    with pytest.raises(Malformed, match="handed in before"):
        await desk.reports.answer(client.peer, again)
    assert len(desk.fitness) == 2


async def test_what_is_not_ones_own_or_not_of_this_grid_is_refused() -> None:
    desk, client, thief = Desk(), Identity.ephemeral(), Identity.ephemeral()
    with pytest.raises(Malformed):
        await desk.reports.answer(thief.peer, desk.report(client))
    desk.now += 20
    for raw in (desk.report(client, grid="ef" * 32), b"", b"\x00" * 50, b"{}"):
        desk.now += 20
        with pytest.raises(Malformed):
            await desk.reports.answer(client.peer, raw)
    assert len(desk.fitness) == 0


@pytest.mark.parametrize("off_s", [-SKEW_S - 5, SKEW_S + 5])
async def test_stale_reports_and_wrong_clocks_are_refused(off_s: int) -> None:
    desk, client = Desk(), Identity.ephemeral()
    issued = int(desk.now) + off_s
    with pytest.raises(ClockSkew):
        await desk.reports.answer(client.peer, desk.report(client, issued=issued, began=issued - 30))


async def test_chains_of_strangers_or_of_another_shape_are_refused() -> None:
    desk, client = Desk(), Identity.ephemeral()
    stranger = Identity.ephemeral().peer
    with pytest.raises(NotAdmitted, match=stranger):
        await desk.hand_in(client, chain=[Leg(peer=FAST, start=0, end=5), Leg(peer=stranger, start=5, end=8)])
    with pytest.raises(Malformed, match="whole model"):
        await desk.hand_in(client, chain=[Leg(peer=FAST, start=0, end=5)])
    with pytest.raises(Malformed, match="whole model"):
        await desk.hand_in(client, model="ef" * 32)
    assert len(desk.fitness) == 0


async def test_one_client_cannot_flood_the_desk() -> None:
    desk, client = Desk(), Identity.ephemeral()
    await desk.reports.answer(client.peer, desk.report(client))
    with pytest.raises(TooSoon):
        await desk.reports.answer(client.peer, desk.report(client, tokens=21))
    with pytest.raises(TooSoon):  # before anything is parsed
        await desk.reports.answer(client.peer, b"garbage")


async def test_a_clock_that_is_set_back_makes_nobody_too_soon() -> None:
    desk, client = Desk(), Identity.ephemeral()
    await desk.hand_in(client)
    desk.set_back = 7200.0
    at = int(desk.now - desk.set_back) + 40
    await desk.hand_in(client, began=at - 30, issued=at)
    assert len(desk.fitness) == 4


async def test_many_clients_together_cannot_flood_the_desk() -> None:
    desk = Desk()
    refused = 0
    for _ in range(300):
        try:
            await desk.reports.answer(Identity.ephemeral().peer, b"garbage")
        except TooSoon:
            refused += 1
        except Malformed:
            continue
    assert refused == 100
    desk.now += 1
    with pytest.raises(Malformed):
        await desk.reports.answer(Identity.ephemeral().peer, b"garbage")


async def test_refusals_reach_the_client_by_name() -> None:
    network, desk = MemoryNetwork(), Desk()
    authority, client = Identity.ephemeral(), Identity.ephemeral()
    serving, asking = network.join(authority), network.join(client)
    await desk.reports.serve(serving)
    assert await asking.call(serving.peer, FITNESS_CALL, desk.report(client)) == b""
    with pytest.raises(TooSoon):
        await asking.call(serving.peer, FITNESS_CALL, desk.report(client))


class Listed:
    """A directory that counts how often it is read."""

    def __init__(self, *records: NodeRecord) -> None:
        self.records = list(records)
        self.looks = 0

    async def nodes(self, model: ModelRoot) -> list[NodeRecord]:
        self.looks += 1
        return self.records


def record(peer: PeerId, certificate: bytes) -> NodeRecord:
    return NodeRecord(
        peer=peer,
        version="0",
        model=ModelRoot(ENTRY.root),
        start=0,
        end=8,
        state="serving",
        dtype="float32",
        blocks_per_s=1.0,
        free_tokens=0,
        total_tokens=0,
        next_hop_ms={},
        addresses=[],
        since=0.0,
        certificate=certificate,
    )


async def test_the_roster_holds_who_is_certified_and_reads_the_directory_seldom() -> None:
    listed = Listed(record(FAST, certified(SIGNED, FAST)), record(SLOW, b""))
    now = 0.0
    roster = DirectoryRoster(listed, gate_of(SIGNED).check, clock=lambda: now)
    for _ in range(5):
        assert list(await roster.certificates(ModelRoot(ENTRY.root))) == [FAST]
    assert listed.looks == 1
    now = 11.0
    await roster.certificates(ModelRoot(ENTRY.root))
    assert listed.looks == 2
