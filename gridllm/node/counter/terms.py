"""What an account may have of this node, and on which terms: pure decisions of the charter's economy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from gridllm.charter.document import ModelEntry
from gridllm.charter.economy import Economy
from gridllm.errors import BadPayment, NotEntitled
from gridllm.ledger.prices import Count, price
from gridllm.ledger.statements import Escrow, Pass
from gridllm.ledger.trust import SKEW_S, recent, trusted
from gridllm.quantities import spell_credits

WALK_WINDOWS: Final = 16  # an account that left more than so much unpaid here lately is not served
MOST_TRUSTED: Final = 32  # accounts in debt to this node, of those it trusts: names cost nothing

Mode = Literal["escrow", "trust", "unmetered"]


class Shown(NamedTuple):
    """What a client showed, its signatures verified."""

    access: Pass
    escrow: Escrow | None
    pays: bool = False  # it says that vouchers will come, escrow or not


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node knows besides. Amounts are micro-credits."""

    now_s: float  # Unix time
    silent: bool = False  # the account's home keeper does not answer this node
    debt: int = 0  # served to the account on trust, and taken by no keeper yet
    debtors: int = 0  # other accounts with such a debt
    left_unpaid: int = 0  # of sessions of the account that ended, lately
    window: int = 1  # what is served beyond a voucher
    tier: int | None = None  # contribution that the model asks for (Catalogue); None: as the charter says


class Ruling(NamedTuple):
    """How a session is served."""

    mode: Mode
    priority: int  # class in the batch


def asks_keeper(economy: Economy, shown: Shown | None, now_s: float) -> bool:
    """Whether the decision depends on the account's keeper being silent."""
    if shown is None:
        return False
    return not fresh(shown.access, now_s) or (shown.escrow is None and (shown.pays or economy.newcomers != "lowest"))


def admit(economy: Economy, entry: ModelEntry, shown: Shown | None, facts: Facts) -> Ruling:
    """How a session of the model is served to whoever showed this; None: no account at all.

    Raises:
        NotEntitled: not at all; the sentence says what is lacking and how to earn it.
        BadPayment: what was shown is out of date.
    """
    escrow = shown.escrow if shown is not None else None
    if shown is not None and shown.access.issued - facts.now_s > SKEW_S:
        raise BadPayment("The access pass was issued in the future by this node's clock; one of the two is wrong.")
    if escrow is not None and escrow.expires <= facts.now_s:
        raise BadPayment("The escrow for this session has expired; ask the account's keeper for another.")
    standing = shown is not None and _standing(economy, shown.access, facts)
    if escrow is not None and not standing:
        raise BadPayment("The access pass has expired; ask the account's keeper for another.")
    contribution = shown.access.contribution if shown is not None and standing else 0
    needed = economy.tier(entry.root) if facts.tier is None else facts.tier
    _check_tier(
        economy, entry, needed, contribution, "" if shown is None or standing else "Its access pass has expired. "
    )
    doubt = _walked(facts) or ("" if escrow is not None else _doubt(economy, shown, facts))
    if escrow is None and economy.newcomers == "lowest" and (doubt or shown is None or not shown.pays):
        return Ruling("unmetered", 0)
    if doubt:
        raise NotEntitled(doubt)
    if escrow is not None:
        return Ruling("escrow", 0 if escrow.gift else economy.priority(contribution))
    return Ruling("trust", economy.priority(contribution))


def earning_sentence(economy: Economy, entry: ModelEntry, micro: int) -> str:
    """How to come by so many micro-credits."""
    per_token = price(economy.prices, entry.parameters, Count(decode=1))
    if not per_token:
        return "Earn credits with: gridllm serve"
    tokens = -(-micro // per_token)
    return f"Earn them with gridllm serve: about {tokens:,} tokens through all blocks of {entry.name} pay as much."


def fresh(access: Pass, now_s: float) -> bool:
    """Whether the pass is in date."""
    return now_s - access.expires <= SKEW_S


def _standing(economy: Economy, access: Pass, facts: Facts) -> bool:
    """Whether the pass still says something: it is in date, or its keeper cannot be asked for a new one."""
    if fresh(access, facts.now_s):
        return True
    return facts.silent and recent(economy, access, facts.now_s)


def _check_tier(economy: Economy, entry: ModelEntry, needed: int, contribution: int, note: str) -> None:
    if not needed or contribution >= needed:
        return
    raise NotEntitled(
        f"{entry.name} is for accounts that gave {spell_credits(needed)} credits more than they took; this one's "
        f"contribution is {spell_credits(contribution)}, {spell_credits(needed - contribution)} are lacking. {note}"
        + earning_sentence(economy, entry, needed - contribution)
    )


def _walked(facts: Facts) -> str:
    """Why an account that owes this node is not served; "": it owes little or nothing."""
    if facts.left_unpaid <= WALK_WINDOWS * facts.window:
        return ""
    return (
        f"Sessions of this account left {spell_credits(facts.left_unpaid)} credits unpaid at this node since "
        "yesterday; it serves the account again in a day or two. Try another node."
    )


def _doubt(economy: Economy, shown: Shown | None, facts: Facts) -> str:
    """Why the account is not served without escrow; "": it is, because its keeper is silent."""
    earn = "Earn credits with: gridllm serve"
    if shown is None:
        return f"This grid serves nobody without an account that pays; show one (gridllm id). {earn}"
    if not facts.silent:
        return f"No credit is set aside for this session: ask the account's keeper for an escrow. {earn}"
    if not economy.trust:
        return "The account's ledger keeper is silent, and this grid serves nobody on trust; try later."
    if not recent(economy, shown.access, facts.now_s):
        return "The account's ledger keeper is silent, and its last access pass is too old for trust."
    trust = trusted(economy, shown.access)
    if not trust:
        return f"The account's ledger keeper is silent, and the account had nothing left when it last spoke. {earn}"
    if facts.debtors >= MOST_TRUSTED:
        return (
            f"The account's ledger keeper is silent, and this node serves {facts.debtors} other accounts on trust "
            "already; try another node."
        )
    if facts.debt >= trust:
        return (
            f"The account's ledger keeper is silent, and this node has served it {spell_credits(facts.debt)} credits "
            f"on trust already, of {spell_credits(trust)}; try another node."
        )
    return ""
