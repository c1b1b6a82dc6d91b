"""Entries that must not stand in a log, and entries that nobody signed: who is named, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.log.heads import cosigners, verify_head
from gridllm.ledger.paper import Entry
from gridllm_bootstrap.keeping import copying, mirroring
from tests.charters import MAINTAINERS
from tests.ledgers import Scribe, hex_of, homed, paid_grid
from tests.unit.keeper_stations import grants, hurry, stations, until

A, B, C = MAINTAINERS
TWO = paid_grid(keepers=(hex_of(A), hex_of(B)))
THREE = paid_grid()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def strangers(scribe: Scribe) -> Entry:
    """Of an account that another keeper keeps."""
    return scribe.voucher(homed(scribe.signed, hex_of(B)), Identity.ephemeral(), decode=5)


def too_cheap(scribe: Scribe) -> Entry:
    return scribe.voucher(homed(scribe.signed, hex_of(A)), Identity.ephemeral(), decode=5, micro=1)


def forged(scribe: Scribe) -> Entry:
    sound, other = (scribe.grant(Identity.ephemeral(), micro) for micro in (5, 6))
    return sound._replace(raw=sound.raw.replace(sound.raw[-90:], other.raw[-90:]))


@pytest.mark.parametrize("bad", [strangers, too_cheap, forged])
@pytest.mark.parametrize("through", ["itself", "another"])
async def test_an_invalid_entry(tmp_path: Path, bad: Callable[[Scribe], Entry], through: str) -> None:
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C) as grid:
        a, b, c = grid.stations
        if through == "another":
            await b.cut_off_from(a)
        await a.take(*grants(scribe, 3))
        await until(lambda: c.store.sizes().get(a.name) == 3)
        await a.keeper.write(a.name, lambda batch: batch.mirror([bad(scribe)]))
        if through == "another":  # a keeper that does not check
            c.grid.rules = c.keeper.clerk.rulebook = Credulous(scribe.rules)  # type: ignore[assignment]
        await a.take(*grants(scribe, 3))
        await until(lambda: b.kinds() == ["invalid_entry"])
        (told,) = b.told
        assert told.keeper == a.name
        assert f"The keeper {a.name[:16]}… has an entry in its log that must not stand there, 3: " in told.text
        await b.take(*grants(scribe, 1))
        await c.take(*grants(scribe, 1))
        await until(lambda: b.store.sizes().get(c.name) == c.store.sizes().get(b.name) == 1)
        assert b.store.sizes()[a.name] == 3  # refused from that entry on
        raw = b.store.head(a.name)
        assert raw is None or verify_head(raw, THREE).size <= 3


class Credulous:
    """A rulebook that takes anything."""

    def __init__(self, rules: object) -> None:
        self._rules = rules

    def __getattr__(self, name: str) -> object:
        return getattr(self._rules, name)

    def read(self, raw: bytes, log: str | None = None) -> Entry:
        try:
            found = self._rules.read(raw, log)  # type: ignore[attr-defined]
        except LedgerError:
            found = Scribe(THREE).grant(Identity.ephemeral(), 1)._replace(raw=raw)
        assert isinstance(found, Entry)
        return found


@pytest.mark.parametrize("stretch", [3, 2048])
async def test_a_holder_that_alters_entries_accuses_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(copying, "STRETCH_ENTRIES", stretch)
    monkeypatch.setattr(mirroring, "LONGEST_DISTRUST_S", 0.05)
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C) as grid:
        a, b, c = grid.stations
        await c.stop()
        await a.take(*grants(scribe, 6))
        await until(lambda: b.store.sizes().get(a.name) == 6)
        await a.stop()
        await c.start()
        sound = grants(scribe, 6)
        lies: list[Callable[[list[bytes]], list[bytes]]] = [
            lambda raws: [sound[0].raw, *raws[1:]],  # another grant
            lambda raws: raws[::-1],
            lambda raws: [*raws[:2], b"{}", *raws[3:]],
            lambda raws: raws + raws,  # more than was asked for
            lambda raws: [],
            lambda raws: raws[:3],  # a part of the truth is one
        ]
        asked = 0

        def alter(log: str, first: int, raws: list[bytes]) -> list[bytes]:
            nonlocal asked
            asked += 1
            return lies[asked - 1](raws) if asked <= len(lies) else raws

        c.line.alter = alter
        await until(lambda: asked >= 6)
        await until(lambda: c.store.sizes().get(a.name) == 6)
        assert not c.told
        raw = c.store.head(a.name)
        assert raw is not None and c.name in cosigners(raw, THREE)
        c.store.check(grid.rules)


async def test_whoever_lies_is_asked_less_and_less(tmp_path: Path) -> None:
    scribe = Scribe(TWO)
    async with stations(tmp_path, TWO, A, B) as grid:
        a, b = grid.stations
        b.line.alter = lambda log, first, raws: raws[::-1]
        await a.take(*grants(scribe, 6))
        await until(lambda: b.kinds() == ["astray"])
        fetched = len(b.line.fetched)
        await asyncio.sleep(0.5)  # ten rounds
        assert len(b.line.fetched) == fetched
        assert a.name not in b.store.sizes() or b.store.sizes()[a.name] == 0


async def test_a_keeper_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    scribe = Scribe(THREE)
    async with stations(tmp_path, THREE, A, B, C) as grid:
        a, b, c = grid.stations
        c.line.hangs = a.name
        await b.take(*grants(scribe, 3))
        await until(lambda: c.store.sizes().get(b.name) == 3)
