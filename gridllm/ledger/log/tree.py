"""Roots and proofs of a log of any size: pure, and the same wherever the hashes are kept (RFC 9162, section 2.1).

A digest is 32 bytes; an index counts leaves from 0; a size counts leaves. A node ``(level, index)`` is the hash of the
complete subtree over leaves ``index · 2^level`` to ``(index + 1) · 2^level - 1``: level 0 holds the leaves' digests.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from gridllm.errors import LedgerError
from gridllm.merkle import DIGEST_BYTES, node_digest

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()  # of a log without leaves
MAX_SIZE: Final = 2**53  # leaves; every reader of JSON takes it exactly, and databases hold it


class NodeSource(Protocol):
    """Where hashes come from: asked only for complete subtrees of the size in question."""

    def __call__(self, level: int, index: int, /) -> bytes:
        """The 32-byte hash of node ``(level, index)``.

        Raises:
            LedgerError: not held.
        """
        ...


def root_of(size: int, node: NodeSource) -> bytes:
    """The root of the first ``size`` leaves (section 2.1.1).

    Raises:
        LedgerError: no such size, or ``node`` lacks a hash.
    """
    check_size(size)
    return _span_root(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: NodeSource) -> list[bytes]:
    """Digests beside the way from leaf ``index`` up to the root of ``size`` leaves (section 2.1.3.1); up to 53.

    Raises:
        LedgerError: no such leaf or size, or ``node`` lacks a hash.
    """
    check_index(index, size)
    start, end, beside = 0, size, []
    while end - start > 1:
        middle = _middle(start, end)
        if index < middle:
            beside.append(_span_root(middle, end, node))
            end = middle
        else:
            beside.append(_span_root(start, middle, node))
            start = middle
    return beside[::-1]


def consistency_proof(first: int, second: int, node: NodeSource) -> list[bytes]:
    """What shows that ``first`` leaves are the beginning of ``second`` (section 2.1.4.1); up to 53 digests.

    Empty where there is nothing to show: for the same size, and for a log that was empty.

    Raises:
        LedgerError: ``first`` exceeds ``second``, no such size, or ``node`` lacks a hash.
    """
    if first in (0, second):
        check_order(first, second)
        return []
    path = prefix_path(first, second, node)
    return path[1:] if is_power_of_two(first) else path


def prefix_path(first: int, second: int, node: NodeSource) -> list[bytes]:
    """A consistency proof that takes no root for granted, so that it tells both (``prefix_roots``).

    RFC 9162 leaves out its first digest when ``first`` is a power of two: the reader knows it as the first root. Here
    it is always there. 1 ≤ ``first`` < ``second``; up to 54 digests.

    Raises:
        LedgerError: other sizes, or ``node`` lacks a hash.
    """
    check_growth(first, second)
    start, end, beside = 0, second, []
    while first != end:
        middle = _middle(start, end)
        if first <= middle:
            beside.append(_span_root(middle, end, node))
            end = middle
        else:
            beside.append(_span_root(start, middle, node))
            start = middle
    beside.append(_span_root(start, end, node))
    return beside[::-1]


def parents(hashes: bytes) -> bytes:
    """The nodes one level up, in a row as ``hashes`` are: an even number of digests, the first of even index."""
    sha256, pair = hashlib.sha256, 2 * DIGEST_BYTES
    return b"".join([sha256(b"\1" + hashes[at : at + pair]).digest() for at in range(0, len(hashes), pair)])


def check_size(size: int) -> None:
    """Raises:
    LedgerError: a log cannot have ``size`` leaves.
    """
    if not 0 <= size <= MAX_SIZE:
        raise LedgerError(f"A log has 0 to {MAX_SIZE} entries, not {size}.")


def check_index(index: int, size: int) -> None:
    """Raises:
    LedgerError: a log of ``size`` leaves has no leaf ``index``, or there is no such size.
    """
    check_size(size)
    if not 0 <= index < size:
        raise LedgerError(f"A log of {size} entries has no entry {index}; the first is 0.")


def check_order(first: int, second: int) -> None:
    """Raises:
    LedgerError: a log of ``second`` leaves cannot begin with ``first``, or there are no such sizes.
    """
    check_size(first)
    check_size(second)
    if first > second:
        raise LedgerError(f"A log of {first} entries is not the beginning of one of {second}.")


def check_growth(first: int, second: int) -> None:
    """Raises:
    LedgerError: between ``first`` and ``second`` leaves there is no path: the first log is empty, or not the smaller.
    """
    check_order(first, second)
    if first in (0, second):
        raise LedgerError(f"Between logs of {first} and {second} entries there is no path: nothing needs to be shown.")


def is_power_of_two(size: int) -> bool:
    """Whether ``size`` leaves, at least one, make a complete subtree."""
    return size & (size - 1) == 0


def _span_root(start: int, end: int, node: NodeSource) -> bytes:
    """The root over leaves ``start`` to ``end - 1``, where the tree has a node over just these: MTH(D[start:end])."""
    pieces = []
    while start < end:
        level = (end - start).bit_length() - 1
        pieces.append(node(level, start >> level))
        start += 1 << level
    root = pieces.pop()
    while pieces:
        root = node_digest(pieces.pop(), root)
    return root


def _middle(start: int, end: int) -> int:
    """Where the tree splits leaves ``start`` to ``end - 1``, two or more: the left part is the largest power of two."""
    return start + (1 << (end - start - 1).bit_length() - 1)
