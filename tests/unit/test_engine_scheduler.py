"""The choice of the next pass, and the checks and cuts of steps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.engine.cache import TokenBudget
from gridllm.engine.scheduler import next_pass
from gridllm.errors import BadPosition, Full, Malformed
from gridllm.node.service.steps import kept, lengths_after, passed_on
from gridllm.wire.messages import RowSlice
from gridllm.wire.slices import cut, moved, total_tokens


@dataclass(frozen=True)
class Waiting:
    tokens: int
    decoding: bool
    arrival: int
    blocks: tuple[int, int] = (0, 4)
    priority: int = 0


waiting = st.builds(
    Waiting,
    tokens=st.integers(1, 600),
    decoding=st.booleans(),
    arrival=st.integers(0, 1000),
    blocks=st.sampled_from([(0, 4), (1, 3)]),
    priority=st.integers(0, 3),
)


@given(st.lists(waiting, unique_by=lambda w: w.arrival), st.integers(1, 512))
def test_a_pass_takes_the_oldest_and_stays_within_its_tokens(candidates: list[Waiting], room: int) -> None:
    chosen = next_pass(candidates, room)
    if not candidates:
        assert chosen == []
        return
    oldest = min(candidates, key=lambda c: c.arrival)
    assert chosen[0] == oldest
    assert {c.blocks for c in chosen} == {oldest.blocks}
    assert len(chosen) == 1 or sum(c.tokens for c in chosen) <= room


def test_decoding_goes_before_younger_prompts() -> None:
    prompt, decode, second = Waiting(400, False, 1), Waiting(1, True, 3), Waiting(200, False, 2)
    assert next_pass([decode, second, prompt], 512) == [prompt, decode]


def test_eight_decoding_sessions_share_a_pass() -> None:
    assert len(next_pass([Waiting(1, True, i) for i in range(8)], 512)) == 8


def test_a_higher_class_goes_before_a_lower_one_and_in_a_class_decoding_first() -> None:
    oldest = Waiting(100, False, 0, priority=0)
    poor, rich = Waiting(1, True, 1, priority=0), Waiting(300, False, 2, priority=2)
    chat = Waiting(1, True, 3, priority=2)
    assert next_pass([poor, rich, chat, oldest], 512) == [oldest, chat, rich, poor]
    assert next_pass([poor, rich, chat, oldest], 401) == [oldest, chat, rich]


@given(st.lists(waiting, unique_by=lambda w: w.arrival), st.integers(1, 512))
def test_what_is_left_out_fits_no_more_or_is_of_other_blocks(candidates: list[Waiting], room: int) -> None:
    chosen = next_pass(candidates, room)
    for left in (c for c in candidates if c not in chosen):
        ahead = [c for c in chosen if c is chosen[0] or (c.priority, c.decoding) >= (left.priority, left.decoding)]
        assert left.blocks != chosen[0].blocks or sum(c.tokens for c in ahead) + left.tokens > room


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 300))
def test_nobody_starves_however_many_of_a_higher_class_come(poor: int, rich: int, tokens: int) -> None:
    """Sessions of the highest class fill every pass and return at once; each step below them goes all the same."""
    waiting = [Waiting(300, False, i, priority=3) for i in range(rich)]
    waiting += [Waiting(tokens, False, rich + i, priority=0) for i in range(poor)]
    arrival, passes = poor + rich, 0
    while any(not c.priority for c in waiting):
        while sum(1 for c in waiting if c.priority) < rich:
            waiting.append(Waiting(300, False, arrival, priority=3))
            arrival += 1
        chosen = next_pass(waiting, 512)
        assert chosen[0] == min(waiting, key=lambda c: c.arrival)
        waiting = [c for c in waiting if c not in chosen]
        passes += 1
        assert passes <= poor + rich, "each pass takes the oldest, so at most those before it go before a step"


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[int], list[RowSlice]]:
    """Row lengths of a session, and a valid step for it."""
    lengths = draw(st.lists(st.integers(0, 400), min_size=1, max_size=5))
    rows = draw(st.permutations(range(len(lengths))))
    slices = []
    for row in rows[: draw(st.integers(1, len(lengths)))]:
        source = draw(st.integers(0, len(lengths) - 1))
        tokens = draw(st.integers(1, 300))
        position = draw(st.integers(0, lengths[source]))
        slices.append(RowSlice(row, source, position, tokens, draw(st.integers(0, tokens))))
    return lengths, slices


def apply(rows: list[list[int]], slices: list[tuple[RowSlice, int]], hidden: list[int]) -> list[list[int]]:
    """The rule of the protocol, spelled out on lists."""
    after = list(rows)
    for s, offset in slices:
        after[s.row] = rows[s.source][: s.position] + hidden[offset : offset + s.tokens]
    return after


@given(steps(), st.integers(1, 200))
def test_a_cut_step_does_what_the_whole_step_does(step: tuple[list[int], list[RowSlice]], chunk: int) -> None:
    lengths, slices = step
    rows = [[-(row * 1000 + i) for i in range(n)] for row, n in enumerate(lengths)]
    hidden = list(range(total_tokens(slices)))
    pieces = list(cut(slices, chunk, moved(slices)))
    result = rows
    for piece in pieces:
        result = apply(result, piece, hidden)
    whole = next(iter(cut(slices, 10**9, ())))
    assert result == apply(rows, whole, hidden)
    assert [len(row) for row in result] == lengths_after(slices, lengths)
    assert all(sum(s.tokens for s, _ in piece) <= max(chunk, len(slices)) for piece in pieces)


@given(steps(), st.integers(1, 200))
def test_a_cut_step_keeps_the_same_positions(step: tuple[list[int], list[RowSlice]], chunk: int) -> None:
    _, slices = step
    wanted = {(s.row, p) for s, _ in kept(slices) for p in range(s.position, s.position + s.tokens)}
    found = [
        (s.row, p)
        for piece in cut(slices, chunk, moved(slices))
        for s, _ in kept([part for part, _ in piece])
        for p in range(s.position, s.position + s.tokens)
    ]
    assert sorted(found) == sorted(wanted)


@given(steps(), st.data())
def test_replay_passes_on_exactly_what_is_needed(step: tuple[list[int], list[RowSlice]], data: st.DataObject) -> None:
    lengths, slices = step
    need = [data.draw(st.integers(0, 800)) for _ in lengths]
    sent = {(s.row, p) for s, _ in passed_on(slices, need) for p in range(s.position, s.position + s.tokens)}
    assert sent == {(s.row, p) for s in slices for p in range(s.position, s.position + s.tokens) if p >= need[s.row]}


@pytest.mark.parametrize(
    ("slices", "error"),
    [
        ([RowSlice(0, 0, 6, 1, 1)], BadPosition),
        ([RowSlice(2, 0, 0, 1, 1)], Malformed),
        ([RowSlice(0, 2, 0, 1, 1)], Malformed),
        ([RowSlice(0, 0, 5, 1, 1), RowSlice(0, 0, 5, 1, 1)], Malformed),
        ([RowSlice(0, 0, 5, 1, 2)], Malformed),
    ],
)
def test_a_step_that_does_not_fit_its_session_is_named(slices: list[RowSlice], error: type[Exception]) -> None:
    with pytest.raises(error):
        lengths_after(slices, [5, 3])


@given(st.lists(st.integers(1, 500), max_size=30))
def test_the_budget_never_grants_more_than_it_has(requests: list[int]) -> None:
    budget = TokenBudget(2048)
    granted = []
    for tokens in requests:
        try:
            granted.append(budget.grow(0, tokens))
        except Full:
            assert tokens > budget.free - 64
    assert budget.free == 2048 - sum(granted) >= 0
    for capacity in granted:
        budget.release(capacity)
    assert budget.free == 2048
