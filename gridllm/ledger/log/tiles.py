"""A log's hashes in tiles of 256, as in C2SP's tlog-tiles: trees of height 8, of which only the bottom row is kept.

Tile ``(level, index)`` holds hashes ``256 · index`` to ``256 · index + 255`` of the tree's level ``8 · level``: at the
bottom the leaves' digests, above it the root of each full tile of the level below. Tiles fill from the left; of each
level the last may be partial, and is written again, longer, as the log grows. A million leaves make 3924 tiles, 31 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final, Protocol

from gridllm.errors import LedgerError
from gridllm.ledger.log.frontier import joined
from gridllm.ledger.log.tree import NodeSource, consistency_proof, inclusion_proof, parents, root_of
from gridllm.merkle import DIGEST_BYTES

HEIGHT: Final = 8  # levels of the tree from one level of tiles to the next
WIDTH: Final = 1 << HEIGHT  # hashes in a full tile
TILE_BYTES: Final = WIDTH * DIGEST_BYTES  # 8 KiB


class TileStore(Protocol):
    """Where tiles are kept; the caller puts what belongs together into one transaction."""

    def read(self, level: int, index: int) -> bytes | None:
        """The tile's hashes, 1 to 256 of 32 bytes in a row; None: not written yet."""
        ...

    def write(self, level: int, index: int, hashes: bytes) -> None:
        """Keep the tile, in place of a shorter one that it begins with."""
        ...


class MemoryTiles:
    """Tiles in a dict."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}

    def read(self, level: int, index: int) -> bytes | None:
        """See ``TileStore``."""
        return self.tiles.get((level, index))

    def write(self, level: int, index: int, hashes: bytes) -> None:
        """See ``TileStore``."""
        self.tiles[level, index] = hashes


class Tiles:
    """A log's hashes. It remembers nothing: after a transaction that was rolled back it goes on from what is kept."""

    def __init__(self, store: TileStore) -> None:
        self._store = store

    @property
    def size(self) -> int:
        """How many leaves there are; reads two tiles of each level of tiles.

        Raises:
            LedgerError: the tiles do not fit together.
        """
        return self._edge()[0]

    def append(self, digests: Sequence[bytes]) -> int:
        """More leaves, by their digests (``leaf_digest``); writes the last tiles again → the new size.

        Raises:
            LedgerError: a digest is not 32 bytes (nothing was written), or the tiles do not fit together.
        """
        run, level = joined(digests), 0
        size, edge = self._edge()
        while run:
            index, held = edge[level] if level < len(edge) else (0, b"")
            run, level = self._fill(level, index, held + run), level + 1
        return size + len(digests)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves; None: of all.

        Raises:
            LedgerError: there are fewer leaves.
        """
        return root_of(self.size if size is None else size, self._read_once())

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The proof that leaf ``index`` is among the first ``size``.

        Raises:
            LedgerError: ``index`` is not below ``size``, or there are fewer leaves.
        """
        return inclusion_proof(index, size, self._read_once())

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that the first ``first`` leaves are the beginning of the first ``second``.

        Raises:
            LedgerError: ``first`` exceeds ``second``, or there are fewer leaves.
        """
        return consistency_proof(first, second, self._read_once())

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree (``tree.NodeSource``), from one tile.

        Raises:
            LedgerError: the log does not reach so far.
        """
        return _node(self._store.read, level, index)

    def _read_once(self) -> partial[bytes]:
        """A node source that reads each tile once: for one question."""
        return partial(_node, cache(self._store.read))

    def _edge(self) -> tuple[int, list[tuple[int, bytes]]]:
        """The size, and by level the tile that is being filled: its index and hashes (b"" where it begins next)."""
        levels = 0
        while self._store.read(levels, 0) is not None:
            levels += 1
        edge, index = [], 0
        for level in reversed(range(levels)):
            hashes = self._store.read(level, index) or b""
            if len(hashes) % DIGEST_BYTES or len(hashes) >= TILE_BYTES:
                raise LedgerError(f"The log is damaged: its tile {index} of level {level} has {len(hashes)} bytes.")
            edge.append((index, hashes))
            index = index * WIDTH + len(hashes) // DIGEST_BYTES  # each hash here stands for a full tile below
        return index, edge[::-1]

    def _fill(self, level: int, index: int, hashes: bytes) -> bytes:
        """Write tiles of ``hashes`` from ``index`` on → the roots of the full ones, in a row."""
        roots = []
        for at in range(0, len(hashes), TILE_BYTES):
            tile = hashes[at : at + TILE_BYTES]
            self._store.write(level, index + at // TILE_BYTES, tile)
            if len(tile) == TILE_BYTES:
                roots.append(_top(tile))
        return b"".join(roots)


def tiles_of(question: Callable[[NodeSource], object]) -> list[tuple[int, int]]:
    """The tiles, by level and index, that answer a question about the tree: it is asked once, of zeros."""
    found: set[tuple[int, int]] = set()

    def note(level: int, index: int) -> bytes:
        tile_level, tile_index, _, _ = _place(level, index)
        found.add((tile_level, tile_index))
        return bytes(DIGEST_BYTES)

    question(note)
    return sorted(found)


def _place(level: int, index: int) -> tuple[int, int, int, int]:
    """Where the hashes below a node stand: the tile's level and index, and in it the first and one past the last."""
    tile_level, height = divmod(level, HEIGHT)  # ``height`` above the bottom row of that tile
    tile_index, start = divmod(index << height, WIDTH)
    return tile_level, tile_index, start, start + (1 << height)


def _node(read: Callable[[int, int], bytes | None], level: int, index: int) -> bytes:
    tile_level, tile_index, start, end = _place(level, index)
    tile = read(tile_level, tile_index) or b""
    if len(tile) < end * DIGEST_BYTES:
        raise LedgerError(f"The log does not reach entry {((index + 1) << level) - 1}.")
    return _top(tile[start * DIGEST_BYTES : end * DIGEST_BYTES])


def _top(hashes: bytes) -> bytes:
    """The root of a complete subtree over 2^n ``hashes`` in a row."""
    while len(hashes) > DIGEST_BYTES:
        hashes = parents(hashes)
    return hashes
