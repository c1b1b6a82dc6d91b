"""What a home keeper sets aside for its accounts' sessions, and the passes it gives them. Pure, as decisions.py is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from gridllm.charter.economy import MAX_MICRO
from gridllm.errors import BadPayment, Insufficient, LedgerError, Malformed
from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Account, Tab
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import sign
from gridllm.ledger.prices import window_price
from gridllm.ledger.statements import Escrow, Pass
from gridllm.quantities import spell_credits
from gridllm_bootstrap.keeping.decisions import HOW_TO_EARN, Batch, Clerk, spell_available

DAY_S: Final = 86400
STEPS: Final = 16  # of a window: an escrow is raised by a step at least, so that none fills the books bit by bit
RENEW: Final = 0.5  # of an escrow's life: with more left than that, asking again does not prolong it


def reserve(clerk: Clerk, batch: Batch, account: str, wishes: Sequence[Wish], now_s: float) -> list[bytes]:
    """Escrows for all wishes, in their order, or none of them; one may be for a little more than was wished.

    Raises:
        NotHome: another keeper keeps this account.
        Malformed, BadPayment: a wish that cannot be.
        Insufficient: what there is, what it needs, and how to earn it.
    """
    clerk.check_home(account)
    drafts = [_draft(clerk, account, wish, now_s) for wish in wishes]
    if len({draft.tab for draft in drafts}) != len(drafts):
        raise Malformed("Two requests are for one node's bill in one session; ask for their sum.")
    tabs = [batch.tab(draft.tab) for draft in drafts]
    if any(tab.released for tab in tabs):
        raise BadPayment("A node has closed its bill in this session; open another session with it.")
    economy = clerk.rulebook.signed.charter.economy
    available = batch.available(account)
    ample = [_in_steps(clerk, d, tab.escrow) for d, tab in zip(drafts, tabs, strict=True)]
    if _need(ample, tabs, now_s) <= available:
        drafts = ample
    need = _need(drafts, tabs, now_s)
    gift = need > available
    if gift:
        ample = [_in_steps(clerk, d, tab.gift) for d, tab in zip(drafts, tabs, strict=True)]
        if _given(ample, tabs) <= allowance_left(clerk, batch.gifted(account, day_of(now_s))):
            drafts = ample
        _check_allowance(clerk, batch, account, drafts, tabs, need, now_s)
    raised = [_raised(d, tab, economy.escrow_s, now_s, gift=gift) for d, tab in zip(drafts, tabs, strict=True)]
    entries = [clerk.signed(said) for said in raised]
    for entry in entries:
        batch.append(entry)
    return [entry.raw for entry in entries]


def access_pass(clerk: Clerk, keeper: Identity, key: str, account: Account, escrowed: int, now_s: float) -> bytes:
    """What the account may use for a while. Raises NotHome."""
    clerk.check_home(key)
    signed = clerk.rulebook.signed
    said = Pass(
        grid=signed.grid,
        account=key,
        contribution=max(1 - MAX_MICRO, min(account.contribution, MAX_MICRO - 1)),
        available=max(0, min(account.balance - escrowed, MAX_MICRO - 1)),
        keeper=clerk.log,
        issued=int(now_s),
        expires=int(now_s) + signed.charter.economy.pass_s,
    )
    return sign(said, keeper)


def allowance_left(clerk: Clerk, gifted: int) -> int:
    """Of a newcomer's allowance today, micro-credits."""
    economy = clerk.rulebook.signed.charter.economy
    return max(0, economy.allowance - gifted) if economy.newcomers == "allowance" else 0


def day_of(now_s: float) -> int:
    """UTC days since 1970."""
    return int(now_s // DAY_S)


def _draft(clerk: Clerk, account: str, wish: Wish, now_s: float) -> Escrow:
    """The wish as a statement, not raised to what is there already. Raises Malformed, BadPayment."""
    if not wish.micro:
        raise Malformed("An escrow of 0 opens no session; ask for what the session may cost.")
    try:
        clerk.rulebook.parameters(wish.model, wish.start, wish.end)
    except LedgerError as error:
        raise BadPayment(str(error)) from error
    try:
        return Escrow(
            grid=clerk.rulebook.signed.grid,
            session=wish.session,
            payer=account,
            payee=wish.payee,
            model=wish.model,
            start=wish.start,
            end=wish.end,
            issued=int(now_s),
            micro=wish.micro,
            gift=False,
            expires=int(now_s),
            keeper=clerk.log,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Malformed(f"An escrow cannot be requested like this: {fault['msg']}.") from error


def _in_steps(clerk: Clerk, draft: Escrow, before: int) -> Escrow:
    """The draft; if it raises what was set aside ``before``, then by no less than a step. None is refused for it."""
    if not 0 < before < draft.micro:
        return draft
    economy = clerk.rulebook.signed.charter.economy
    parameters = clerk.rulebook.parameters(draft.model, draft.start, draft.end)
    step = window_price(economy.prices, parameters, economy.window_tokens) // STEPS
    return draft.model_copy(update={"micro": max(draft.micro, min(before + step, MAX_MICRO - 1))})


def _need(drafts: Sequence[Escrow], tabs: Sequence[Tab], now_s: float) -> int:
    """Of the balance, micro-credits."""
    return sum(max(d.micro, tab.escrow) - tab.paid - tab.held(now_s) for d, tab in zip(drafts, tabs, strict=True))


def _given(drafts: Sequence[Escrow], tabs: Sequence[Tab]) -> int:
    """Of the allowance, micro-credits."""
    return sum(max(0, draft.micro - tab.gift) for draft, tab in zip(drafts, tabs, strict=True))


def _raised(draft: Escrow, tab: Tab, escrow_s: int, now_s: float, *, gift: bool) -> Escrow:
    """The draft, with no less than is set aside already. What would change nothing says what stands already."""
    before = tab.gift if gift else tab.escrow
    stands = draft.micro <= before and tab.expires >= now_s + RENEW * escrow_s
    return draft.model_copy(
        update={
            "micro": max(draft.micro, before),
            "gift": gift,
            "expires": tab.expires if stands else max(tab.expires, int(now_s) + escrow_s),
        }
    )


def _check_allowance(
    clerk: Clerk, batch: Batch, account: str, drafts: Sequence[Escrow], tabs: Sequence[Tab], need: int, now_s: float
) -> None:
    """Whether a newcomer's allowance covers what its balance does not. Raises Insufficient."""
    left = allowance_left(clerk, batch.gifted(account, day_of(now_s)))
    if _given(drafts, tabs) <= left and not any(
        tab.escrow for tab in tabs
    ):  # a bill that is paid for is not given away half-way
        return
    available = batch.available(account)
    escrowed = batch.account(account).balance - available
    today = f", and {spell_credits(left)} of today's allowance is left" if left else ""
    raise Insufficient(
        f"This needs {spell_credits(need)} credits set aside, and the account has "
        f"{spell_available(available, escrowed)}{today}; {HOW_TO_EARN}"
    )
