"""The audit: sound books pass, and each way in which books can be wrong is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gridllm.admission.cards import find_keepers
from gridllm.charter.document import sign_charter
from gridllm.charter.minimums import Admission
from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature
from gridllm.ledger.audit import Wrong, asking, examine
from gridllm.ledger.audit.examine import Audit, Report
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.evidence import verify_equivocation
from gridllm.ledger.messages import AccountView
from gridllm.ledger.paper import Entry
from gridllm.swarm.memory import MemoryNetwork
from tests.certificates import SIGNERS
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.ledgers import BLOCKS, Scribe, hex_of, homed, paid_grid, traffic
from tests.unit.fake_keeper import FakeKeeper

A, B = MAINTAINERS[:2]
BLOCK_SIZES = {ENTRY.root: BLOCKS}


class Scene:
    """Two keepers with some traffic in their books, and an auditor."""

    def __init__(self, admission: bool) -> None:
        economy = paid_grid(keepers=(hex_of(A), hex_of(B))).charter.economy
        self.signed = sign_charter(charter(economy=economy, admission=Admission(required=admission)), SIGNERS)
        self.scribe = Scribe(self.signed)
        self.network = MemoryNetwork()
        self.swarm = self.network.join(Identity.ephemeral())
        self.a, self.b = (
            FakeKeeper(self.network.join(Identity.ephemeral()), self.signed, one, self.scribe.rules) for one in (A, B)
        )

    def trade(self, count: int = 300) -> None:
        for seed, keeper in enumerate((self.a, self.b)):
            keeper.take(traffic(self.signed, keeper.key, count, seed=seed))
        self.exchange()

    def exchange(self) -> None:
        self.a.mirror(self.b)
        self.b.mirror(self.a)

    def keepers(self) -> Keepers:
        return Keepers(self.swarm, self.signed, find=find_keepers)

    async def audit(self, **options: Any) -> Report:
        return await Audit(self.keepers(), self.signed, BLOCK_SIZES, **options).run()

    async def wrong(self, **options: Any) -> Wrong:
        with pytest.raises(Wrong) as caught:
            await self.audit(**options)
        return caught.value


@asynccontextmanager
async def scene(*, admission: bool = False) -> AsyncIterator[Scene]:
    made = Scene(admission)
    await made.a.start()
    await made.b.start()
    try:
        yield made
    finally:
        for swarm in list(made.network._swarms.values()):
            await swarm.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "PAUSE_S", 0.0)


@pytest.mark.parametrize("workers", [0, 2])
async def test_sound_books_pass(workers: int) -> None:
    async with scene() as s:
        s.trade(1500)
        told: list[tuple[int, int]] = []
        report = await s.audit(workers=workers, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (3000, 3000)
        assert report.tally is not None
        assert report.tally.statements == 3000
        assert report.tally.accounts == s.a.books.accounts == s.b.books.accounts
        assert report.asked == [s.a.key, s.b.key]
        for log, other in ((report.logs[s.a.key], s.b.key), (report.logs[s.b.key], s.a.key)):
            assert (log.entries, log.cosigned, log.holder) == (1500, {other}, log.keeper)


async def test_empty_books_pass() -> None:
    async with scene() as s:
        for keeper in (s.a, s.b):
            keeper.sign()
        report = await s.audit()
        assert [log.entries for log in report.logs.values()] == [0, 0]


async def test_an_altered_entry_is_named_wherever_the_byte_is() -> None:
    async with scene() as s:
        s.trade()
        raw = s.a.own.raws[211]
        for at in range(0, len(raw), 97):
            s.a.own.raws[211] = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            fault = await s.wrong()
            assert (fault.keeper, fault.log, fault.index) == (s.a.key, s.a.key, 211)
            assert f"Entry 211 in the log of {s.a.key[:16]}…" in str(fault)


@pytest.mark.parametrize("index", [0, 1, 150, 298, 299])
async def test_an_entry_in_other_words_is_named_though_it_is_sound(index: int) -> None:
    async with scene() as s:
        s.trade()
        s.a.own.raws[index] = s.a.own.raws[index].replace(b'{"payload"', b'{ "payload"')
        fault = await s.wrong()
        assert (fault.keeper, fault.index) == (s.a.key, index)
        assert "it was altered since" in str(fault)


async def test_entries_that_break_the_rules_are_named() -> None:
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    async with scene() as s:
        s.trade(100)
        home, other = (s.a, s.b) if s.a.rules.home(hex_of(payer)) == s.a.key else (s.b, s.a)
        dear = s.scribe.voucher(payer, node, decode=10, micro=12345)
        size = len(home.own.raws)
        bad: list[tuple[FakeKeeper, Entry, str]] = [
            (home, dear, "its tokens cost"),
            (other, s.scribe.voucher(payer, node, decode=10), "lets the account"),
        ]
        for keeper, entry, says in bad:
            keeper.take([entry])
            fault = await s.wrong()
            assert (fault.keeper, fault.index) == (keeper.key, size)
            assert says in str(fault)
            keeper.forget(1)


async def test_who_spends_what_it_does_not_have_shames_its_home() -> None:
    async with scene() as s:
        s.trade(100)
        payer, payee = homed(s.signed, s.b.key), homed(s.signed, s.a.key)
        s.b.take([s.scribe.transfer(payer, payee, 7)])
        s.exchange()
        fault = await s.wrong()
        assert fault.keeper == s.b.key
        assert f"The account {hex_of(payer)[:16]}… has -0.000007 credits" in str(fault)


async def test_a_node_that_was_paid_must_have_been_admitted() -> None:
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    async with scene(admission=True) as s:
        home, other = (s.a, s.b) if s.scribe.rules.home(hex_of(payer)) == s.a.key else (s.b, s.a)
        service = [s.scribe.escrow(payer, node, 10**9), s.scribe.voucher(payer, node, decode=10)]
        home.take([s.scribe.grant(payer, 10**12), service[0]])
        other.sign()
        s.exchange()
        await s.audit()  # set aside is not paid yet
        home.take(service[1:])
        s.exchange()
        fault = await s.wrong()
        assert fault.keeper == home.key
        assert f"{hex_of(node)[:16]}… was paid for serving, and no certificate" in str(fault)
        other.take([s.scribe.enrolment(node)])
        s.exchange()
        await s.audit()


async def test_a_keeper_that_shows_two_histories_is_named_with_evidence() -> None:
    async with scene() as s:
        s.trade(100)
        truth = s.a.own
        s.a.copies[s.a.key] = type(truth)()  # what B is shown: another last entry
        s.a.take([s.scribe.rules.read(raw, s.a.key) for raw in truth.raws[:99]])
        s.a.take([s.scribe.grant(Identity.ephemeral(), 5)])
        s.b.copies[s.a.key] = s.a.own
        s.a.copies[s.a.key] = truth
        for shorter in (False, True):
            if shorter:  # A goes on in the history that it shows others
                s.a.take([s.scribe.grant(Identity.ephemeral(), 6)])
            fault = await s.wrong()
            assert fault.keeper == s.a.key
            assert "shows two histories" in str(fault)
            assert verify_equivocation(fault.evidence, s.signed).keeper == s.a.key
        s.b.evidence.append(fault.evidence)
        assert "holds the evidence" in str(await s.wrong(holders=[s.b.key]))
        s.b.evidence[:] = [b"{}"]  # whoever makes it up accuses nobody
        with pytest.raises(Wrong) as caught:
            await s.audit()
        assert "shows two histories" in str(caught.value)


async def test_heads_seen_before_bind_a_keeper() -> None:
    async with scene() as s:
        s.trade(100)
        known = {s.a.key: s.a.own.head}
        s.a.take([s.scribe.grant(Identity.ephemeral(), 6)])
        s.exchange()
        await s.audit(known=known)
        later = s.a.own.head
        s.a.forget(1)
        s.b.copies[s.a.key] = s.a.own
        fault = await s.wrong(known={s.a.key: later})
        assert fault.keeper == s.a.key
        assert "has lost entries: it signed a log of 101 entries" in str(fault)


async def test_sums_that_do_not_follow_from_the_entries_are_named() -> None:
    async with scene() as s:
        s.trade(100)
        account = sorted(s.a.books.accounts)[3]
        s.b.books.accounts[account].earned += 1_000_000
        fault = await s.wrong()
        assert fault.keeper == s.b.key
        assert f"says that the account {account[:16]}… has earned" in str(fault)
        s.b.books.accounts[account].earned -= 1_000_000
        s.b.books.accounts["ff" * 32] = type(s.b.books.accounts[account])(granted=1)
        assert "has granted 0.000001 credits; from the entries follow 0" in str(await s.wrong())


async def test_books_that_go_on_while_they_are_read_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as s:
        s.trade(100)
        honest = Keepers.accounts

        async def accounts(self: Keepers, keeper: str, after: str = "", limit: int = 1024) -> list[AccountView]:
            if keeper == s.a.key:  # and B has not heard of it when it is asked
                s.a.take([s.scribe.grant(Identity.ephemeral(), 6), s.scribe.grant(homed(s.signed, s.a.key), 10)])
            return await honest(self, keeper, after, limit)

        monkeypatch.setattr(Keepers, "accounts", accounts)
        look = examine.Follower.look

        async def exchanged(self: examine.Follower, holders: list[str]) -> None:
            await look(self, holders)
            s.exchange()

        monkeypatch.setattr(examine.Follower, "look", exchanged)
        report = await s.audit()
        assert report.tally is not None
        assert report.tally.statements == 202


async def test_a_proof_that_does_not_hold_is_named() -> None:
    async with scene() as s:
        s.trade(100)
        tiles = s.b.copies[s.a.key].tiles
        s.b.copies[s.a.key].tiles = s.b.own.tiles
        fault = await s.wrong()
        assert fault.keeper == s.b.key
        assert "cannot prove what it holds" in str(fault)
        s.b.copies[s.a.key].tiles = tiles
        await s.audit()


async def test_a_silent_keepers_log_is_read_from_a_copy_or_the_audit_ends() -> None:
    async with scene() as s:
        s.trade(100)
        s.network.kill(s.a.swarm.peer)
        report = await s.audit()
        assert set(report.silent) == {s.a.key}
        assert report.logs[s.a.key].holder == s.b.key
        assert report.asked == [s.b.key]
        s.b.copies[s.a.key].head = b""
        with pytest.raises(LedgerError, match="is to be had from nobody"):
            await s.audit()
        s.network.kill(s.b.swarm.peer)
        with pytest.raises(LedgerError, match="does not answer"):
            await s.audit()


async def test_heads_that_cannot_be_used_are_named() -> None:
    async with scene() as s:
        s.trade(100)
        s.b.own.head = add_signature(s.b.own.head, A)  # another's signature does no harm
        await s.audit()
        s.b.own.head = s.b.own.head.replace(s.b.key.encode(), b"00" * 32)
        assert "shows a head that nobody can use" in str(await s.wrong())


async def test_a_keeper_without_a_head_or_with_too_many_accounts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as s:
        s.trade(100)
        s.a.own.head = s.b.copies[s.a.key].head = b""
        assert "shows no head of its own log" in str(await s.wrong())
        with pytest.raises(LedgerError, match="not asked or is silent"):
            await s.audit(holders=[s.b.key])
        s.a.sign()
        s.exchange()
        monkeypatch.setattr(asking, "SPARE_ACCOUNTS", -2 * len(s.a.books.accounts) + 5)
        assert "lists accounts without end" in str(await s.wrong())


async def test_entries_that_are_held_back_are_named() -> None:
    async with scene() as s:
        s.trade(100)
        del s.a.own.raws[60:]
        fault = await s.wrong()
        assert (fault.keeper, fault.index) == (s.a.key, 60)
        assert "shows 0 from entry 60 on" in str(fault)
