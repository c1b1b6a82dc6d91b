"""How an account stands and what that opens, on a terminal and in JSON: pure functions of what a keeper says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.economy import PARAMETERS
from gridllm.quantities import count_credits, spell_credits

if TYPE_CHECKING:
    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.ledger.messages import AccountView

BILLION: Final = 10**9


@dataclass(frozen=True, slots=True)
class CreditView:
    """What is shown of one account."""

    signed: SignedCharter
    account: str
    peer: str
    home: str  # its home keeper
    said_by: str  # the keeper that answered
    sums: AccountView
    board: NoticeBoard | None = None  # tells of listed models; None: only the charter's are shown

    @property
    def models(self) -> list[tuple[ModelEntry, int]]:
        """Each model of the grid, and the contribution that it asks for."""
        catalogue = Catalogue(self.signed, self.board or NoticeBoard(self.signed))
        return [(entry, catalogue.contribution(entry.root)) for entry in catalogue.entries]

    @property
    def balance(self) -> int:
        """Micro-credits, escrow included."""
        return self.sums.granted + self.sums.earned + self.sums.received - self.sums.spent - self.sums.sent

    @property
    def available(self) -> int:
        """Micro-credits that may be spent now."""
        return max(0, self.balance - self.sums.escrowed)

    @property
    def contribution(self) -> int:
        """Micro-credits earned beyond those spent and sent (``ledger.fold.Account``)."""
        return self.sums.earned - self.sums.spent - self.sums.sent


def credit_facts(view: CreditView) -> dict[str, str | list[str]]:
    """In lines for people."""
    sums = view.sums
    facts: dict[str, str | list[str]] = {
        "Grid": view.signed.charter.name,
        "Account": view.account,
        "Peer id": view.peer,
        "Home keeper": view.home + ("" if view.said_by == view.home else f" (silent; as {view.said_by[:16]}… knew it)"),
        "Balance": count_credits(view.balance)
        + (f", {spell_credits(sums.escrowed)} of it in escrow" * (sums.escrowed > 0)),
        "Earned": count_credits(sums.earned) + " for serving",
        "Spent": count_credits(sums.spent),
        "Granted": count_credits(sums.granted),
    }
    if sums.received or sums.sent:
        facts["Transfers"] = f"{spell_credits(sums.received)} received, {spell_credits(sums.sent)} sent"
    facts["Contribution"] = count_credits(view.contribution) + ", earned minus spent" + " and sent" * (sums.sent > 0)
    facts["Opens"] = list(_opens(view))
    facts["To get more"] = list(_how(view))
    return facts


def _opens(view: CreditView) -> Iterator[str]:
    economy, given = view.signed.charter.economy, view.contribution
    for entry, needed in view.models:
        yield f"{entry.name}: {_open_or_lacking(needed, given)}"
    now = economy.priority(given)
    last = f"priority class {now} of {len(economy.classes) + 1} for sessions that pay"
    if now <= len(economy.classes):
        needed = economy.classes[now - 1]
        last += f"; class {now + 1} from a contribution of {spell_credits(needed)} on"
    yield last
    yield f"leaderboard submissions: {_open_or_lacking(economy.submit, given)}"
    if not view.available:
        yield {
            "nothing": "without credit nothing is served",
            "allowance": f"without credit, of today's gift: {spell_credits(view.sums.allowance)} credits' worth",
            "lowest": "without credit it is served after all who pay",
        }[economy.newcomers]


def _open_or_lacking(needed: int, given: int) -> str:
    if not needed or given >= needed:
        return "open"
    return f"lacks {spell_credits(needed - given)} of a contribution of {count_credits(needed)}"


def _how(view: CreditView) -> Iterator[str]:
    economy = view.signed.charter.economy
    each = count_credits(economy.prices.decode * (BILLION // PARAMETERS))
    yield f"serve blocks, with: gridllm serve — {each} for each token through a billion parameters"
    if economy.starter and view.signed.charter.admission.required:
        yield f"a machine admitted to serve receives {count_credits(economy.starter)} when it first serves"
    yield "credit that others send can be spent, but is not a contribution"


def credit_json(view: CreditView) -> dict[str, Any]:
    """The same for programs; amounts in micro-credits."""
    economy, given, sums = view.signed.charter.economy, view.contribution, view.sums

    def door(needed: int) -> dict[str, Any]:
        lacking = max(0, needed - given) if needed else 0
        return {"open": not lacking, "contribution": needed, "lacking": lacking}

    return {
        "grid": view.signed.grid,
        "name": view.signed.charter.name,
        "unit": "micro-credit",
        "account": view.account,
        "peer": view.peer,
        "home_keeper": view.home,
        "said_by": view.said_by,
        "balance": view.balance,
        "available": view.available,
        "escrowed": sums.escrowed,
        "granted": sums.granted,
        "earned": sums.earned,
        "spent": sums.spent,
        "received": sums.received,
        "sent": sums.sent,
        "allowance": sums.allowance,
        "contribution": given,
        "opens": {
            "models": [{"model": entry.name, "root": entry.root} | door(needed) for entry, needed in view.models],
            "priority": economy.priority(given),
            "classes": list(economy.classes),
            "next_class": None
            if economy.priority(given) > len(economy.classes)
            else door(economy.classes[economy.priority(given) - 1]),
            "submit": door(economy.submit),
            "newcomers": economy.newcomers,
        },
    }
