"""Tiles and the right edge hold what the RFC's definition gives, however a log grew, and remember nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.errors import LedgerError
from gridllm.ledger.log.frontier import Frontier
from gridllm.ledger.log.proof import verify_consistency, verify_inclusion
from gridllm.ledger.log.tiles import TILE_BYTES, WIDTH, MemoryTiles, Tiles
from gridllm.ledger.log.tree import EMPTY_ROOT, consistency_proof, inclusion_proof, root_of
from gridllm.merkle import leaf_digest
from tests.unit.naive_log import leaves, mth, node_source, path, subproof

LEAVES = leaves(66_000)  # more than a full tile of the second level
BATCHES = st.lists(st.integers(0, 700) | st.sampled_from([1, 255, 256, 257, 512]), max_size=6)


def log_of(count: int) -> tuple[Tiles, MemoryTiles]:
    store = MemoryTiles()
    tiles = Tiles(store)
    tiles.append(LEAVES[:count])
    return tiles, store


class Counting(MemoryTiles):
    """Counts what is read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []

    def read(self, level: int, index: int) -> bytes | None:
        self.reads.append((level, index))
        return super().read(level, index)

    def write(self, level: int, index: int, hashes: bytes) -> None:
        self.writes.append((level, index))
        super().write(level, index, hashes)


class TestTiles:
    @given(BATCHES)
    @settings(max_examples=40)
    def test_as_defined_whatever_the_batches(self, batches: list[int]) -> None:
        tiles, size = Tiles(MemoryTiles()), 0
        for batch in batches:
            size += batch
            assert tiles.append(LEAVES[size - batch : size]) == size == tiles.size
        assert tiles.root() == tiles.root(size) == mth(LEAVES[:size])

    @given(st.integers(1, 1500), st.data())
    @settings(max_examples=40)
    def test_proofs_of_any_size_it_ever_had(self, size: int, data: st.DataObject) -> None:
        tiles, _ = log_of(1500)
        index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
        assert tiles.root(size) == mth(LEAVES[:size])
        assert tiles.inclusion(index, size) == path(index, LEAVES[:size])
        assert tiles.consistency(first, size) == subproof(first, LEAVES[:size])

    @pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 66_000])
    def test_three_levels_of_tiles(self, size: int) -> None:
        tiles, store = log_of(size - 1)
        tiles.append(LEAVES[size - 1 : size])
        assert tiles.size == size
        root = mth(LEAVES[:size])
        assert tiles.root() == root
        verify_inclusion(root, size, 65_000, LEAVES[65_000], tiles.inclusion(65_000, size))
        verify_consistency(256, size, mth(LEAVES[:256]), root, tiles.consistency(256, size))
        assert ((2, 0) in store.tiles) == (size >= 65_536)

    def test_tiles_are_cut_as_tlog_tiles_cuts_them(self) -> None:
        _, store = log_of(2 * WIDTH + 3)
        assert store.tiles == {
            (0, 0): b"".join(LEAVES[:256]),
            (0, 1): b"".join(LEAVES[256:512]),
            (0, 2): b"".join(LEAVES[512:515]),
            (1, 0): mth(LEAVES[:256]) + mth(LEAVES[256:512]),
        }

    def test_nodes(self) -> None:
        tiles, _ = log_of(1024)
        naive = node_source(LEAVES[:1024])
        assert all(tiles.node(level, i) == naive(level, i) for level in range(11) for i in range(1024 >> level))

    @pytest.mark.parametrize(("level", "index"), [(0, 1000), (3, 125), (8, 3), (9, 1), (10, 0), (17, 0)])
    def test_it_does_not_reach_so_far(self, level: int, index: int) -> None:
        tiles, _ = log_of(1000)
        with pytest.raises(LedgerError, match="does not reach"):
            tiles.node(level, index)

    def test_what_it_does_not_hold(self) -> None:
        tiles, _ = log_of(1000)
        for ask in (
            lambda: tiles.root(1001),
            lambda: tiles.inclusion(5, 1001),
            lambda: tiles.inclusion(1000, 1000),
            lambda: tiles.inclusion(-1, 1000),
            lambda: tiles.consistency(5, 1001),
            lambda: tiles.consistency(6, 5),
        ):
            with pytest.raises(LedgerError):
                ask()

    def test_an_empty_log(self) -> None:
        tiles, store = log_of(0)
        assert (tiles.size, tiles.root(), tiles.append([]), store.tiles) == (0, EMPTY_ROOT, 0, {})

    def test_a_false_digest_writes_nothing(self) -> None:
        tiles, store = log_of(300)
        before = dict(store.tiles)
        with pytest.raises(LedgerError, match="32 bytes, not 31"):
            tiles.append([LEAVES[0], LEAVES[1][:-1], LEAVES[2] + b"\0"])
        assert store.tiles == before

    def test_a_transaction_rolled_back_leaves_no_trace(self) -> None:
        tiles, store = log_of(700)
        before = dict(store.tiles)
        tiles.append(LEAVES[:900])
        tiles.root()
        store.tiles = before  # what a database does
        assert (tiles.size, tiles.root()) == (700, mth(LEAVES[:700]))
        tiles.append(LEAVES[700:1100])
        assert tiles.root() == mth(LEAVES[:1100])

    @pytest.mark.parametrize("tile", [LEAVES[0] + b"\0", LEAVES[0] * 256, LEAVES[0] * 300])
    def test_damaged_tiles_are_not_appended_to(self, tile: bytes) -> None:
        tiles, store = log_of(600)
        store.tiles[0, 2] = tile
        with pytest.raises(LedgerError, match="its tile 2 of level 0"):
            tiles.append(LEAVES[:1])

    def test_it_touches_the_last_tiles_only(self) -> None:
        store = Counting()
        tiles = Tiles(store)
        tiles.append(LEAVES[:65_000])
        store.writes.clear()
        tiles.append(LEAVES[65_000:65_010])
        assert store.writes == [(0, 253)]
        store.writes.clear()
        tiles.append(LEAVES[65_010:65_030])
        assert store.writes == [(0, 253), (0, 254), (1, 0)]  # tile 253 is full, so it is told above

    def test_a_question_reads_each_tile_once(self) -> None:
        store = Counting()
        tiles = Tiles(store)
        tiles.append(LEAVES)
        for ask in (lambda: tiles.inclusion(40_000, 65_999), lambda: tiles.consistency(40_001, 65_999)):
            store.reads.clear()
            ask()
            assert len(store.reads) == len(set(store.reads)) <= 5

    def test_quick_enough(self) -> None:
        store = MemoryTiles()
        tiles = Tiles(store)
        started = time.perf_counter()
        tiles.append(LEAVES)
        per_leaf = (time.perf_counter() - started) / len(LEAVES)
        started = time.perf_counter()
        for index in range(0, 66_000, 660):
            tiles.inclusion(index, 66_000)
        per_proof = (time.perf_counter() - started) / 100
        assert per_leaf < 100e-6  # on two busy cores 1.5 µs
        assert per_proof < 50e-3  # 0.6 ms to 1.4 ms, of a million
        assert max(len(tile) for tile in store.tiles.values()) == TILE_BYTES


class TestFrontier:
    @given(BATCHES)
    @settings(max_examples=40)
    def test_as_defined_whatever_the_batches(self, batches: list[int]) -> None:
        frontier, size = Frontier(), 0
        for batch in batches:
            frontier.extend(LEAVES[size : size + batch])
            size += batch
        assert (frontier.size, frontier.root()) == (size, mth(LEAVES[:size]))

    def test_one_by_one(self) -> None:
        frontier = Frontier()
        for size in range(300):
            assert (frontier.size, frontier.root()) == (size, mth(LEAVES[:size]))
            frontier.append(LEAVES[size])

    @given(st.integers(0, 2000), st.integers(0, 300))
    @settings(max_examples=40)
    def test_goes_on_from_bytes_and_from_a_log_held_elsewhere(self, size: int, more: int) -> None:
        tiles, _ = log_of(2000)
        edge = Frontier.at(size, tiles.node)
        raw = edge.to_bytes()
        again = Frontier.from_bytes(raw)
        assert again.to_bytes() == raw and len(raw) == 8 + 32 * size.bit_count()
        assert edge.root() == again.root() == mth(LEAVES[:size])
        again.extend(LEAVES[size : size + more])
        assert again.root() == mth(LEAVES[: size + more])
        assert edge.root() == mth(LEAVES[:size])  # the other is not touched

    def test_bytes_name_the_subtrees_from_the_left(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:11])
        parts = [mth(LEAVES[:8]), mth(LEAVES[8:10]), LEAVES[10]]
        assert frontier.to_bytes() == (11).to_bytes(8, "big") + b"".join(parts)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\0" * 7,
            b"\0" * 9,
            b"\0" * 40,
            (1).to_bytes(8, "big"),
            (3).to_bytes(8, "big") + LEAVES[0],
            b"\xff" * 2056,
        ],
    )
    def test_bytes_that_are_no_edge(self, raw: bytes) -> None:
        with pytest.raises(LedgerError):
            Frontier.from_bytes(raw)

    def test_a_false_digest_changes_nothing(self) -> None:
        frontier = Frontier()
        frontier.extend(LEAVES[:5])
        with pytest.raises(LedgerError):
            frontier.extend([LEAVES[5], b"short"])
        assert (frontier.size, frontier.root()) == (5, mth(LEAVES[:5]))

    def test_at_a_size_that_is_not_held(self) -> None:
        tiles, _ = log_of(10)
        for size in (11, -1):
            with pytest.raises(LedgerError):
                Frontier.at(size, tiles.node)


def test_all_agree_on_real_entries() -> None:
    digests = [leaf_digest(f"voucher {number}".encode()) for number in range(777)]
    tiles, frontier, node = Tiles(MemoryTiles()), Frontier(), node_source(digests)
    tiles.append(digests)
    frontier.extend(digests)
    assert tiles.root() == frontier.root() == root_of(777, node)
    assert tiles.inclusion(500, 777) == inclusion_proof(500, 777, node)
    assert tiles.consistency(500, 777) == consistency_proof(500, 777, node)
