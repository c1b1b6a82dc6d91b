"""Keepers that tell two histories are caught, whoever is shown which."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.identity.keys import Identity
from gridllm.ledger.audit.examine import Audit
from gridllm.ledger.audit.faults import Wrong
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.evidence import verify_equivocation
from gridllm.ledger.log.heads import Head, sign_head, verify_head
from gridllm.ledger.messages import Heads
from tests.charters import ENTRY, MAINTAINERS
from tests.ledgers import BLOCKS, Scribe, hex_of, paid_grid
from tests.unit.keeper_stations import Station, Stations, grants, hurry, stations, until

A, B, C = MAINTAINERS
TWO = paid_grid(keepers=(hex_of(A), hex_of(B)))
THREE = paid_grid()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def forked(grid: Stations, scribe: Scribe, common: int, one: int, other: int) -> tuple[Station, Station]:
    """The first keeper twice: after ``common`` entries each goes on by itself. Both are off line."""
    a = grid.stations[0]
    await a.take(*grants(scribe, common))
    await a.stop()
    twin = grid.another(a.maintainer, "twin")
    twin.path.write_bytes(a.path.read_bytes())
    for station, count in ((a, one), (twin, other)):
        await station.start()
        await station.mirror.__aexit__(None, None, None)  # the two do not ask each other's friends
        await station.take(*grants(scribe, count))
        await station.stop()
    return a, twin


async def start_mute(station: Station) -> None:
    """It answers, and asks nobody: it knows what it did."""
    await station.start()
    await station.mirror.__aexit__(None, None, None)


def check_convicted(station: Station, liar: str) -> None:
    """It is named, by evidence that any stranger can verify with the charter alone."""
    signed = station.grid.signed
    assert [one.keeper for one in station.told if one.kind == "two_histories"] == [liar]
    (named,) = [one.text for one in station.told if one.kind == "two_histories"]
    assert f"The keeper {liar[:16]}… showed two histories" in named
    (raw,) = station.store.evidence()
    assert verify_equivocation(raw, signed).keeper == liar


@pytest.mark.parametrize(("one", "other"), [(3, 3), (2, 5)], ids=["one size", "two sizes"])
async def test_a_fork_shown_to_two_keepers_is_found_when_they_compare(tmp_path: Path, one: int, other: int) -> None:
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C) as grid:
        _, b, c = grid.stations
        await b.stop()
        await c.stop()
        a, twin = await forked(grid, scribe, 4, one, other)
        b.finds = {c.name: b}
        c.finds = {a.name: twin, b.name: c}
        for station in (b, c):
            await station.start()
        await start_mute(a)
        await start_mute(twin)
        await until(lambda: b.store.sizes().get(a.name) == 4 + one and c.store.sizes().get(a.name) == 4 + other)
        assert not b.told and not c.told
        b.finds, c.finds = {}, {a.name: twin}
        await until(lambda: bool(b.told and c.told and b.store.evidence() and c.store.evidence()))
        check_convicted(b, a.name)
        check_convicted(c, a.name)
        await a.take(*grants(scribe, 2))  # does not count any more
        await b.take(*grants(scribe, 1))  # everything else goes on
        await until(lambda: c.store.sizes().get(b.name) == 1)
        assert b.store.sizes()[a.name] == 4 + one


@pytest.mark.parametrize("common", [1, 4, 5, 7])
async def test_a_keeper_that_goes_on_otherwise_is_convicted_by_its_own_proof(tmp_path: Path, common: int) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        _, b = grid.stations
        await b.stop()
        a, twin = await forked(grid, scribe, common - 1, 1, 9)
        await start_mute(a)
        await b.start()
        await until(lambda: b.store.sizes().get(a.name) == common)
        await a.stop()
        b.finds = {a.name: twin}
        await start_mute(twin)
        await until(lambda: bool(b.store.evidence()))
        check_convicted(b, a.name)
        assert b.store.sizes()[a.name] == common
        await b.stop()  # and it is not forgotten
        b.told.clear()
        await b.start()
        check_convicted(b, a.name)


async def test_a_shorter_log_that_is_another(tmp_path: Path) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        _, b = grid.stations
        await b.stop()
        a, twin = await forked(grid, scribe, 3, 6, 2)
        await start_mute(a)
        await b.start()
        await until(lambda: b.store.sizes().get(a.name) == 9)
        await a.stop()
        b.finds = {a.name: twin}
        await start_mute(twin)
        await until(lambda: bool(b.store.evidence()))
        check_convicted(b, a.name)


@pytest.mark.parametrize("size", [4, 7], ids=["held", "not reached yet"])
async def test_a_head_that_an_auditor_brings(tmp_path: Path, size: int) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await a.take(*grants(scribe, 5))
        await until(lambda: b.store.sizes().get(a.name) == 5)
        raw = a.store.head(a.name)
        assert raw is not None
        head = verify_head(raw, TWO)
        other = sign_head(head.model_copy(update={"size": size, "root": "ab" * 32}), A)
        stranger = grid.network.join(Identity.ephemeral())
        auditor = Keepers(stranger, TWO, find=a._find)
        await auditor.heads(b.name, Heads([b"nonsense", other], [b"nonsense"]))
        await a.take(*grants(scribe, 5))
        await until(lambda: bool(b.store.evidence()))
        check_convicted(b, a.name)
        said = await auditor.heads(b.name)
        assert said.evidence == b.store.evidence()
        await stranger.close()


async def test_an_audit_hands_on_what_it_finds(tmp_path: Path) -> None:
    """Somebody was shown another history a while ago, and kept its head."""
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await a.take(*grants(scribe, 5))
        await until(lambda: b.store.sizes().get(a.name) == 5 and b.store.head(a.name) is not None)
        head = verify_head(b.store.head(a.name) or b"", TWO)
        kept = sign_head(head.model_copy(update={"size": 3, "root": "ab" * 32}), A)
        stranger = grid.network.join(Identity.ephemeral())
        auditor = Keepers(stranger, TWO, find=a._find)
        with pytest.raises(Wrong, match="shows two histories"):
            await Audit(auditor, TWO, {ENTRY.root: BLOCKS}, holders=[b.name], known={a.name: kept}, workers=0).run()
        await until(lambda: bool(b.store.evidence()))
        check_convicted(b, a.name)
        await stranger.close()


async def test_two_heads_that_nobody_can_have_reached(tmp_path: Path) -> None:
    """Two of one size convict at once, however far ahead they are."""
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        await until(lambda: b.store.head(a.name) is not None)  # of an empty log
        raw = b.store.head(a.name)
        assert raw is not None
        said = verify_head(raw, TWO).model_dump() | {"size": 1000}
        far = [sign_head(Head(**said | {"root": root * 32}), A) for root in ("ab", "cd")]
        await b.mirror.hear(Heads([far[0]]))
        assert not b.told
        await b.mirror.hear(Heads([far[1]]))
        check_convicted(b, a.name)


async def test_evidence_is_handed_on(tmp_path: Path) -> None:
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C) as grid:
        a, b, c = grid.stations
        await a.take(*grants(scribe, 2))
        await until(lambda: b.store.sizes().get(a.name) == c.store.sizes().get(a.name) == 2)
        raw = b.store.head(a.name)
        assert raw is not None
        other = sign_head(verify_head(raw, THREE).model_copy(update={"root": "ab" * 32}), A)
        await b.mirror.hear(Heads([other]))
        await until(lambda: bool(c.store.evidence()))
        check_convicted(b, a.name)
        check_convicted(c, a.name)
        assert b.store.evidence() == c.store.evidence()
        await until(lambda: "two_histories" in a.kinds())  # its maintainer learns it, too
