"""The auditor's own fold over all logs, and what must hold of it whatever the keepers say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gridllm.admission.certificate import Certificate
from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import home_of
from gridllm.ledger.audit.faults import Wrong, short
from gridllm.ledger.fold import Account, Ledger, Tab, apply
from gridllm.ledger.readers import entry_of
from gridllm.ledger.statements import Grant, TabKey
from gridllm.quantities import spell_credits


class Tally(Ledger):
    """Balances from nothing but statements."""

    def __init__(self, signed: SignedCharter, *, admitted: bool | None = None) -> None:
        """``admitted``: whether only admitted nodes were ever to be paid; None: as the charter was founded."""
        super().__init__()
        self._signed = signed
        self._admitted = signed.charter.admission.required if admitted is None else admitted
        self._starter = signed.charter.economy.starter
        self._names: dict[str, str] = {}  # each account's key is held once, in however many tabs it is
        self.statements = 0
        self.minted = 0
        """By grants and starters, counted apart from the accounts, micro-credits."""

    def tab(self, key: TabKey) -> Tab:
        """See ``Ledger``."""
        found = self.tabs.get(key)
        if found is None:
            one = self._names.setdefault
            session, payer, payee, model, start, end = key
            kept = TabKey(session, one(payer, payer), one(payee, payee), one(model, model), start, end)
            found = self.tabs[kept] = Tab()
        return found

    def take(self, told: Iterable[Sequence[Any]]) -> None:
        """Fold in what a worker read."""
        for one in told:
            entry = entry_of(tuple(one))
            changed = apply(self, entry, self._starter)
            if changed and isinstance(entry.statement, Grant):
                self.minted += entry.statement.micro
            elif changed and isinstance(entry.statement, Certificate):
                self.minted += self._starter
            self.statements += 1

    def faults(self) -> Iterator[Wrong]:
        """What must never be: credit out of nothing, and accounts that spent what they did not have, or paid nodes
        that nobody admitted. A log read a moment before another may lack what explains it: then read on.
        """
        total = sum(account.balance for account in self.accounts.values())
        if total != self.minted:
            yield Wrong(
                f"All balances add up to {spell_credits(total)} credits, but grants and starters to "
                f"{spell_credits(self.minted)}."
            )
        for key, account in sorted(self.accounts.items()):
            if account.balance < 0:
                home = self._home(key)
                yield Wrong(
                    f"The account {short(key)} has {spell_credits(account.balance)} credits: its home keeper "
                    f"{short(home)} let it spend what it did not have.",
                    keeper=home,
                )
        if self._admitted:
            yield from self._unadmitted()

    def _unadmitted(self) -> Iterator[Wrong]:
        enrolled = {subject.hex() for kind, subject in self.seen if kind == "enrolment"}
        for key, tab in self.tabs.items():
            if tab.paid and key.payee not in enrolled:
                home = self._home(key.payer)
                yield Wrong(
                    f"The account {short(key.payee)} was paid for serving, and no certificate that admits it is in "
                    f"the books; the keeper {short(home)} took the vouchers of {short(key.payer)}. Unless the "
                    "maintainers had lifted admission then, it had no right to.",
                    keeper=home,
                )

    def _home(self, account: str) -> str:
        return home_of(account, self._signed.charter.keepers)

    def sums(self, account: str) -> Account:
        """The account's sums; zeros where the books do not name it."""
        return self.accounts.get(account) or Account()
