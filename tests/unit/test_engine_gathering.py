"""How long a pass waits for sessions that are due, and that an engine with one session never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.engine.gathering import GATHER_S, PASS_SHARE, SHARE, Rhythm, start_at


def rhythm(pause_s: float, done_s: float | None) -> Rhythm:
    """A session that stays away for ``pause_s`` and whose last step was done at ``done_s``."""
    made = Rhythm()
    made.answered(0.0)
    made.asked(pause_s)
    if done_s is not None:
        made.answered(done_s)
    return made


times = st.floats(0, 1, allow_nan=False)
rhythms = st.lists(st.builds(rhythm, times, st.none() | times), max_size=4)


def test_a_session_alone_starts_at_once() -> None:
    assert start_at(1.0, 0.0, [rhythm(0.02, None)], [], now=1.0) == 1.0


def test_the_first_step_of_a_session_starts_at_once() -> None:
    assert start_at(1.0, 0.0, [Rhythm()], [rhythm(0.02, 0.985)], now=1.0) == 1.0


def test_a_session_that_is_due_is_waited_for() -> None:
    due_in_5_ms = rhythm(0.040, 0.965)
    assert start_at(1.0, 0.0, [rhythm(0.040, None)], [due_in_5_ms], now=1.0) == pytest.approx(1.0 + GATHER_S)


@pytest.mark.parametrize(
    "absent",
    [rhythm(0.040, 1.0), rhythm(0.040, 0.915), rhythm(0.040, None)],
    ids=["due later", "due long ago", "not due"],
)
def test_nobody_waits_for_those_that_come_later_or_were_due_long_ago(absent: Rhythm) -> None:
    assert start_at(1.0, 0.0, [rhythm(0.040, None)], [absent], now=1.0) == 1.0


def test_patience_ends() -> None:
    assert start_at(1.0, 0.0, [rhythm(0.040, None)], [rhythm(0.040, 0.965)], now=1.0 + GATHER_S) == 1.0 + GATHER_S


def test_two_groups_that_take_turns_become_one() -> None:
    """The others left the pass before and need 15 ms: less than a quarter of the pass that this saves."""
    assert start_at(1.0, 0.080, [rhythm(0.015, None)], [rhythm(0.015, 0.999)], now=1.0) == pytest.approx(1.020)


@given(st.lists(st.builds(rhythm, times, st.none()), min_size=1, max_size=4), rhythms, times, times, times)
def test_the_wait_is_bounded(
    ready: list[Rhythm], absent: list[Rhythm], since_s: float, later_s: float, pass_s: float
) -> None:
    now = since_s + later_s
    start = start_at(since_s, pass_s, ready, absent, now)
    quickest_s = min(one.pause_s or 0.0 for one in ready)
    assert now <= start <= max(now, since_s + max(min(GATHER_S, SHARE * quickest_s), PASS_SHARE * pass_s))
