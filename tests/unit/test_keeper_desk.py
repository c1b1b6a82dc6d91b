"""The keeper's desk over a real database: what is answered is on disk, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.charter.economy import Economy
from gridllm.charter.minimums import Admission
from gridllm.errors import Draining, Full, Insufficient, LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.log.heads import verify_head
from gridllm.ledger.store.batch import Batch
from gridllm.ledger.store.store import LedgerStore
from gridllm_bootstrap.keeping import desk as desks
from gridllm_bootstrap.keeping.turns import Job, Turns
from tests.certificates import SIGNERS, revocation
from tests.charters import charter
from tests.ledgers import NOW, STARTER, Scribe, hex_of, homed
from tests.unit.keeper_desk import IDENTITY, desk, opened, wish
from tests.unit.notes import until

CREDIT = 10**12
ME = hex_of(IDENTITY)


@pytest.fixture
def scribe() -> Scribe:
    return Scribe()


@pytest.fixture
def payer(scribe: Scribe) -> Identity:
    return homed(scribe.signed, ME)


NODE = Identity.ephemeral()


def start(scribe: Scribe, payer: Identity) -> list[bytes]:
    return [scribe.enrolment(NODE).raw, scribe.grant(payer, CREDIT).raw]


def vouchers(scribe: Scribe, payer: Identity, sessions: int, calls: int) -> list[bytes]:
    """In the order in which a node would get them."""
    made = [
        [scribe.voucher(payer, NODE, decode=32 * (call + 1), session=f"{session:032x}").raw for call in range(calls)]
        for session in range(sessions)
    ]
    return [of_session[call] for call in range(calls) for of_session in made]


async def test_what_is_answered_is_on_disk(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    path = tmp_path / "ledger.sqlite"
    async with desk(path, scribe) as keeper:
        assert [one.code for one in await keeper.submit(start(scribe, payer))] == ["accepted"] * 2
        raws = vouchers(scribe, payer, 20, 5)
        answers = await asyncio.gather(*(keeper.submit([raw]) for raw in raws))
        assert {one.code for (one,) in answers} == {"accepted"}
        with opened(path) as beside:  # before the keeper ends: as after kill -9
            assert beside.account(hex_of(NODE)).earned == 20 * scribe.price(0, 32 * 5)
    async with desk(path, scribe) as keeper:
        again = await keeper.submit(raws)
        assert {one.code for one in again} == {"known"}
        keeper._store.check(scribe.rules)


async def test_those_who_wait_are_written_together(
    tmp_path: Path, scribe: Scribe, payer: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions, queued = 0, 0
    all_wait = threading.Event()
    write, add = LedgerStore.write, Turns.add

    @contextmanager
    def counted(self: LedgerStore, log: str, now_s: float) -> Iterator[Batch]:
        nonlocal transactions
        transactions += 1
        assert all_wait.wait(60)
        with write(self, log, now_s) as batch:
            yield batch

    def told(self: Turns, job: Job, *, escrows: bool = False) -> None:
        nonlocal queued
        queued += 1
        add(self, job, escrows=escrows)

    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        await keeper.submit(start(scribe, payer))
        monkeypatch.setattr(LedgerStore, "write", counted)
        monkeypatch.setattr(Turns, "add", told)
        raws = vouchers(scribe, payer, 50, 4)
        asked = [asyncio.create_task(keeper.submit([raw])) for raw in raws]
        await until(lambda: queued == len(raws))  # all but the first few, which are being written: the disk is slow
        all_wait.set()
        answers = await asyncio.gather(*asked)
        assert {one.code for (one,) in answers} == {"accepted"}
        assert transactions <= 4, "the first few, the others, and heads"


async def test_a_bad_statement_spoils_none_of_its_neighbours(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        other = Identity.ephemeral()
        raws = [
            *start(scribe, payer),
            b"",
            b"\x80" * 100,
            scribe.voucher(payer, NODE, decode=5).raw,
            scribe.voucher(payer, NODE, decode=9, micro=1).raw,
            scribe.transfer(payer, other, 5 * CREDIT).raw,
            scribe.voucher(payer, NODE, decode=6).raw,
        ]
        codes = [one.code for one in await keeper.submit(raws)]
    bad = ["bad_payment"] * 2
    assert codes == ["accepted", "accepted", *bad, "accepted", "bad_payment", "insufficient", "accepted"]


@pytest.mark.parametrize("closed", [True, False])
async def test_payees_need_admission_only_where_the_grid_asks_for_it(tmp_path: Path, *, closed: bool) -> None:
    economy = Economy(required=True)
    scribe = Scribe(sign_charter(charter(economy=economy, admission=Admission(required=closed)), SIGNERS))
    payer = homed(scribe.signed, ME)
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        await keeper.submit([scribe.grant(payer, CREDIT).raw])
        (outcome,) = await keeper.submit([scribe.voucher(payer, NODE, decode=5).raw])
    assert outcome.code == ("later" if closed else "accepted")


async def test_what_cannot_be_written_is_said_and_spoils_no_others(
    tmp_path: Path, scribe: Scribe, payer: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = scribe.grant(Identity.ephemeral(), 666)
    append = Batch.append

    def fails(self: Batch, entry: object) -> bool:
        changed = append(self, entry)  # type: ignore[arg-type]
        if entry.id == poison.id:  # type: ignore[attr-defined]
            raise RuntimeError("a bug")
        return changed

    monkeypatch.setattr(Batch, "append", fails)
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        outcomes = await keeper.submit([*start(scribe, payer), poison.raw, scribe.voucher(payer, NODE, decode=5).raw])
        assert [one.code for one in outcomes] == ["accepted", "accepted", "later", "accepted"]
        assert "the fault is its own" in outcomes[2].text
        monkeypatch.undo()
        assert [one.code for one in await keeper.submit([poison.raw])] == ["accepted"]
        keeper._store.check(scribe.rules)
    assert "a bug" in caplog.text


async def test_escrows_are_answered_from_disk_and_refused_by_name(
    tmp_path: Path, scribe: Scribe, payer: Identity
) -> None:
    path = tmp_path / "ledger.sqlite"
    async with desk(path, scribe) as keeper:
        await keeper.submit(start(scribe, payer))
        (raw,) = await keeper.escrows(hex_of(payer), [wish(NODE, CREDIT)])
        assert scribe.rules.read(raw, ME)
        with pytest.raises(Insufficient, match="0 credits available"):
            await keeper.escrows(hex_of(payer), [wish(NODE, 1, "aa" * 16)])
        with opened(path) as beside:
            assert beside.escrowed(hex_of(payer), NOW) == CREDIT


async def test_fifty_at_once_spend_one_balance_once(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        await keeper.submit(start(scribe, payer))
        asked = [keeper.escrows(hex_of(payer), [wish(NODE, CREDIT, f"{n:032x}")]) for n in range(50)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, list) for one in answers) == 1
        assert sum(isinstance(one, Insufficient) for one in answers) == 49


async def test_a_head_is_signed_soon_after_and_at_the_end(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    path = tmp_path / "ledger.sqlite"
    async with desk(path, scribe) as keeper:
        await keeper.submit(start(scribe, payer))
        async with asyncio.timeout(60):
            while (await keeper.read(lambda store: _signed(store, scribe))) != 2:  # noqa: ASYNC110 - a file tells no news
                await asyncio.sleep(0.05)
        await keeper.submit(vouchers(scribe, payer, 3, 1))
    with opened(path) as store:
        assert _signed(store, scribe) == store.sizes()[ME] == 8  # the keeper's own escrows among them


def _signed(store: LedgerStore, scribe: Scribe) -> int:
    raw = store.head(ME)
    if raw is None:
        return -1
    head = verify_head(raw, scribe.signed)
    assert store.root(ME, head.size).hex() == head.root
    return head.size


async def test_books_older_than_their_head_are_not_gone_on_with(
    tmp_path: Path, scribe: Scribe, payer: Identity
) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    async with desk(old, scribe) as keeper:
        await keeper.submit(start(scribe, payer))
    async with desk(new, scribe) as keeper:
        await keeper.submit([*start(scribe, payer), *vouchers(scribe, payer, 3, 1)])
    with opened(new) as later, opened(old) as earlier:
        earlier.save_head(ME, later.head(ME) or b"")
    with pytest.raises(LedgerError, match="two histories"):
        async with desk(old, scribe):
            pass


async def test_a_crowd_is_refused_by_name_and_a_cancelled_caller_frees_its_place(
    tmp_path: Path, scribe: Scribe, payer: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MOST_WAITING", 10)
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        raws = vouchers(scribe, payer, 10, 1)
        with pytest.raises(Full, match="a few seconds"):
            await keeper.submit([*raws, b""])
        for _ in range(5):
            asking = asyncio.create_task(keeper.submit(raws))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(60):
                while keeper._waiting:  # noqa: ASYNC110 - plain data
                    await asyncio.sleep(0.01)
        assert len(await keeper.submit(raws)) == 10


async def test_the_end_answers_all_who_wait_and_takes_no_more(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        asked = [asyncio.create_task(keeper.submit([raw])) for raw in start(scribe, payer)]
        await asyncio.sleep(0)
    assert [one.code for (one,) in await asyncio.gather(*asked)] == ["accepted"] * 2
    with pytest.raises(Draining):
        await keeper.submit([b""])


async def test_another_keepers_log_is_written_whole_or_not_at_all(
    tmp_path: Path, scribe: Scribe, payer: Identity
) -> None:
    other = next(one for one in scribe.signed.charter.keepers if one != ME)
    entries = [scribe.enrolment(NODE), scribe.grant(payer, 5)]
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        with pytest.raises(LedgerError, match="not what"):

            def false(batch: Batch) -> None:
                batch.mirror(entries)
                raise LedgerError("not what its head says")

            await keeper.write(other, false)
        assert await keeper.read(lambda store: store.sizes().get(other, 0)) == 0
        await keeper.write(other, lambda batch: batch.mirror(entries))
        assert await keeper.read(lambda store: store.sizes()[other]) == 2
        assert (await keeper.read(lambda store: store.account(hex_of(NODE)))).granted == STARTER
        assert [one.code for one in await keeper.submit(start(scribe, payer))] == ["known", "accepted"]


async def test_a_revocation_counts_as_soon_as_it_is_posted(tmp_path: Path, scribe: Scribe, payer: Identity) -> None:
    board = NoticeBoard(scribe.signed)
    async with desk(tmp_path / "ledger.sqlite", scribe, board=board) as keeper:
        await keeper.submit(start(scribe, payer))
        board.add(revocation(scribe.signed, NODE.peer, issued=NOW, until=NOW + 60))
        (outcome,) = await keeper.submit([scribe.voucher(payer, NODE, decode=5).raw])
        assert (outcome.code, "revoked" in outcome.text) == ("later", True)
