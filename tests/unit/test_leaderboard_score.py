"""Scores, intervals, claims, places, rows."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.charter.contest import Rules, TaskRule
from gridllm.charter.economy import Prices
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.claims import verify_grade, verify_results
from gridllm_leaderboard.ranking.measured import measured, median_of
from gridllm_leaderboard.ranking.places import places
from gridllm_leaderboard.ranking.resample import RESAMPLES, resampled_sums
from gridllm_leaderboard.ranking.rows import cost, rows
from gridllm_leaderboard.ranking.score import score, scores
from gridllm_leaderboard.records import Entry, Mark
from gridllm_leaderboard.results import ItemResult, Line, digest_of
from gridllm_leaderboard.statements import Draw, Grade, ItemSet, Submission, id_of
from tests.unit.graded_rounds import KINDS, WEIGHTS, choices, graded, model, named, texts

GOLDEN_SUMS = [1300.0, 2011.0, 202.0, 1120.0, 112.0, 3001.0]
GOLDEN_INTERVAL = (31.9256959613255, 41.21796769652307)


def test_a_score_is_the_weighted_mean_of_points() -> None:
    found = score({"facts": choices([1, 0, 1, 1]), "stories": texts([1.0, 2.0, 3.0, 1.0])}, WEIGHTS, named("draw"))
    assert found.score == pytest.approx(100 * (1 * 0.75 + 2 * (0.5 + 0.25 + 0.125 + 0.5) / 4) / 3, abs=1e-9)
    assert found.tasks["facts"].value == 0.75
    assert found.tasks["stories"].value == pytest.approx(7 / 4, abs=1e-12)
    assert found.low < found.score < found.high


def test_bits_per_byte_are_of_the_whole_text() -> None:
    results = [
        ItemResult(named("a"), 0.5, [-10 * math.log(2)], 10),
        ItemResult(named("b"), 0.25, [-180 * math.log(2)], 90),
    ]
    assert score({"t": results}, {"t": 1}).tasks["t"].value == pytest.approx(190 / 100)


def test_intervals_are_the_same_for_ever() -> None:
    """Spelled out: numbers that change with numpy, a processor, or an edit would make every old verdict look forged."""
    sums = resampled_sums("d" * 64, "facts", np.array([[1.0], [10.0], [100.0], [1000.0]]))
    assert sums[:6, 0].tolist() == GOLDEN_SUMS
    rng = random.Random(1)
    found = score(model(rng, 0.5, 2.0, 50), WEIGHTS, "d" * 64)
    assert (found.low, found.high) == GOLDEN_INTERVAL


def test_intervals_are_as_wide_as_theory_says() -> None:
    points = [float(number % 2) for number in range(1000)]
    found = score({"facts": choices(points)}, {"facts": 1}, "x")
    assert (found.high - found.low) / 2 == pytest.approx(100 * 1.96 * 0.5 / math.sqrt(1000), rel=0.08)


def test_resamples_are_of_all_items_alike() -> None:
    counts = resampled_sums("x", "facts", np.eye(7))
    assert counts.shape == (RESAMPLES, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    assert (counts != resampled_sums("y", "facts", np.eye(7))).any()
    assert (counts != resampled_sums("x", "other", np.eye(7))).any()


def test_resamples_come_in_pieces_and_are_the_same() -> None:
    column = np.arange(4000.0)[:, None]
    assert (resampled_sums("x", "t", column)[:, 0] == resampled_sums("x", "t", np.hstack([column, column]))[:, 1]).all()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-1e9, 0), st.integers(1, 10_000)), min_size=1, max_size=20),
)
def test_no_results_make_nan(values: list[tuple[float, float, int]]) -> None:
    results = [ItemResult(named(str(number)), points, [lik], size) for number, (points, lik, size) in enumerate(values)]
    found = score({"t": results}, {"t": 3}, "x")
    numbers = [found.score, found.low, found.high, *found.tasks["t"]]
    assert all(map(math.isfinite, numbers))
    assert 0 <= found.low <= found.high <= 100


def test_odd_results_are_refused() -> None:
    mixed = [choices([1])[0], texts([1.0])[0]]
    for results in ([], mixed, [ItemResult(named("a"), 1.0, [-1.0], 2**40)], choices([1.0] * 5001)):
        with pytest.raises(LeaderboardError):
            measured(results)
    one = measured(choices([1, 0]))
    with pytest.raises(LeaderboardError, match="different items"):
        median_of([one, measured(choices([1, 0, 1]))])
    with pytest.raises(LeaderboardError, match="differ in: stories"):
        scores([{"facts": one}], WEIGHTS, "x")


ITEMS: list[Line] = [
    {"query": "2 + 2 =", "choices": ["3", "4"], "gold": 1},
    {"query": "a", "choices": ["b", "c"], "gold": 0},
]
RESULTS = [ItemResult(digest_of(ITEMS[0]), 1.0, [-3.0, -1.0], 1), ItemResult(digest_of(ITEMS[1]), 1.0, [-2.0, -2.0], 1)]


def test_points_follow_from_log_likelihoods() -> None:
    verify_results("choice", ITEMS, RESULTS, "sums")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: r[:1], "1 results of the 2 items"),
        (lambda r: [r[1], r[0]], "Result 1 .* another item"),
        (lambda r: [r[0], ItemResult(r[1].item, 0.0, r[1].logliks, 1)], "says 0.0 points"),
        (lambda r: [ItemResult(r[0].item, 1.0, [-1.0], 1), r[1]], "it needs 2 numbers"),
        (lambda r: [ItemResult(r[0].item, 1.0, [-1.0, math.inf], 1), r[1]], "it needs 2 numbers"),
        (lambda r: [ItemResult(r[0].item, 1.0, [-3.0, -1.0], 9), r[1]], "says 9 bytes"),
    ],
    ids=["short", "swapped", "points", "choices", "infinite", "size"],
)
def test_results_that_do_not_follow_are_named(spoil: Callable[[list[ItemResult]], list[ItemResult]], says: str) -> None:
    with pytest.raises(LeaderboardError, match=says):
        verify_results("choice", ITEMS, spoil(RESULTS), "sums")


def _rules(**changes: object) -> Rules:
    tasks = tuple(TaskRule(name=name, kind=KINDS[name], commitment=named(name), items=2) for name in sorted(WEIGHTS))
    rules = Rules(
        grid=named("grid"), serial=1, issued=1, account=named("board"), graders=(named("grader"),), tasks=tasks
    )
    return rules.model_copy(update=changes)


def test_a_grade_says_what_its_results_say() -> None:
    one = graded("new", model(random.Random(1), 0.5, 2.0, 20))
    sets = tuple(
        ItemSet(task=said.task, commitment=named(said.task), root=said.items, count=20) for said in one.grade.tasks
    )
    draw = Draw(grid=named("grid"), round=1, lock=named("lock"), head="", items=sets, issued=1)
    verify_grade(one.grade, _rules(), draw, one.results)

    def altered(**changes: object) -> Grade:
        first = one.grade.tasks[0].model_copy(update=changes)
        return one.grade.model_copy(update={"tasks": (first, *one.grade.tasks[1:])})

    for grade, says in (
        (altered(points=0.99), "says points 0.99"),
        (altered(value=0.99), "says value 0.99"),
        (altered(stderr=0.5), "says stderr 0.5"),
        (altered(results=named("else")), "not the ones that the grade names"),
        (altered(items=named("else")), "other items than the round's"),
        (one.grade.model_copy(update={"tasks": one.grade.tasks[:1]}), "exactly the round's tasks"),
        (one.grade.model_copy(update={"grader": named("stranger")}), "no grader by the rules"),
    ):
        with pytest.raises(LeaderboardError, match=says):
            verify_grade(grade, _rules(), draw, one.results)
    with pytest.raises(LeaderboardError, match="it has 0"):
        verify_grade(one.grade, _rules(), draw, {})


def _mark(name: str, value: float, half: float, **tasks: tuple[float, float, float]) -> Mark:
    return Mark(name, 1, value, value - half, value + half, tasks)


def test_places_are_shared_with_the_first_of_a_group() -> None:
    marks = [_mark("a", 50, 1), _mark("b", 49, 1), _mark("c", 48.4, 1), _mark("d", 40, 1), _mark("e", 39.9, 0.1)]
    random.Random(1).shuffle(marks)
    placed = places(marks)
    # b and c are alike, but c is not like a, and a is whom the group is measured by.
    assert [(one.mark.submission, one.place) for one in placed] == [("a", 1), ("b", 1), ("c", 3), ("d", 4), ("e", 4)]


def test_places_by_a_task_and_of_nobody() -> None:
    marks = [
        _mark("a", 50, 1, text=(2.0, 1.9, 2.1), facts=(0.5, 0.4, 0.6)),
        _mark("b", 40, 1, text=(1.0, 0.9, 1.1), facts=(0.9, 0.85, 0.95)),
        _mark("c", 30, 1),
    ]
    assert [one.mark.submission for one in places(marks, "text", "text")] == ["b", "a"]
    assert [one.mark.submission for one in places(marks, "facts")] == ["b", "a"]
    assert places([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=12), st.randoms(use_true_random=False))
def test_places_are_stable_and_never_overlap(values: list[tuple[float, float]], rng: random.Random) -> None:
    marks = [_mark(named(str(number)), value, half) for number, (value, half) in enumerate(values)]
    placed = places(marks)
    rng.shuffle(marks)
    assert places(marks) == placed
    numbers = [one.place for one in placed]
    assert numbers == sorted(numbers)
    assert all(numbers[place - 1] == place for place in numbers)
    assert [one.place for one in places([one.mark for one in placed[:5]])] == numbers[:5]  # nobody behind changes them


def test_a_row_says_what_is_known() -> None:
    said = Submission(
        grid=named("grid"), account=named("author"), root=named("root"), weights=named("w"), name="small", message="",
        license="MIT", base=None, serve=True, parameters=3_000_000, size=9, issued=5,
    )  # fmt: skip
    entry = Entry(id_of(said), b"", said, "graded", 5)
    placed = places([_mark(entry.id, 50, 1, facts=(0.5, 0.4, 0.6)), _mark(named("gone"), 40, 1)])
    (row,) = rows(placed, {entry.id: entry}, entry.id, Prices(), {named("root"): 2_000_000})
    assert (row.place, row.champion, row.cost, row.score.value) == (1, True, cost(Prices(), 2_000_000), 50)
    assert row.cost == 2 * 1000 * 1000  # 2 million parameters × 1,000 tokens × 1,000 micro-credits
    assert row.tasks["facts"].high == 0.6
    (other,) = rows(placed[:1], {entry.id: dataclasses.replace(entry, state="withdrawn")}, None, Prices(), {})
    assert (other.state, other.champion, other.cost) == ("withdrawn", False, 3 * 1000 * 1000)
