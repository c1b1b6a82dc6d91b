"""An account's history: from statements to one line for each bill, grant and transfer, on a terminal and in JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gridllm.admission.certificate import Certificate
from gridllm.identity.statement import read_unverified, type_of
from gridllm.ledger.paper import TYPES, Statement
from gridllm.ledger.statements import Escrow, Grant, Release, TabKey, Transfer, Voucher
from gridllm.quantities import spell_credits

if TYPE_CHECKING:
    from rich.table import Table

    from gridllm.ledger.messages import HistoryRow


MOST_MEMO: Final = 32  # cells of what a line is for, on a terminal; --json has all of it
LEAST_MEMO: Final = 8


@dataclass(slots=True)
class Line:
    """One thing that happened to the account; several statements may tell of it."""

    at: int  # Unix time when the newest of its statements came into the books
    what: str  # served | used | escrow | released | expired | grant | starter | received | sent
    other: str = ""  # account; empty where there is none
    micro: int = 0  # how it changed the balance; of an escrow: what is set aside
    tokens: int = 0
    model: str = ""  # root
    blocks: tuple[int, int] | None = None
    text: str = ""  # a grant's reason, a transfer's memo


@dataclass(slots=True)
class _Bill:
    line: Line
    claimed: int = 0
    escrow: int | None = None  # where one was seen
    gift: bool = False
    expires: int = 0  # Unix time the latest escrow ends
    released: bool = False


@dataclass
class Lines:
    """Gathers statements, newest first, as ``Keepers.history`` gives them."""

    account: str
    starter: int
    lines: list[Line] = field(default_factory=list)
    _bills: dict[TabKey, _Bill] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _starter: Line | None = None

    def add(self, row: HistoryRow) -> None:
        """Take one statement in.

        Raises:
            StatementError: it is none of the ledger's.
        """
        kind = type_of(row.statement)
        model = next((model for model, name in TYPES.items() if name == kind), Grant)
        said: Statement = read_unverified(row.statement, model, kind)[0]  # type: ignore[assignment]
        if isinstance(said, Voucher | Escrow | Release):
            self._add_to_bill(row, said)
        elif isinstance(said, Certificate) and self._starter is not None:
            self._starter.at = row.at  # only the first admission brings a starter, and the rows go back in time
        elif (once := said.model_dump_json()) not in self._seen:  # a grant may stand in several logs
            self._seen.add(once)
            self.lines.append(self._alone(row, said))

    def _alone(self, row: HistoryRow, said: Grant | Certificate | Transfer) -> Line:
        if isinstance(said, Grant):
            return Line(row.at, "grant", micro=said.micro, text=said.reason)
        if isinstance(said, Certificate):
            self._starter = Line(row.at, "starter", micro=self.starter, text="admitted to serve")
            return self._starter
        if said.payer == self.account:
            return Line(row.at, "sent", said.payee, -said.micro, text=said.memo)
        return Line(row.at, "received", said.payer, said.micro, text=said.memo)

    def _add_to_bill(self, row: HistoryRow, said: Voucher | Escrow | Release) -> None:
        served = said.payee == self.account
        bill = self._bills.get(said.tab)
        if bill is None:
            other = said.payer if served else said.payee
            line = Line(row.at, "escrow", other, model=said.model, blocks=(said.start, said.end))
            bill = self._bills[said.tab] = _Bill(line)
            self.lines.append(line)
        if isinstance(said, Voucher) and said.micro >= bill.claimed:
            bill.claimed, bill.line.tokens = said.micro, said.prefill + said.decode
            bill.line.what = "served" if served else "used"
        elif isinstance(said, Escrow):
            bill.expires = max(bill.expires, said.expires)
            bill.gift = bill.gift or said.gift
            if not said.gift:
                bill.escrow = max(bill.escrow or 0, said.micro)
        elif isinstance(said, Release):
            bill.released = True
        _settle(bill, served)


def _settle(bill: _Bill, served: bool) -> None:
    """What changed hands by this bill, as far as its statements were seen."""
    if bill.line.what not in ("served", "used"):
        held = not bill.released and bill.expires > time.time()  # as in fold.Tab
        bill.line.what = "escrow" if held else "released" if bill.released else "expired"
        bill.line.micro = (bill.escrow or 0) if held else 0
        return
    paid = bill.claimed if bill.escrow is None else min(bill.claimed, bill.escrow)
    if bill.gift and bill.escrow is None:
        paid = 0
    bill.line.micro = paid if served else -paid


def history_table(lines: Sequence[Line], names: Mapping[str, str], width: int | None = None) -> Table:
    """One row for each line.

    Args:
        names: of models, by root.
        width: of the terminal; None: all columns, and whole memos.
    """
    from rich.text import Text

    from gridllm.cli.columns import Column, fitting, table_of
    from gridllm.cli.grid_view import printable
    from gridllm.node.standing import spell_time

    reasons = [Text(printable(_for(line, names))) for line in lines]  # strangers' words
    for reason in reasons:
        reason.truncate(MOST_MEMO if width is not None else len(reason), overflow="ellipsis")
    columns = [
        Column("time", [spell_time(line.at) for line in lines]),
        Column("what", [line.what for line in lines]),
        Column("with", [f"{line.other[:12]}…" if line.other else "" for line in lines], turn=2),
        Column("tokens", [f"{line.tokens:,}" if line.tokens else "" for line in lines], turn=1, right=True),
        Column("credits", [Text(signed_credits(line), style=_style(line)) for line in lines], right=True),
        Column("for", reasons, least=LEAST_MEMO),
    ]
    return table_of(fitting(columns, width))


def _for(line: Line, names: Mapping[str, str]) -> str:
    if line.blocks is None:
        return line.text
    return f"{names.get(line.model, line.model[:8])} {line.blocks[0]}:{line.blocks[1]}"


def history_json(lines: Iterable[Line], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same for programs; amounts in micro-credits."""
    return [
        {
            "time": line.at,
            "what": line.what,
            "account": line.other or None,
            "tokens": line.tokens,
            "amount": line.micro,
            "model": names.get(line.model),
            "blocks": list(line.blocks) if line.blocks else None,
            "text": line.text,
        }
        for line in lines
    ]


def signed_credits(line: Line) -> str:
    """With its sign; what is only set aside stands in brackets."""
    if line.what == "escrow":
        return f"({spell_credits(line.micro)})"
    return f"+{spell_credits(line.micro)}" if line.micro > 0 else spell_credits(line.micro)


def _style(line: Line) -> str:
    return "dim" if line.what in ("escrow", "released", "expired") else "green" if line.micro > 0 else ""
