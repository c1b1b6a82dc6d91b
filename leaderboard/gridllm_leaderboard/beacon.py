"""The beacon: what decides a round's items, and cannot be known before its submissions are locked.

A lock names a keeper of the ledger. The first head that this keeper signs later than the lock, over a log that is not
smaller, is the beacon: its bytes, signature included, and the lock's id make the seed of all items. Nobody but that
keeper can know it beforehand, and it signs before it sees what is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from gridllm.charter.document import SignedCharter
from gridllm.errors import LeaderboardError, LedgerError, StatementError
from gridllm.identity.statement import only_signed_by
from gridllm.ledger.log.heads import Head, verify_head
from gridllm_leaderboard.statements import Lock

DRAW: Final = b"gridllm leaderboard draw"


def seed_of(lock_id: str, head: bytes) -> bytes:
    """32 bytes that a round's items follow from.

    Args:
        lock_id: ``statements.id_of`` the lock, hex.
        head: the envelope, with its keeper's signature alone, in ``only_signed_by``'s spelling: whoever adds another
            must not thereby choose among seeds.
    """
    return hashlib.sha256(b"%s|%s|%s" % (DRAW, lock_id.encode(), head)).digest()


def verify_beacon(raw: bytes, lock: Lock, signed: SignedCharter) -> Head:
    """The head in ``raw``, once it is known to be one that may decide the lock's items.

    Raises:
        LeaderboardError: no head of the lock's keeper, or not signed later than the lock.
    """
    try:
        head = verify_head(raw, signed)
    except LedgerError as error:
        raise LeaderboardError(f"The head that decided a round's items cannot be used: {error}") from error
    if head.keeper != lock.keeper:
        raise LeaderboardError(f"The head is of {head.keeper[:16]}…'s log; the lock names {lock.keeper[:16]}….")
    if raw != only_signed_by(raw, [lock.keeper]):
        raise LeaderboardError("The head bears other signatures than its keeper's, or is spelled in another way.")
    if head.issued <= lock.issued or head.size < lock.size:
        raise LeaderboardError(
            f"The head of {head.size} entries was signed at {head.issued}; the lock, over {lock.size}, at "
            f"{lock.issued}: items are drawn from a later one only."
        )
    return head


def beacon_among(raws: Iterable[bytes], lock: Lock, signed: SignedCharter) -> bytes | None:
    """The earliest of these heads that may decide, with its keeper's signature alone; None: there is none yet."""
    found = []
    for raw in raws:
        try:
            plain = only_signed_by(raw, [lock.keeper])
            found.append((verify_beacon(plain, lock, signed).issued, plain))
        except (LeaderboardError, StatementError):
            continue
    return min(found)[1] if found else None
