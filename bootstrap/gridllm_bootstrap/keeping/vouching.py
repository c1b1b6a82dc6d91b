"""Signatures of other keepers on a log's head: who followed the log so far says so, and what it says is passed on."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from gridllm.errors import LedgerError, StatementError
from gridllm.identity.statement import join_signatures, only_signed_by
from gridllm.ledger.log.heads import Head, cosign_head, cosigners, verify_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gridllm.charter.document import SignedCharter
    from gridllm.identity.keys import Identity

MOST_REMEMBERED: Final = 256  # heads whose signatures need not be verified again


class Shown(NamedTuple):
    """A head that its keeper signed, without signatures that do not hold."""

    raw: bytes
    head: Head
    cosigners: frozenset[str] = frozenset()  # other maintainers: hex keys

    @property
    def keeper(self) -> str:
        """Whose log it is."""
        return self.head.keeper

    @property
    def size(self) -> int:
        """Entries."""
        return self.head.size


class HeadReader:
    """Verifies heads, each once; in any thread."""

    def __init__(self, signed: SignedCharter) -> None:
        self.signed = signed
        self._known: OrderedDict[bytes, Shown] = OrderedDict()
        self._lock = Lock()

    def read(self, raw: bytes) -> Shown:
        """The head in ``raw``. Raises LedgerError: ``heads.verify_head``."""
        with self._lock:
            known = self._known.get(raw)
        if known is None:
            head = verify_head(raw, self.signed)
            others = cosigners(raw, self.signed)
            known = Shown(only_signed_by(raw, [head.keeper, *others]), head, frozenset(others))
        with self._lock:
            self._known[raw] = known
            self._known.move_to_end(raw)
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        return known

    def read_all(self, raws: Iterable[bytes]) -> list[Shown]:
        """Those of them that are heads of this grid's keepers."""
        found = []
        for raw in raws:
            try:
                found.append(self.read(raw))
            except LedgerError:
                continue  # whoever shows it accuses nobody with it
        return found


def joined(first: Shown, second: Shown) -> Shown:
    """``first`` with the signatures that ``second`` bears besides, if both are one head in the same words."""
    if first.head != second.head or second.cosigners <= first.cosigners:
        return first
    try:
        raw = join_signatures([first.raw, second.raw])
    except StatementError:  # spelled in another way
        return first
    return Shown(raw, first.head, first.cosigners | second.cosigners)


def cosigned(shown: Shown, identity: Identity) -> Shown:
    """The head with ``identity``'s signature, which says that it followed the log so far; its own head as it is."""
    name = identity.public_key.hex()
    if name == shown.keeper or name in shown.cosigners:
        return shown
    return Shown(cosign_head(shown.raw, identity), shown.head, shown.cosigners | {name})
