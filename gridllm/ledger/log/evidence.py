"""Evidence that a keeper told two histories: two heads of its own that no single log can have.

It is not signed, for it proves itself: anyone with the charter verifies it offline, whoever hands it in.

**The same size, two roots.** The two signed heads are the whole proof.

**Two sizes.** The larger head's root binds its keeper to the root of each shorter beginning as well: the digests of
``tree.prefix_path`` lead from that beginning's root to the larger root, and no others do. So the accuser adds this
path; where the beginning's root is not the one that the keeper signed for that size, the keeper lied in one of
the two. To compute the path one needs hashes of the larger log (its leaves or its tiles), not of the smaller one. No
honest keeper can be accused: a false path would be a collision in SHA-256.

What cannot be proven:

- that a keeper withholds. One that signs a head and shows nobody the log below it cannot be convicted of more than not
  answering: its answers are not signed, so a consistency proof that fails could be anybody's invention. Cosigners then
  go no further, and such a head stays without their signatures.
- two histories shown to people who never compare heads. Hence cosignatures, and heads that are passed on.
- intent. A keeper restored from an old copy that signs on looks the same, and its books are as little use.
- a log that only grows and yet is false: what entries say is for the fold over the books to check, not for the tree.
- that a keeper showed an older head again: it is stale, but it is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, ValidationError

from gridllm.charter.document import SignedCharter
from gridllm.errors import LedgerError
from gridllm.identity.fields import HexDigest, HexKey, Strict
from gridllm.identity.statement import only_signed_by
from gridllm.ledger.log.heads import MAX_HEAD_BYTES, Head, verify_head
from gridllm.ledger.log.proof import prefix_roots
from gridllm.ledger.log.tree import NodeSource, prefix_path

MAX_EVIDENCE_BYTES: Final = 20 * 1024

_Envelope = Annotated[str, Field(max_length=MAX_HEAD_BYTES, pattern=r"^[ -~]*$")]  # JSON in ASCII


class Equivocation(Strict):
    """``keeper`` signed ``first`` and ``second``, which no single log can have."""

    grid: HexDigest
    keeper: HexKey
    first: _Envelope  # the head of the smaller log; of the same size, that of the smaller root
    second: _Envelope
    proof: Annotated[list[HexDigest], Field(max_length=64)]  # the path from first to second; empty for the same size

    @property
    def raw(self) -> bytes:
        """As it is passed on: JSON."""
        return self.model_dump_json().encode()


def conflict(raw_a: bytes, raw_b: bytes, signed: SignedCharter) -> Equivocation | None:
    """Evidence if both heads are by one keeper, of one size and of different roots.

    None says nothing of heads of different sizes: for these, see ``fork``.

    Raises:
        LedgerError: one of them is no valid head (``verify_head``).
    """
    (_, first), (_, second) = pair = _in_order(raw_a, raw_b, signed)
    if first.keeper != second.keeper or first.size != second.size or first.root == second.root:
        return None
    return _accuse(pair, signed, [])


def fork(raw_a: bytes, raw_b: bytes, signed: SignedCharter, node: NodeSource) -> Equivocation | None:
    """Evidence if the larger log does not begin with the smaller; None: it does, or they are two keepers' logs.

    ``node`` gives hashes of the larger log, as one made them from its entries, or as the keeper's tiles hold them.

    Raises:
        LedgerError: one of them is no valid head, or ``node`` does not lead to the larger head's root: then it holds
            something else than what the keeper signed, which proves nothing.
    """
    (_, first), (_, second) = pair = _in_order(raw_a, raw_b, signed)
    if first.keeper != second.keeper or first.size == 0:
        return None
    if first.size == second.size:
        return conflict(raw_a, raw_b, signed)
    path = prefix_path(first.size, second.size, node)
    return _accuse(pair, signed, path) if _differ(first, second, path) else None


def fork_along(raw_a: bytes, raw_b: bytes, signed: SignedCharter, path: Sequence[bytes]) -> Equivocation | None:
    """The same of heads of two sizes, by a path that somebody showed who holds the larger log.

    Such a path is a consistency proof; one from a power of two has the root of the shorter beginning before it.

    Raises:
        LedgerError: one of them is no valid head, or ``path`` does not lead to the larger head's root.
    """
    (_, first), (_, second) = pair = _in_order(raw_a, raw_b, signed)
    if first.keeper != second.keeper or first.size == 0:
        return None
    return _accuse(pair, signed, list(path)) if _differ(first, second, list(path)) else None


def verify_equivocation(raw: bytes, signed: SignedCharter) -> Equivocation:
    """The evidence in ``raw``, once it is known to convict the keeper that it names.

    Raises:
        LedgerError: malformed, of another grid, by heads that are not both this keeper's, or it proves nothing.
    """
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise LedgerError(f"Evidence of {len(raw)} bytes exceeds the limit of {MAX_EVIDENCE_BYTES}.")
    try:
        evidence = Equivocation.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise LedgerError("This is no evidence against a keeper: it is malformed.") from error
    first, second = verify_head(evidence.first.encode(), signed), verify_head(evidence.second.encode(), signed)
    if evidence.grid != signed.grid or not evidence.keeper == first.keeper == second.keeper:
        raise LedgerError(f"Evidence against {evidence.keeper[:16]}… shows heads of others, or of another grid.")
    path = [bytes.fromhex(digest) for digest in evidence.proof]
    same_size = first.size == second.size and not path
    if not (first.root != second.root if same_size else _differ(first, second, path)):
        raise LedgerError(f"The heads shown against {evidence.keeper[:16]}… are of one history.")
    return evidence


def _differ(first: Head, second: Head, path: list[bytes]) -> bool:
    """Whether ``second``, to which ``path`` must lead, begins otherwise than ``first``."""
    beginning, whole = prefix_roots(first.size, second.size, path)
    if whole.hex() != second.root:
        raise LedgerError(f"These hashes lead to another log than the {second.size} entries that the keeper signed.")
    return beginning.hex() != first.root


def _in_order(raw_a: bytes, raw_b: bytes, signed: SignedCharter) -> list[tuple[bytes, Head]]:
    """Both heads, verified; the smaller log first, so that all accusers hand in the same evidence."""
    heads = [(raw, verify_head(raw, signed)) for raw in (raw_a, raw_b)]
    return sorted(heads, key=lambda each: (each[1].size, each[1].root))


def _accuse(pair: list[tuple[bytes, Head]], signed: SignedCharter, path: list[bytes]) -> Equivocation:
    keeper = pair[0][1].keeper
    first, second = (only_signed_by(raw, [keeper]).decode("ascii") for raw, _ in pair)
    return Equivocation(
        grid=signed.grid, keeper=keeper, first=first, second=second, proof=[digest.hex() for digest in path]
    )
