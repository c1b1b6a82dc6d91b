"""What a payee keeps on disk: one SQLite file with the newest voucher of every bill. Sync; one thread uses it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Engine, Float, Integer, LargeBinary, MetaData, String, Table, delete, select
from sqlalchemy.dialects.sqlite import insert

from gridllm.database.engine import reading, writing
from gridllm.database.upsert import upsert
from gridllm.disk import make_private_dir
from gridllm.errors import LedgerError
from gridllm.ledger.statements import TabKey
from gridllm.ledger.store.engine import open_engine

VERSION: Final = 1  # of the tables below; a later one is another file's business

metadata = MetaData()
slips = Table(
    "slips",
    metadata,
    Column("session", String, primary_key=True),
    Column("payer", String, primary_key=True),
    Column("payee", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("end", Integer, primary_key=True),
    Column("voucher", LargeBinary, nullable=False),
    Column("micro", Integer, nullable=False),
    Column("prefill", Integer, nullable=False),
    Column("decode", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("escrow", Integer, nullable=False),
    Column("gift", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("closed_at", Float),
    Column("release_at", Float),
    Column("released", Integer, nullable=False),
    Column("refused", String, nullable=False),
)
walked = Table(
    "walked",
    metadata,
    Column("account", String, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("micro", Integer, nullable=False),
)
totals = Table("totals", metadata, Column("name", String, primary_key=True), Column("value", Integer, nullable=False))


@dataclass(slots=True)
class Slip:
    """The newest voucher of one bill, and what became of it. Amounts are micro-credits, times Unix seconds."""

    tab: TabKey
    voucher: bytes = b""  # its envelope; b"": none came yet
    micro: int = 0  # what it promises
    prefill: int = 0  # for so many tokens
    decode: int = 0
    accepted: int = 0  # of a voucher that the payer's keeper has taken
    escrow: int = 0  # set aside for it
    gift: int = 0  # the same, of a newcomer's allowance, which nobody pays
    expires: int = 0  # when its escrow ends
    closed_at: float | None = None  # None: the session is open
    release_at: float | None = None  # when the rest of the escrow is given back
    released: bool = False
    refused: str = ""  # why the keeper will never take the voucher
    tries: int = field(default=0, compare=False)  # in a row that it said "later"; not kept
    again_at: float = field(default=0.0, compare=False)
    taken_at: float = field(default=0.0, compare=False)  # when its keeper took a voucher last; not kept

    @property
    def on_trust(self) -> bool:
        """Whether nothing was set aside for it."""
        return not self.escrow and not self.gift

    @property
    def gifted(self) -> bool:
        """Whether nobody pays for it."""
        return not self.escrow and self.gift > 0

    def worth(self, micro: int) -> int:
        """What a voucher of ``micro`` brings."""
        return min(micro, max(self.escrow, micro - self.gift))

    @property
    def payable(self) -> bool:
        """Whether its keeper has yet to take the voucher."""
        return bool(self.voucher) and self.micro > self.accepted and not self.gifted and not self.refused

    def releasable(self, now_s: float) -> bool:
        """Whether all is paid and the rest of its escrow can be given back."""
        over = self.release_at is not None and self.release_at <= now_s and not self.released
        return over and not self.gifted and not self.refused and self.micro == self.accepted


class Day(NamedTuple):
    """What one account left unpaid on one day."""

    account: str
    day: int  # since 1970
    micro: int


@dataclass(slots=True)
class Change:
    """What is to be written."""

    slips: list[Slip]
    gone: list[TabKey]
    walked: list[Day]
    earned: int  # ever, micro-credits
    before_day: int  # what was walked off with before is forgotten


class SlipStore:
    """The file. Raises LedgerError wherever the disk does not do its part."""

    def __init__(self, path: Path) -> None:
        try:
            make_private_dir(path.parent)
        except OSError as error:
            raise LedgerError(f"The folder {path.parent} cannot be made ({error.strerror}).") from error
        self._engine: Engine = open_engine(f"sqlite:///{path}")
        with writing(self._engine) as connection:
            metadata.create_all(connection)
            found = connection.execute(select(totals.c.value).where(totals.c.name == "version")).scalar()
            if found is None:
                connection.execute(insert(totals).values(name="version", value=VERSION))
            elif found != VERSION:
                raise LedgerError(f"{path} was written by a later GridLLM; install that one, or move the file away.")

    def load(self) -> tuple[list[Slip], list[Day], int]:
        """All slips, what accounts left unpaid, and what was ever earned."""
        with reading(self._engine) as connection, closing(connection.execute(select(slips))) as rows:
            found = [_slip(row) for row in rows.mappings()]
            days = [Day(*row) for row in connection.execute(select(walked))]
            earned = connection.execute(select(totals.c.value).where(totals.c.name == "earned")).scalar()
        return found, days, int(earned or 0)

    def save(self, change: Change) -> None:
        """Write all of it; it is on disk when this returns."""
        with writing(self._engine) as connection:
            upsert(connection, slips, [_row(slip) for slip in change.slips])
            upsert(connection, walked, [day._asdict() for day in change.walked])
            for tab in change.gone:
                connection.execute(delete(slips).where(*(slips.c[name] == value for name, value in _key(tab).items())))
            connection.execute(delete(walked).where(walked.c.day < change.before_day))
            upsert(connection, totals, [{"name": "earned", "value": change.earned}])

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


_COLUMNS: Final = tuple(f.name for f in fields(Slip) if f.name not in ("tab", "tries", "again_at", "taken_at"))


def _key(tab: TabKey) -> dict[str, Any]:
    return tab._asdict()


def _row(slip: Slip) -> dict[str, Any]:
    return _key(slip.tab) | {name: getattr(slip, name) for name in _COLUMNS}


def _slip(row: Mapping[Any, Any]) -> Slip:
    said = {name: row[name] for name in _COLUMNS}
    said["released"] = bool(said["released"])
    return Slip(TabKey(*(row[name] for name in TabKey._fields)), **said)
