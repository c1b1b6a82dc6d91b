"""Failure memory: bans grow, fade, and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_records import node, peer

from gridllm.planning.coverage import coverage, gaps, spell_ranges, supply
from gridllm.planning.health import FIRST_BAN_S, HALF_LIFE_S, LONGEST_BAN_S, Health

ONE, TWO = peer(1), peer(2)


def test_bans_double_and_end() -> None:
    health = Health()
    assert health.failed(ONE, 100.0) == FIRST_BAN_S
    assert health.banned(100.0 + FIRST_BAN_S - 0.1) == {ONE}
    assert health.banned(100.0 + FIRST_BAN_S) == frozenset()
    assert health.failed(ONE, 100.0 + FIRST_BAN_S) == pytest.approx(2 * FIRST_BAN_S, rel=0.05)


@given(st.lists(st.floats(0, 1000), max_size=60))
def test_bans_are_bounded(pauses: list[float]) -> None:
    health, now = Health(), 0.0
    for pause in pauses:
        now += pause
        assert FIRST_BAN_S <= health.failed(ONE, now) <= LONGEST_BAN_S
    assert health.banned(now + LONGEST_BAN_S) == frozenset()


def test_strikes_fade_and_are_forgotten() -> None:
    health = Health()
    health.failed(ONE, 0.0)
    assert health.strikes(ONE, HALF_LIFE_S) == pytest.approx(0.5)
    assert health.banned(10 * HALF_LIFE_S) == frozenset()
    assert health.failed(ONE, 10 * HALF_LIFE_S) == FIRST_BAN_S


def test_good_work_frees_and_halves() -> None:
    health = Health()
    health.failed(ONE, 0.0)
    health.failed(ONE, 0.0)
    health.succeeded(ONE)
    health.succeeded(TWO)
    assert health.banned(0.0) == frozenset()
    assert health.strikes(ONE, 0.0) == pytest.approx(1.0)
    health.succeeded(ONE)
    health.succeeded(ONE)
    assert health.strikes(ONE, 0.0) == 0.0


def test_coverage_counts_serving_nodes_alone() -> None:
    records = [node(1, 0, 3), node(2, 2, 9), node(3, 0, 9, state="draining"), node(4, 0, 9, state="joining")]
    assert coverage(records, 5) == [1, 1, 2, 1, 1]
    assert coverage([node(1, 7, 9)], 5) == [0] * 5
    assert gaps([0, 1, 0, 0, 2, 0], 10) == ((10, 11), (12, 14), (15, 16))
    assert spell_ranges(((0, 4), (9, 10))) == "0:4, 9:10"


def test_supply_shares_a_nodes_speed_over_its_blocks() -> None:
    records = [node(1, 0, 2, blocks_per_s=100.0), node(2, 2, 4, blocks_per_s=0.0), node(3, 0, 4, state="draining")]
    assert supply(records, 5) == [50.0, 50.0, 50.0, 50.0, 0.0]
