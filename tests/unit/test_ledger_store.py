"""The store keeps what the fold says, whole transactions or none. ``tests/swarm`` runs the same on PostgreSQL."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event

from gridllm.errors import LedgerError
from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account, Ledger, apply
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Escrow
from gridllm.ledger.store.batch import Batch
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from tests.ledger_stores import append_all, dump, emptied, store_of
from tests.ledger_worlds import KEEPER, NAMES, TABS, entries
from tests.ledgers import NOW, STARTER, Scribe, hex_of

SCRIBE = Scribe()
PAYER, NODE, OTHER = (Identity.ephemeral() for _ in range(3))
SECOND = SCRIBE.signed.charter.keepers[1]
DAY = NOW // 86400

anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # see ``emptied``


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(made)
    yield made
    made.dispose()


class Model:
    """What a store must say: the fold, gifts by day, and the logs."""

    def __init__(self) -> None:
        self.books = Ledger()
        self.gifts: dict[tuple[str, int], int] = {}
        self.logs: dict[str, list[bytes]] = {}

    def take(self, one: Entry, log: str, *, always: bool) -> bool:
        said = one.statement
        if isinstance(said, Escrow) and said.gift:
            key = said.payer, said.issued // 86400
            more = max(0, said.micro - self.books.tab(said.tab).gift)
            self.gifts[key] = self.gifts.get(key, 0) + more
        changed = apply(self.books, one, STARTER)
        if changed or always:
            self.logs.setdefault(log, []).append(one.raw)
        return changed


batches = st.lists(st.tuples(st.booleans(), st.booleans(), st.lists(entries, max_size=12)), max_size=5)


@anew
@given(coming=batches, other_day=st.booleans())
def test_the_store_says_what_the_fold_says(
    engine: Engine, coming: list[tuple[bool, bool, list[Entry]]], other_day: bool
) -> None:
    emptied(engine)
    model = Model()
    for own, load, some in coming:
        store = store_of(engine)  # nothing is remembered from one transaction to the next
        with store.write(KEEPER if own else SECOND, NOW) as batch:
            if not own:
                for one in some:
                    model.take(one, SECOND, always=True)
                batch.mirror(some)
            elif load:
                batch.load(some)
            for one in some if own else []:
                assert batch.append(one) == model.take(one, KEEPER, always=False)
                look_into(batch, model)
    store = store_of(engine)
    for name in NAMES:
        assert store.account(name) == model.books.accounts.get(name, Account())
        assert store.enrolled(name) == (("enrolment", bytes.fromhex(name)) in model.books.seen)
        for at in (NOW - 4, NOW - 0.5, NOW, NOW + 1.5, NOW + 4):
            assert store.escrowed(name, at) == model.books.held(name, at)
        assert store.gifted(name, DAY + other_day) == model.gifts.get((name, DAY + other_day), 0)
    for key in TABS:
        assert (store.tab(key) or model.books.tab(key)) == model.books.tab(key)
    assert store.sizes() == {log: len(raws) for log, raws in model.logs.items()}
    for log, raws in model.logs.items():
        assert store.entries(log, 0, 1000, 10**9) == raws


def look_into(batch: Batch, model: Model) -> None:
    """The transaction's own view counts what it has appended so far."""
    for name in NAMES:
        account = model.books.accounts.get(name, Account())
        assert batch.account(name) == account
        assert batch.escrowed(name) == model.books.held(name, NOW)
        assert batch.available(name) == account.balance - model.books.held(name, NOW)
        assert batch.gifted(name, DAY) == model.gifts.get((name, DAY), 0)
        assert batch.enrolled(name) == (("enrolment", bytes.fromhex(name)) in model.books.seen)
    for key in TABS:
        assert batch.tab(key) == copy.deepcopy(model.books).tab(key)


def test_a_transaction_that_raises_leaves_nothing(engine: Engine) -> None:
    store = store_of(engine)
    append_all(store, KEEPER, [SCRIBE.grant(PAYER, 10**9)])
    before = dump(engine)
    with pytest.raises(RuntimeError, match="on purpose"), store.write(KEEPER, NOW) as batch:
        batch.append(SCRIBE.enrolment(NODE))
        batch.append(SCRIBE.escrow(PAYER, NODE, 100, gift=True))
        batch.append(SCRIBE.voucher(PAYER, NODE, 1, 1))
        batch.save_head(b"head")
        batch.save()
        raise RuntimeError("on purpose")
    assert dump(engine) == before
    append_all(store, KEEPER, [SCRIBE.enrolment(NODE)])
    assert store.sizes() == {KEEPER: 2}


def test_looking_leaves_nothing_either(engine: Engine) -> None:
    before = dump(engine)
    with store_of(engine).write(KEEPER, NOW) as batch:
        voucher = SCRIBE.voucher(PAYER, NODE, 1, 1).statement
        assert batch.tab(voucher.tab).claimed == 0  # type: ignore[union-attr]
        assert batch.available(hex_of(PAYER)) == 0
        assert not batch.enrolled(hex_of(NODE))
    assert dump(engine) == before


def test_known_statements_are_not_logged_again(engine: Engine) -> None:
    store = store_of(engine)
    low, high = SCRIBE.voucher(PAYER, NODE, 1, 1), SCRIBE.voucher(PAYER, NODE, 1, 2)
    grant = SCRIBE.grant(PAYER, 5)
    append_all(store, KEEPER, [high, grant, SCRIBE.enrolment(NODE)])
    with store.write(KEEPER, NOW) as batch:
        for known in (low, high, grant, SCRIBE.enrolment(NODE, model="cd" * 32)):
            assert not batch.append(known)
        assert batch.size == 3
    assert store.sizes() == {KEEPER: 3}


def test_a_mirror_keeps_what_changes_nothing(engine: Engine) -> None:
    store = store_of(engine)
    high, low = SCRIBE.voucher(PAYER, NODE, 1, 2), SCRIBE.voucher(PAYER, NODE, 1, 1)
    with store.write(SECOND, NOW) as batch:
        batch.mirror([high, low, high])
        root = batch.root()
    assert store.entries(SECOND, 0, 9, 10**6) == [high.raw, low.raw, high.raw]
    assert store.root(SECOND, 3) == root


def test_history_newest_first_page_by_page(engine: Engine) -> None:
    store = store_of(engine)
    grant = SCRIBE.grant(PAYER, 10**9)
    append_all(store, KEEPER, [grant, SCRIBE.enrolment(NODE)], now=NOW)
    vouchers = [SCRIBE.voucher(PAYER, NODE, 0, count) for count in range(1, 8)]
    for later, voucher in enumerate(vouchers):
        append_all(store, KEEPER if later % 2 else SECOND, [voucher], now=NOW + later)
    back = SCRIBE.transfer(NODE, PAYER, 3)
    append_all(store, KEEPER, [back, SCRIBE.grant(OTHER, 1)], now=NOW - 100)  # a clock that was set back
    due = [back.raw, *(one.raw for one in reversed(vouchers)), grant.raw]
    rows = store.history(hex_of(PAYER))
    assert [row.statement for row in rows] == due
    assert [row.at for row in rows] == sorted((row.at for row in rows), reverse=True)
    assert {(row.log, row.index) for row in rows[1:3]} == {(SECOND, 3), (KEEPER, 4)}
    pages, before = [], None
    while page := store.history(hex_of(PAYER), before=before, limit=4):
        pages.append([row.statement for row in page])
        before = page[-1].cursor
    assert pages == [due[:4], due[4:8], due[8:]]
    assert [row.statement for row in store.history(hex_of(PAYER), since=NOW + 5)] == due[:3]
    assert store.history(hex_of(PAYER), since=NOW + 99) == []
    assert store.history("00" * 32) == []


def test_pages_of_entries_and_accounts(engine: Engine) -> None:
    store = store_of(engine)
    grants = [SCRIBE.grant(Identity.ephemeral(), 5) for _ in range(10)]
    append_all(store, KEEPER, grants)
    raws = [one.raw for one in grants]
    assert store.entries(KEEPER, 3, 4, 10**9) == raws[3:7]
    assert store.entries(KEEPER, 0, 10, len(raws[0]) * 3 + 1) == raws[:3]
    assert store.entries(KEEPER, 8, 10, 1) == raws[8:9]
    assert store.entries(KEEPER, 10, 10, 10**9) == []
    assert store.entries(SECOND, 0, 10, 10**9) == []
    keys = sorted(one.statement.account for one in grants)  # type: ignore[union-attr]
    assert [key for key, _ in store.accounts(limit=6)] == keys[:6]
    assert store.accounts(after=keys[5]) == [(key, Account(granted=5)) for key in keys[6:]]


def test_heads_and_evidence_are_kept(engine: Engine) -> None:
    store = store_of(engine)
    assert store.head(KEEPER) is None
    store.save_head(SECOND, b"of an empty log")
    append_all(store, KEEPER, [SCRIBE.grant(PAYER, 5)])
    with store.write(KEEPER, NOW) as batch:
        batch.append(SCRIBE.grant(PAYER, 5))
        batch.save_head(b"old")
    store.save_head(KEEPER, b"new")
    assert (store.head(KEEPER), store.head(SECOND)) == (b"new", b"of an empty log")
    assert store.sizes() == {KEEPER: 2, SECOND: 0}
    for raw in (b"one", b"two", b"one"):
        store.save_evidence(raw)
    assert store.evidence() == [b"one", b"two"]


def test_what_is_set_aside_is_found_by_the_index_of_open_tabs(engine: Engine) -> None:
    """So that an account's closed tabs cost nothing: a condition spelled otherwise would read them all."""
    store = store_of(engine)
    append_all(store, KEEPER, [SCRIBE.escrow(PAYER, NODE, 5)])
    plans: list[str] = []

    def explain(connection: Connection, _cursor: object, said: str, values: Any, *_: object) -> None:
        if "held" in said and not said.startswith("EXPLAIN"):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {said}", values)
            plans.append(" ".join(row[-1] for row in rows))

    if engine.dialect.name == "sqlite":  # PostgreSQL reads a table of one row whatever indexes it has
        event.listen(engine, "before_cursor_execute", explain)
    assert store.escrowed(hex_of(PAYER), NOW) == 5
    assert store.escrows("", "ff" * 32, NOW) == {hex_of(PAYER): 5}
    assert all("ix_tabs_open" in plan and "SCAN tabs" not in plan for plan in plans)
    assert len(plans) == (2 if engine.dialect.name == "sqlite" else 0)


def test_sums_beyond_the_database_are_refused_by_name(engine: Engine) -> None:
    store = store_of(engine)
    huge = [SCRIBE.grant(PAYER, 2**62 - 1) for _ in range(3)]
    append_all(store, KEEPER, huge[:2])
    with pytest.raises(LedgerError, match="exceed what the ledger's database can hold"):
        append_all(store, KEEPER, huge[2:])
    assert store.account(hex_of(PAYER)).granted == 2**63 - 2
    gifts = [SCRIBE.escrow(PAYER, NODE, 2**62 - 1, gift=True, session=f"{at:032x}") for at in range(3)]
    with pytest.raises(LedgerError, match="exceed what the ledger's database can hold"):
        append_all(store, KEEPER, gifts)


def test_what_is_set_aside_may_exceed_64_bits(engine: Engine) -> None:
    """A home keeper that lies is for audits to find; its mirrors go on answering."""
    store = store_of(engine)
    append_all(store, KEEPER, [SCRIBE.escrow(PAYER, NODE, 2**62 - 1, session=f"{at:032x}") for at in range(5)])
    assert store.escrowed(hex_of(PAYER), NOW) == 5 * (2**62 - 1)
    assert store.escrows("", "ff" * 32, NOW) == {hex_of(PAYER): 5 * (2**62 - 1)}


def test_two_writers_wait_for_each_other(engine: Engine) -> None:
    logs = {KEEPER: [SCRIBE.grant(PAYER, 5) for _ in range(60)], SECOND: [SCRIBE.grant(PAYER, 7) for _ in range(60)]}
    failures: list[Exception] = []

    def work(log: str) -> None:
        try:
            append_all(LedgerStore(engine, starter=STARTER), log, logs[log], at_once=2)
        except Exception as error:  # noqa: BLE001  # the other thread's are the test's to report
            failures.append(error)

    threads = [Thread(target=work, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store_of(engine).account(hex_of(PAYER)).granted == 60 * 12
    assert store_of(engine).sizes() == {KEEPER: 60, SECOND: 60}
