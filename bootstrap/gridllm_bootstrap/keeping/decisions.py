"""What a keeper takes into its books, statement by statement. Pure: books, a verified statement and a time in; what is
appended, and a sentence, out.

A home keeper lets its accounts spend no more than they have: paid(tab) never rises by more than what the tab holds plus
what is available, and that is all there is to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NoReturn, Protocol

from gridllm.admission.certificate import SKEW_S, Certificate
from gridllm.charter.economy import MAX_MICRO
from gridllm.charter.notices import Revocation
from gridllm.errors import BadPayment, Insufficient, LedgerError, NotHome, Refusal, Revoked
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature
from gridllm.ids import PeerId
from gridllm.ledger.fold import Books
from gridllm.ledger.messages import Outcome
from gridllm.ledger.paper import Entry, Rulebook, id_of, sign
from gridllm.ledger.statements import Escrow, Grant, OnTab, Release, Transfer, Voucher, account_of, peer_of_account
from gridllm.quantities import spell_credits

ACCEPTED: Final = Outcome("accepted")
KNOWN: Final = Outcome("known")
MAX_TEXT_CHARS: Final = 512  # of an Outcome
MOST_HOMES: Final = 4096  # accounts whose home is remembered: it takes three digests to find, for each voucher


class Batch(Books, Protocol):
    """The books while one transaction lasts, with what the fold itself does not need to know."""

    def available(self, account: str) -> int:
        """Balance less what is in escrow now, micro-credits."""
        ...

    def enrolled(self, account: str) -> bool:
        """Whether a certificate for serving was taken in, ever."""
        ...

    def gifted(self, account: str, day: int) -> int:
        """Allowance given to the account on that UTC day (since 1970), micro-credits."""
        ...

    def has_seen(self, kind: str, subject: bytes) -> bool:
        """Whether ``first`` was told of this one-time statement; notes nothing."""
        ...

    def append(self, entry: Entry) -> bool:
        """Fold it, and append it to this keeper's log if that changed anything; whether it did."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Who may be paid, as the maintainers' notices stand: a snapshot, for any thread."""

    required: bool = False  # certificates are asked for: a payee must have handed one in
    revoked: Mapping[PeerId, Revocation] = field(default_factory=dict)

    def revocation(self, account: str, now_s: float) -> Revocation | None:
        """The one in force against this account."""
        found = self.revoked.get(_peer_of(account)) if self.revoked else None
        return found if found is not None and now_s < found.until else None


_peer_of: Final = lru_cache(4096)(peer_of_account)


class Later(Exception):
    """Not now, and perhaps later; never leaves this room."""


class Clerk:
    """One keeper's judgement."""

    def __init__(self, rulebook: Rulebook, keeper: Identity) -> None:
        self.rulebook = rulebook
        self.log = keeper.public_key.hex()
        """Name of the keeper's log: its key in hex."""
        self._keeper = keeper
        self._home = lru_cache(MOST_HOMES)(rulebook.home)

    def take(self, batch: Batch, entry: Entry, standing: Standing, now_s: float) -> Outcome:
        """Take in one statement that ``Rulebook.read`` has verified, or say why not. Raises nothing on purpose."""
        try:
            if entry.spender is not None:
                self.check_home(entry.spender)
            return self._take(batch, entry, standing, now_s)
        except Later as why:
            return Outcome("later", str(why)[:MAX_TEXT_CHARS])
        except Refusal as refusal:
            return Outcome(refusal.code, str(refusal)[:MAX_TEXT_CHARS])
        except LedgerError as error:
            return unusable(error)

    def check_home(self, account: str) -> None:
        """Whether this keeper lets the account spend.

        Raises:
            NotHome: another one does.
        """
        home = self._home(account)
        if home != self.log:
            raise NotHome(f"The account {account[:16]}… is kept by {home[:16]}…; ask that keeper.")

    def _take(self, batch: Batch, entry: Entry, standing: Standing, now_s: float) -> Outcome:
        said = entry.statement
        if isinstance(said, Voucher):
            return self._voucher(batch, entry, said, standing, now_s)
        if isinstance(said, Release):
            return self._release(batch, entry, said)
        if isinstance(said, Transfer):
            return self._transfer(batch, entry, said)
        if isinstance(said, Certificate):
            return _certificate(batch, entry, said, standing, now_s)
        if isinstance(said, Grant):
            return _grant(batch, entry, said)
        raise LedgerError("Escrows are asked for, not handed in: the keeper has those it signed.")

    def _voucher(self, batch: Batch, entry: Entry, voucher: Voucher, standing: Standing, now_s: float) -> Outcome:
        """Pay what the voucher claims as far as escrow and balance go; beyond its escrow the keeper signs another."""
        _check_payee(batch, voucher.payee, standing, now_s)
        tab = batch.tab(voucher.tab)
        highest = (tab.claimed, tab.prefill, tab.decode)
        claim = (voucher.micro, voucher.prefill, voucher.decode)
        if claim < highest or (claim == highest and tab.escrow + tab.gift >= tab.claimed):
            return KNOWN
        owed = max(0, voucher.micro - tab.gift)  # a newcomer's allowance is nobody's debt
        budget = tab.paid + tab.held(now_s)
        if max(owed, min(tab.escrow, voucher.micro)) > budget:  # most lie within their escrow, and ask for no sum
            budget += max(0, batch.available(voucher.payer))
        escrow = max(tab.escrow, min(owed, budget))
        paid = min(escrow, voucher.micro)
        if paid > budget:
            _uncovered(paid - tab.paid, budget - tab.paid)  # its escrow ended, and went elsewhere
        if paid == tab.paid and escrow < owed:
            _uncovered(owed - tab.paid, 0)
        if not _has_room(batch, paid - tab.paid, voucher.payer, voucher.payee):
            raise Later(_FULL)
        if escrow > tab.escrow:
            batch.append(self._reserved(voucher, escrow, now_s))
        if claim > highest:
            batch.append(entry)
        if escrow < owed:
            return Outcome("later", f"{spell_credits(paid)} of {spell_credits(owed)} credits are paid; {_EMPTY}")
        return ACCEPTED

    def _reserved(self, voucher: Voucher, micro: int, now_s: float) -> Entry:
        """An escrow that ends at once: what it sets aside is claimed already."""
        said = Escrow(
            **{name: getattr(voucher, name) for name in OnTab.model_fields if name != "issued"},
            issued=int(now_s),
            micro=micro,
            gift=False,
            expires=int(now_s),
            keeper=self.log,
        )
        return self.signed(said)

    def signed(self, said: Escrow) -> Entry:
        """The keeper's own statement."""
        return Entry(sign(said, self._keeper), said, id_of(said))

    def _release(self, batch: Batch, entry: Entry, release: Release) -> Outcome:
        tab = batch.tab(release.tab)
        if tab.released or not (tab.escrow or tab.gift or tab.claimed):
            return KNOWN  # nothing is set aside: a bill that never was needs no end
        batch.append(entry)
        return ACCEPTED

    def _transfer(self, batch: Batch, entry: Entry, transfer: Transfer) -> Outcome:
        if batch.has_seen("transfer", entry.id):
            return KNOWN
        available = batch.available(transfer.payer)
        if available < transfer.micro:
            escrowed = batch.account(transfer.payer).balance - available
            raise Insufficient(
                f"A transfer of {spell_credits(transfer.micro)} credits needs more than the "
                f"{spell_available(available, escrowed)}; {HOW_TO_EARN}"
            )
        if not _has_room(batch, transfer.micro, transfer.payer, transfer.payee):
            raise BadPayment(_FULL)
        batch.append(self.rulebook.read(add_signature(entry.raw, self._keeper), self.log))
        return ACCEPTED


HOW_TO_EARN: Final = "serve blocks to earn some, with: gridllm serve — or ask for a transfer."
_FULL: Final = "All that one of these accounts ever moved is as much as the ledger counts; take another account."
_EMPTY: Final = "the payer has no more now, and it can be handed in again."


def spell_available(available: int, escrowed: int) -> str:
    """``0.5 credits available (2 more are in escrow)``."""
    more = f" ({spell_credits(escrowed)} more are in escrow)" if escrowed > 0 else ""
    return f"{spell_credits(max(0, available))} credits available{more}"


def unusable(error: Exception) -> Outcome:
    """What becomes of a statement that breaks a rule."""
    return Outcome("bad_payment", str(error)[:MAX_TEXT_CHARS])


def _uncovered(needed: int, there: int) -> NoReturn:
    raise Later(
        f"{spell_credits(needed)} credits are to be paid and {spell_credits(max(0, there))} are there for it; {_EMPTY}"
    )


def _check_payee(batch: Batch, payee: str, standing: Standing, now_s: float) -> None:
    """Whether the account may be paid now. Raises Later."""
    revocation = standing.revocation(payee, now_s)
    if revocation is not None:
        raise Later(f"The maintainers revoked the admission of this node ({revocation.why}); it is not paid meanwhile.")
    if standing.required and not batch.enrolled(payee):
        raise Later("This node handed in no admission certificate for serving yet; it is paid once it has.")


def _has_room(batch: Batch, micro: int, *accounts: str) -> bool:
    """Whether their sums can take so much more.

    Credit that is sent to and fro makes them rise without end, and one that a database cannot hold undoes a whole
    transaction, other accounts' statements included. As much again is left for what mirrored logs add.
    """
    each = (batch.account(account) for account in accounts)
    return all(max(one.granted, one.earned, one.spent, one.received, one.sent) + micro < MAX_MICRO for one in each)


def _grant(batch: Batch, entry: Entry, grant: Grant) -> Outcome:
    if not batch.has_seen("grant", entry.id) and not _has_room(batch, grant.micro, grant.account):
        raise BadPayment(_FULL)
    return ACCEPTED if batch.append(entry) else KNOWN


def _certificate(batch: Batch, entry: Entry, said: Certificate, standing: Standing, now_s: float) -> Outcome:
    account = account_of(PeerId(said.peer))
    if batch.enrolled(account):
        return KNOWN
    revocation = standing.revoked.get(PeerId(said.peer))
    if revocation is not None and (now_s < revocation.until or said.issued < revocation.issued):
        raise Revoked(f"The maintainers revoked this admission ({revocation.why}); hand in a newer certificate.")
    if now_s > said.expires + SKEW_S:
        raise LedgerError("This admission certificate expired; get another with: gridllm join")
    return ACCEPTED if batch.append(entry) else KNOWN
