"""Accounts and tabs as rows, and the queries that find and change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, bindparam, func, literal_column, select, update

from gridllm.ledger.fold import Account, Tab
from gridllm.ledger.store.schema import accounts, entries, gifts, logs, once, tabs
from gridllm.ledger.store.seals import holds

LOW: Final = 2**32
ACCOUNT: Final = (accounts.c.granted, accounts.c.earned, accounts.c.spent, accounts.c.received, accounts.c.sent)
TAB: Final = (tabs.c.escrow, tabs.c.gift, tabs.c.expires, tabs.c.claimed, tabs.c.prefill, tabs.c.decode)
OPEN: Final = tabs.c.released == literal_column("0")  # spelled as in the partial index, or it is not used
# In two parts: SQLite gives up on a sum beyond 64 bits, and a keeper that lies may set aside whatever it likes.
HELD: Final = (func.sum(tabs.c.held // LOW), func.sum(tabs.c.held % LOW))
ACCOUNT_COLUMNS: Final = tuple(column.name for column in ACCOUNT)
TAB_COLUMNS: Final = (*(column.name for column in TAB), "released", "held")
COUNTERS: Final = select(
    *(
        select(func.coalesce(func.max(table.c.number), 0)).scalar_subquery()
        for table in (logs, entries, accounts, tabs)
    ),
    func.coalesce(select(entries.c.at).order_by(entries.c.number.desc()).limit(1).scalar_subquery(), 0),
)
SELECT_ACCOUNTS: Final = select(accounts.c.key, accounts.c.number, *ACCOUNT).where(
    accounts.c.key.in_(bindparam("keys", expanding=True))
)
SELECT_TABS: Final = select(tabs.c.digest, tabs.c.number, *TAB, tabs.c.released).where(
    tabs.c.digest.in_(bindparam("keys", expanding=True))
)
SELECT_ONCE: Final = select(once.c.kind, once.c.subject).where(once.c.subject.in_(bindparam("keys", expanding=True)))
STANDING: Final = (
    select(
        *ACCOUNT,
        *HELD,
        select(gifts.c.micro)
        .where(gifts.c.account == accounts.c.number, gifts.c.day == bindparam("day"))
        .correlate(accounts)
        .scalar_subquery(),
    )
    .select_from(accounts)
    .outerjoin(tabs, and_(tabs.c.payer == accounts.c.number, tabs.c.expires > bindparam("now"), OPEN))
    .where(accounts.c.key == bindparam("key"))
    .group_by(accounts.c.number)
)
UPDATE_ACCOUNTS: Final = (
    update(accounts)
    .where(accounts.c.number == bindparam("row"))
    .values({column.name: bindparam(column.name) for column in ACCOUNT})
)
UPDATE_TABS: Final = (
    update(tabs)
    .where(tabs.c.number == bindparam("row"))
    .values({column.name: bindparam(column.name) for column in (*TAB, tabs.c.released, tabs.c.held)})
)


@dataclass(slots=True)
class Counters:
    """The highest row numbers in use, 0 in an empty table, and the latest time of an entry."""

    logs: int
    entries: int
    accounts: int
    tabs: int
    at: int


def read_counters(connection: Connection) -> Counters:
    """What is in use now."""
    return Counters(*tuple(connection.execute(COUNTERS).one()))


def account_values(account: Account) -> tuple[int, ...]:
    """The account's columns from ``granted`` on."""
    return account.granted, account.earned, account.spent, account.received, account.sent


def tab_values(tab: Tab) -> tuple[int, ...]:
    """The tab's columns from ``escrow`` on."""
    amounts = tab.escrow, tab.gift, tab.expires, tab.claimed, tab.prefill, tab.decode
    return *amounts, int(tab.released), holds(tab)


def standing_of(connection: Connection, account: str, now_s: float, day: int) -> tuple[Account, int, int]:
    """See ``LedgerStore.standing``: one query."""
    found = connection.execute(STANDING, {"key": account, "now": int(now_s), "day": day}).first()
    if found is None:
        return Account(), 0, 0
    *sums, high, low, micro = found
    return Account(*sums), _joined(high, low), int(micro or 0)


def held_by(connection: Connection, account: str, now_s: float) -> int:
    """What the account has set aside at that time, by an index of open tabs; micro-credits."""
    found = connection.execute(
        select(*HELD)
        .join(accounts, accounts.c.number == tabs.c.payer)
        .where(accounts.c.key == account, tabs.c.expires > int(now_s), OPEN)
    )
    return _joined(*tuple(found.one()))


def held_between(connection: Connection, after: str, last: str, now_s: float) -> dict[str, int]:
    """What accounts whose keys come after ``after``, ``last`` included, have set aside; none: not among them."""
    found = connection.execute(
        select(accounts.c.key, *HELD)
        .join(accounts, accounts.c.number == tabs.c.payer)
        .where(accounts.c.key > after, accounts.c.key <= last, tabs.c.expires > int(now_s), OPEN)
        .group_by(accounts.c.key)
    )
    return {key: _joined(high, low) for key, high, low in found}


def given_to(connection: Connection, account: str, day: int) -> int:
    """What the account was given of the allowance on that day, micro-credits."""
    found = connection.execute(
        select(gifts.c.micro)
        .join(accounts, accounts.c.number == gifts.c.account)
        .where(accounts.c.key == account, gifts.c.day == day)
    ).scalar()
    return int(found or 0)


def _joined(high: int | None, low: int | None) -> int:
    return int(high or 0) * LOW + int(low or 0)
