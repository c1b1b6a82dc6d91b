"""Placement: everything gets served, evenly, and nodes that start together choose differently."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_records import node, peer, small_grids

from gridllm.planning.coverage import coverage, gaps, supply
from gridllm.planning.placement import (
    BlockRange,
    bytes_needed,
    cache_tokens_beside,
    capacity_blocks,
    choose_span,
)
from gridllm.planning.rebalancing import should_move
from gridllm.wire.record import NodeRecord

MIB = 2**20


def place(count: int, blocks: int, capacity: int, salt: int) -> list[NodeRecord]:
    records: list[NodeRecord] = []
    for number in range(count):
        start, end = choose_span(records, blocks, capacity, peer(salt + number))
        assert 0 <= start < end <= blocks
        assert end - start == min(capacity, blocks)
        records.append(node(salt + number, start, end))
    return records


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9999))
def test_as_many_nodes_as_needed_cover_everything(blocks: int, capacity: int, salt: int) -> None:
    needed = -(-blocks // capacity)
    assert gaps(coverage(place(needed, blocks, capacity, salt), blocks)) == ()


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(0, 9999))
def test_rounds_of_equal_nodes_cover_evenly(parts: int, capacity: int, rounds: int, salt: int) -> None:
    blocks = parts * capacity
    counts = coverage(place(parts * rounds, blocks, capacity, salt), blocks)
    assert counts == [rounds] * blocks


@given(st.integers(2, 30), st.integers(1, 30), st.integers(1, 25), st.integers(0, 9999))
def test_every_full_round_serves_every_block_once_more(blocks: int, capacity: int, count: int, salt: int) -> None:
    counts = coverage(place(count, blocks, capacity, salt), blocks)
    assert min(counts) >= count // -(-blocks // capacity)


@given(small_grids(blocks=12, most=9), st.integers(1, 12), st.integers(0, 50))
def test_takes_the_least_served_block(records: list[NodeRecord], capacity: int, number: int) -> None:
    start, end = choose_span(records, 12, capacity, peer(1000 + number))
    served = supply(records, 12)
    assert min(served[start:end]) == pytest.approx(min(served), abs=1e-6)


def test_a_gap_wins_over_slow_blocks_and_slow_blocks_over_fast() -> None:
    fast, slow = node(1, 0, 4, blocks_per_s=1000.0), node(2, 4, 8, blocks_per_s=10.0)
    assert choose_span([fast, slow], 12, 4, peer(9)) == (8, 12)
    assert choose_span([fast, slow, node(3, 8, 12)], 12, 4, peer(9)) == (4, 8)


def test_draining_counts_for_nothing_and_joining_for_nearly_all() -> None:
    records = [node(1, 0, 4), node(2, 4, 8, state="draining"), node(3, 8, 12, state="joining")]
    assert choose_span(records, 12, 4, peer(9)) == (4, 8)
    assert choose_span([*records, node(4, 4, 8)], 12, 4, peer(9)) == (8, 12)


def test_own_record_and_a_small_model_do_not_matter() -> None:
    assert choose_span([node(9, 0, 4)], 4, 4, peer(9)) == (0, 4)
    assert choose_span([node(9, 0, 4), node(1, 4, 8)], 8, 4, peer(9)) == (0, 4)
    assert choose_span([], 4, 99, peer(9)) == (0, 4)
    with pytest.raises(ValueError, match="0 of 4"):
        choose_span([], 4, 0, peer(9))


def test_nodes_that_see_nobody_spread_by_their_ids() -> None:
    starts = [choose_span([], 12, 4, peer(number))[0] for number in range(300)]
    assert {start: starts.count(start) > 60 for start in set(starts)} == {0: True, 4: True, 8: True}


@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 9999))
def test_nodes_that_start_together_settle_on_different_spans(parts: int, capacity: int, salt: int) -> None:
    """All announce their first choice at once, then each chooses again around those that started earlier."""
    blocks = parts * capacity
    seen: dict[int, NodeRecord] = {}
    for number in range(parts):
        span = choose_span([], blocks, capacity, peer(salt + number), 7.0)
        seen[number] = node(salt + number, *span, state="joining", blocks_per_s=0.0, since=7.0)
    for _ in range(parts):
        chosen: dict[int, BlockRange] = {
            number: choose_span(seen.values(), blocks, capacity, peer(salt + number), 7.0) for number in seen
        }
        seen = {n: msgspec.structs.replace(seen[n], start=a, end=b) for n, (a, b) in chosen.items()}
    assert len(set(chosen.values())) == parts


@given(st.integers(0, 10**11), st.integers(1, 10**9), st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 9999))
def test_what_fits_fits(free: int, block: int, per_token: int, blocks: int, tokens: int) -> None:
    fit = capacity_blocks(free, block, per_token, blocks=blocks, cache_tokens=tokens)
    assert 0 <= fit <= blocks
    assert fit * (block + tokens * per_token) <= free
    if fit:
        assert cache_tokens_beside(free, block, per_token, blocks=fit) >= min(tokens, 65_536)
    if fit < blocks:
        enough = bytes_needed(fit + 1, block, per_token, cache_tokens=tokens)
        assert enough > free
        assert capacity_blocks(enough, block, per_token, blocks=blocks, cache_tokens=tokens) > fit


def test_capacity_leaves_room() -> None:
    assert capacity_blocks(1024 * MIB, 100 * MIB, 0, blocks=32) == 8  # a tenth and one pass's buffers stay free
    assert capacity_blocks(100 * MIB, 100 * MIB, 0, blocks=32) == 0


def test_moves_to_close_a_gap_and_only_one_of_the_twins_does() -> None:
    twins = [node(1, 0, 4), node(2, 0, 4)]
    for turn in range(10):
        moves = [should_move(twins, twin, 8, turn) for twin in twins]
        assert sorted(moves, key=str) == [(4, 8), None]
    movers = {should_move(twins, twins[0], 8, turn) for turn in range(20)}
    assert movers == {(4, 8), None}, "each gets its turn"
    announced = [msgspec.structs.replace(twins[0], start=4, end=8, state="joining"), twins[1]]
    assert all(should_move(announced, twins[1], 8, turn) is None for turn in range(10))


def test_closes_one_gap_of_several() -> None:
    records = [node(1, 0, 4), node(2, 0, 4)]
    targets = {should_move(records, record, 12) for record in records} - {None}
    assert len(targets) == 1
    assert targets <= {(4, 8), (8, 12)}


def test_stays_where_moving_would_open_a_hole_or_bring_little() -> None:
    alone = [node(1, 0, 4), node(2, 4, 8)]
    assert all(should_move(alone, record, 8) is None for record in alone)
    slightly = [node(1, 0, 4), node(2, 0, 4), node(3, 4, 8), node(4, 4, 8, blocks_per_s=80.0)]
    assert all(should_move(slightly, record, 8) is None for record in slightly)
    leaving = node(1, 0, 4, state="draining")
    assert should_move([leaving, node(2, 0, 4)], leaving, 8) is None


def test_moves_when_the_weakest_block_gains_clearly() -> None:
    records = [node(n, 0, 4) for n in range(4)] + [node(9, 4, 8)]
    assert sorted((should_move(records, record, 8) for record in records), key=str) == [(4, 8)] + [None] * 4


@given(small_grids(blocks=8, most=8))
def test_moving_never_loops(records: list[NodeRecord]) -> None:
    """Each move raises the worth by a factor or closes a gap, so a fleet that moves one at a time comes to rest."""
    fleet = {record.peer: record for record in records}
    for _ in range(40):
        moves = [(p, should_move(fleet.values(), r, 8)) for p, r in fleet.items()]
        going = [(p, target) for p, target in moves if target is not None]
        if not going:
            return
        before = coverage(fleet.values(), 8)
        mover, target = going[0]
        fleet[mover] = msgspec.structs.replace(fleet[mover], start=target[0], end=target[1])
        assert coverage(fleet.values(), 8).count(0) <= before.count(0)
    pytest.fail("nodes keep moving")
