"""What clients show of their accounts: read, verified, and what is shown again and again verified once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from gridllm.charter.document import SignedCharter
from gridllm.errors import BadPayment, Full, LedgerError
from gridllm.ids import PeerId
from gridllm.ledger.paper import Rulebook, verify_delegation, verify_pass
from gridllm.ledger.statements import Delegation, Escrow, Pass, Voucher
from gridllm.ledger.trust import SKEW_S
from gridllm.node.counter.rates import SPARE, Rates
from gridllm.node.counter.terms import Shown
from gridllm.wire.messages import Payment

REMEMBERED: Final = 4096  # delegations, and passes

K = TypeVar("K")
T = TypeVar("T")
S = TypeVar("S", Escrow, Voucher)


class Papers:
    """Verifies for one node; bounds what strangers can make it verify."""

    def __init__(self, signed: SignedCharter, rules: Rulebook) -> None:
        self._signed = signed
        self._rules = rules
        self._rates = Rates()
        self._delegations: OrderedDict[tuple[bytes, PeerId], Delegation] = OrderedDict()
        self._passes: OrderedDict[bytes, Pass] = OrderedDict()

    def affords(self, client: PeerId, count: int = 1) -> bool:
        """Whether so many statements of the client's may be verified now."""
        return self._rates.take(client, count)

    def shown(self, payment: Payment, client: PeerId, now_s: float) -> Shown:
        """What was shown with an Open. Whose session the escrow is for, and the pass's time, are not checked.

        Raises:
            BadPayment: forged, expired, of another grid, connection or account.
            Full: too much is to be verified at once.
        """
        key = payment.delegation, client
        known = self._delegations.get(key)
        if known is not None and now_s - known.expires > SKEW_S:
            del self._delegations[key]
        unknown = (key not in self._delegations) + (payment.access not in self._passes) + bool(payment.escrow)
        if unknown and not self._rates.take(client, unknown, spare=SPARE):
            raise Full("Too many payments are shown to this node at once; try another node.")
        grid = self._signed.grid
        delegation = _recall(
            self._delegations, key, lambda: verify_delegation(payment.delegation, grid, client, now_s, SKEW_S)
        )
        access = self.access(payment.access)
        if access.account != delegation.account:
            raise BadPayment("The access pass is of another account than the delegation.")
        return Shown(access, self.read(payment.escrow, Escrow) if payment.escrow else None, payment.pays)

    def access(self, raw: bytes) -> Pass:
        """An access pass by the account's home keeper; its time is not checked. Raises BadPayment."""
        return _recall(self._passes, raw, lambda: verify_pass(raw, self._signed))

    def read(self, raw: bytes, kind: type[S]) -> S:
        """An escrow or a voucher, its signature and price verified. Raises BadPayment."""
        try:
            said = self._rules.read(raw).statement
        except LedgerError as error:
            raise BadPayment(str(error)) from error
        if not isinstance(said, kind):
            raise BadPayment(
                f"What was shown as {kind.__name__} is a statement of another kind, {type(said).__name__}."
            )
        return said


def _recall(known: OrderedDict[K, T], key: K, verify: Callable[[], T]) -> T:
    """What was verified before, or is now. Raises BadPayment."""
    found = known.pop(key, None)
    if found is None:
        try:
            found = verify()
        except LedgerError as error:
            raise BadPayment(str(error)) from error
    known[key] = found
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return found
