"""How long a pass waits for sessions that are due, and that an engine with one session never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.engine.gathering import GATHER_S, SHARE, Rhythm, start_at


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
    assert start_at(1.0, [rhythm(0.02, None)], [], now=1.0) == 1.0


def test_the_first_step_of_a_session_starts_at_once() -> None:
    assert start_at(1.0, [Rhythm()], [rhythm(0.02, 0.985)], now=1.0) == 1.0


def test_a_session_that_is_due_is_waited_for() -> None:
    due_in_5_ms = rhythm(0.040, 0.965)
    assert start_at(1.0, [rhythm(0.040, None)], [due_in_5_ms], now=1.0) == pytest.approx(1.0 + GATHER_S)


@pytest.mark.parametrize("absent", [rhythm(0.040, 1.0), rhythm(0.040, 0.915), rhythm(0.040, None)], ids=str)
def test_nobody_waits_for_those_that_come_later_or_were_due_long_ago(absent: Rhythm) -> None:
    assert start_at(1.0, [rhythm(0.040, None)], [absent], now=1.0) == 1.0


def test_patience_ends() -> None:
    assert start_at(1.0, [rhythm(0.040, None)], [rhythm(0.040, 0.965)], now=1.0 + GATHER_S) == 1.0 + GATHER_S


@given(st.lists(st.builds(rhythm, times, st.none()), min_size=1, max_size=4), rhythms, times, times)
def test_the_wait_is_bounded(ready: list[Rhythm], absent: list[Rhythm], oldest_s: float, later_s: float) -> None:
    now = oldest_s + later_s
    start = start_at(oldest_s, ready, absent, now)
    quickest_s = min(one.pause_s or 0.0 for one in ready)
    assert now <= start <= max(now, oldest_s + min(GATHER_S, SHARE * quickest_s))
