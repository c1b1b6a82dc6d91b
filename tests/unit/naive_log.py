"""A log as RFC 9162 defines it, word for word and recursively (section 2.1): what the quick one is held to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence


def leaf(number: int) -> bytes:
    """The digest of a leaf that is like no other."""
    return hashlib.sha256(b"\0" + number.to_bytes(8, "big")).digest()


def leaves(count: int) -> list[bytes]:
    return [leaf(number) for number in range(count)]


def split(count: int) -> int:
    """The largest power of two smaller than ``count``, by counting up."""
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def mth(digests: Sequence[bytes]) -> bytes:
    """2.1.1, over leaf digests instead of data."""
    if not digests:
        return hashlib.sha256(b"").digest()
    if len(digests) == 1:
        return digests[0]
    k = split(len(digests))
    return hashlib.sha256(b"\1" + mth(digests[:k]) + mth(digests[k:])).digest()


def path(m: int, digests: Sequence[bytes]) -> list[bytes]:
    """2.1.3.1."""
    if len(digests) == 1:
        return []
    k = split(len(digests))
    if m < k:
        return [*path(m, digests[:k]), mth(digests[k:])]
    return [*path(m - k, digests[k:]), mth(digests[:k])]


def subproof(m: int, digests: Sequence[bytes], known: bool = True) -> list[bytes]:
    """2.1.4.1; ``known``: the verifier has the root of the first m already."""
    if m == len(digests):
        return [] if known else [mth(digests)]
    k = split(len(digests))
    if m <= k:
        return [*subproof(m, digests[:k], known), mth(digests[k:])]
    return [*subproof(m - k, digests[k:], False), mth(digests[:k])]


def way(m: int, count: int) -> str:
    """From leaf m up to the root of ``count`` leaves: on which side the other subtree is, each time."""
    if count == 1:
        return ""
    k = split(count)
    return way(m, k) + "r" if m < k else way(m - k, count - k) + "l"


def edge_way(m: int, count: int, known: bool = True) -> str:
    """The same from the subtree that ends the first m of ``count`` leaves, and whether that one is in the proof."""
    if m == count:
        return "known" if known else "given"
    k = split(count)
    return edge_way(m, k, known) + "r" if m <= k else edge_way(m - k, count - k, False) + "l"


def node_source(digests: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """Nodes of a log held in a list; a subtree that is not complete there is a fault of whoever asks."""

    def node(level: int, index: int) -> bytes:
        assert index >= 0 and (index + 1) << level <= len(digests)
        return mth(digests[index << level : (index + 1) << level])

    return node
