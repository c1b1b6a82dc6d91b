"""Signed heads: a keeper's word for what its log holds, which other keepers sign too once they have followed it there.

A keeper signs a head with its maintainer's key; thereby it is bound to every entry below (RFC 9162, section 2.1). Other
maintainers' signatures on the same head, cosignatures, say: "I have seen it, and it continues every head of this keeper
that I cosigned before". A head with many of them is none that the keeper shows to a single victim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from gridllm.charter.document import SignedCharter
from gridllm.errors import LedgerError, StatementError
from gridllm.identity.fields import HexDigest, HexKey, Strict, UnixSeconds
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature, read_unverified, sign_statement, verify_statement
from gridllm.ledger.log.proof import verify_consistency
from gridllm.ledger.log.tree import EMPTY_ROOT, MAX_SIZE

HEAD_TYPE: Final = "application/vnd.gridllm.head+json"
MAX_HEAD_BYTES: Final = 6 * 1024  # of an envelope; with the signatures of 16 maintainers it has less than 4 KiB


class Head(Strict):
    """The log of ``keeper`` had ``size`` entries when it was ``issued``. Signed by the keeper."""

    grid: HexDigest
    keeper: HexKey  # whose log this is: a maintainer's key
    size: Annotated[int, Field(ge=0, le=MAX_SIZE)]  # entries
    root: HexDigest  # over these entries' digests
    issued: UnixSeconds

    @model_validator(mode="after")
    def _empty_has_one_root(self) -> Self:
        if self.size == 0 and self.root != EMPTY_ROOT.hex():
            raise ValueError("an empty log has another root")
        return self


def sign_head(head: Head, identity: Identity) -> bytes:
    """The envelope of ``head``, signed by its keeper.

    A keeper signs only what it has on disk, and goes on from there: one that was restored from an older copy and signs
    on has told two histories (evidence.py), whatever the reason.

    Raises:
        LedgerError: ``identity`` is not the keeper.
    """
    if head.keeper != identity.public_key.hex():
        raise LedgerError(f"The head of {head.keeper[:16]}… can be signed by its keeper only.")
    return sign_statement(head, HEAD_TYPE, [identity])


def verify_head(raw: bytes, signed: SignedCharter) -> Head:
    """The head in ``raw``, once its keeper, a maintainer whom the charter lets keep books, is known to have signed it.

    Signatures by others are not looked at (``cosigners``), nor is the time.

    Raises:
        LedgerError: not a head, forged, of another grid, or by nobody who may keep its books.
    """
    claimed = _read(raw)
    if claimed.grid != signed.grid:
        raise LedgerError(f"A log's head is of the grid {claimed.grid[:16]}…, not of {signed.grid[:16]}….")
    if claimed.keeper not in signed.charter.keepers:
        raise LedgerError(f"A log's head is by {claimed.keeper[:16]}…, who is no keeper of this grid.")
    return _verify(raw, claimed.keeper)


def cosign_head(raw: bytes, identity: Identity) -> bytes:
    """The same head with one signature more, by ``identity``: another maintainer's, who followed the log until here.

    Before, the caller verifies it (``verify_head``) and that it continues the one it cosigned last (``verify_grown``).

    Raises:
        LedgerError: not a head (a key that signs whatever it is handed would sign a grant), or this keeper's own: it
            signs its own log by ``sign_head`` alone, so that nobody can have it sign a false one.
    """
    head = _read(raw)
    if head.keeper == identity.public_key.hex():
        raise LedgerError("A keeper does not cosign a head that is said to be its own.")
    try:
        cosigned = add_signature(raw, identity)
    except StatementError as error:
        raise LedgerError(f"A log's head cannot be cosigned: {error}") from error
    _read(cosigned)
    return cosigned


def cosigners(raw: bytes, signed: SignedCharter) -> list[str]:
    """Which other maintainers' valid signatures a head bears, besides its keeper's: hex keys, in the charter's order.

    Raises:
        LedgerError: see ``verify_head``.
    """
    head = verify_head(raw, signed)
    return [other for other in signed.charter.maintainers if other != head.keeper and _bears(raw, other)]


def verify_grown(old: Head, new: Head, proof: Sequence[bytes]) -> None:
    """Check that ``new`` continues ``old``: the same keeper's log, with nothing taken away or changed.

    Both heads are verified before; ``proof`` is the keeper's answer (``tree.consistency_proof``).

    Raises:
        LedgerError: the heads are of two logs, or ``proof`` does not show it. What that proves, evidence.py tells.
    """
    if (old.grid, old.keeper) != (new.grid, new.keeper):
        raise LedgerError(f"Heads of {old.keeper[:16]}… and {new.keeper[:16]}… are of two logs.")
    verify_consistency(old.size, new.size, bytes.fromhex(old.root), bytes.fromhex(new.root), proof)


def _read(raw: bytes) -> Head:
    if len(raw) > MAX_HEAD_BYTES:
        raise LedgerError(f"A log's head of {len(raw)} bytes exceeds the limit of {MAX_HEAD_BYTES}.")
    try:
        return read_unverified(raw, Head, HEAD_TYPE)[0]
    except StatementError as error:
        raise LedgerError(f"This is no head of a log: {error}") from error


def _verify(raw: bytes, key: str) -> Head:
    try:
        return verify_statement(raw, Head, HEAD_TYPE, [bytes.fromhex(key)], 1)
    except StatementError as error:
        raise LedgerError(f"A log's head is not signed by {key[:16]}…: it is forged or was altered.") from error


def _bears(raw: bytes, key: str) -> bool:
    try:
        _verify(raw, key)
    except LedgerError:
        return False
    return True
