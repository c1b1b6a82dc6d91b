"""Verifying what a log shows: its proofs, against roots and sizes from signed heads (RFC 9162, section 2.1).

A root alone does not say how many leaves it stands for, so size and root always come from one signed head (heads.py):
with another size a proof may verify as well, where the way to the root has the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridllm.errors import LedgerError
from gridllm.ledger.log.tree import EMPTY_ROOT, check_growth, check_index, check_order, is_power_of_two
from gridllm.merkle import DIGEST_BYTES, node_digest


def verify_inclusion(root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> None:
    """Check that the leaf of digest ``leaf`` stands at ``index`` in the log of ``size`` leaves under ``root``.

    ``size`` and ``root`` come from one signed head. Section 2.1.3.2.

    Raises:
        LedgerError: it does not.
    """
    check_index(index, size)
    _check_digests(root, leaf, *proof)
    at, last, digest = index, size - 1, leaf  # fn, sn and r of the RFC
    for beside in proof:
        if last == 0:
            raise LedgerError(f"The proof of entry {index} is too long for a log of {size} entries.")
        if at & 1 or at == last:
            digest = node_digest(beside, digest)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            digest = node_digest(digest, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise LedgerError(f"The proof of entry {index} is too short for a log of {size} entries.")
    if digest != root:
        raise LedgerError(f"Entry {index} is not in the log of {size} entries under root {root.hex()[:16]}….")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the log of ``first`` leaves under ``first_root`` is the beginning of that of ``second`` leaves.

    Each size and root come from one signed head. Section 2.1.4.2.

    Raises:
        LedgerError: the proof does not show it.
    """
    check_order(first, second)
    _check_digests(first_root, second_root)
    if first in (0, second):
        if proof:
            raise LedgerError(f"Between logs of {first} and {second} entries a proof is empty, not of {len(proof)}.")
        beginning = EMPTY_ROOT if first == 0 else second_root
        shown = beginning, beginning if first == second else second_root
    else:
        # Which path there is when the first log is a complete subtree: one that starts from its root.
        path = [first_root, *proof] if is_power_of_two(first) else proof
        shown = prefix_roots(first, second, path)
    if shown != (first_root, second_root):
        raise LedgerError(
            f"The log of {first} entries under root {first_root.hex()[:16]}… is not shown to be the beginning of that "
            f"of {second} entries under root {second_root.hex()[:16]}…."
        )


def prefix_roots(first: int, second: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of ``first`` and of ``second`` leaves that ``path`` (``prefix_path``) leads to.

    1 ≤ ``first`` < ``second``. Whoever signed the second root for ``second`` leaves is bound to the first root as well:
    no path to the second leads to another first.

    Raises:
        LedgerError: a path between these sizes looks different.
    """
    check_growth(first, second)
    _check_digests(*path)
    if not path:
        raise LedgerError(f"A proof between logs of {first} and {second} entries is never empty.")
    at, last = first - 1, second - 1  # fn and sn of the RFC
    while at & 1:
        at, last = at >> 1, last >> 1
    small = large = path[0]
    for beside in path[1:]:
        if last == 0:
            raise LedgerError(f"The proof is too long for logs of {first} and {second} entries.")
        if at & 1 or at == last:
            small, large = node_digest(beside, small), node_digest(beside, large)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            large = node_digest(large, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise LedgerError(f"The proof is too short for logs of {first} and {second} entries.")
    return small, large


def _check_digests(*digests: bytes) -> None:
    # Of other lengths, two could be cut differently and still hash to the same parent.
    for digest in digests:
        if len(digest) != DIGEST_BYTES:
            raise LedgerError(f"A digest has {DIGEST_BYTES} bytes, not {len(digest)}.")
