"""Grading without a model: points, the journal, where a model runs, what was signed, signs of learning by heart."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gridllm.errors import LeaderboardError, UsageError
from gridllm_leaderboard.contamination import advantages, overlaps_of, sharing
from gridllm_leaderboard.grading.journal import Journal
from gridllm_leaderboard.grading.kept import Ledge, keep_signed, signed_in
from gridllm_leaderboard.grading.limits import limits_for, needed_bytes
from gridllm_leaderboard.grading.plan import Means, TooLargeError, Way, way_for
from gridllm_leaderboard.ranking.points import grade_of, result_of, value_of
from gridllm_leaderboard.results import ItemResult, Line, digest_of
from gridllm_leaderboard.statements import Grade, TaskGrade

GIB = 2**30
TEXT: Line = {"text": "größer"}
CHOICE: Line = {"query": "2 + 2 =", "choices": ["5.", "4.", "3."], "gold": 1}


def test_points_of_a_text_fall_with_its_bits() -> None:
    result = result_of("text", TEXT, [-8 * math.log(2)])
    assert result == ItemResult(digest_of(TEXT), 0.5, [-8 * math.log(2)], 8)  # 8 bits over 8 bytes


@pytest.mark.parametrize(
    ("logliks", "points"),
    [
        pytest.param([-3.0, -1.0, -2.0], 1.0, id="right"),
        pytest.param([-1.0, -2.0, -3.0], 0.0, id="wrong"),
        pytest.param([-1.0, -1.0, -3.0], 0.0, id="tie"),
        pytest.param([-3.0, -1.0, -1.0], 1.0, id="tie won"),
    ],
)
def test_of_choices_the_likeliest_counts_and_of_equals_the_first(logliks: list[float], points: float) -> None:
    assert result_of("choice", CHOICE, logliks).points == points


@pytest.mark.parametrize("logliks", [[-1.0], [-1.0, math.nan, -1.0], [-1.0, -math.inf, -1.0]])
def test_what_is_no_likelihood_makes_no_result(logliks: list[float]) -> None:
    with pytest.raises(LeaderboardError, match="it needs 3 numbers"):
        result_of("choice", CHOICE, logliks)


def test_a_grade_says_bits_over_all_bytes_and_mean_points() -> None:
    results = [
        result_of("text", {"text": "a" * size}, [-size * bits * math.log(2)]) for size, bits in ((10, 1), (30, 2))
    ]
    grade = grade_of("stories", "text", "ab" * 32, results)
    assert grade.value == pytest.approx(70 / 40) == value_of("text", results)
    assert grade.points == pytest.approx((0.5 + 0.25) / 2)
    assert grade.stderr == pytest.approx(0.125)
    assert grade.count == 2


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, "model a") as journal:
        journal.add("sums", "ab" * 32, [-1.5, -2.5])
        journal.add("sums", "cd" * 32, [-3.5, -4.5])
    with path.open("ab") as file:
        file.write(b'{"task":"sums","item":"ef')  # cut off by a crash
    with Journal(path, "model a") as journal:
        assert len(journal) == 2
        assert journal.get("sums", "ab" * 32) == [-1.5, -2.5]
        assert journal.get("facts", "ab" * 32) is None
        journal.add("facts", "ab" * 32, [-0.5])
    with Journal(path, "model a") as journal:
        assert len(journal) == 3
        assert journal.get("facts", "ab" * 32) == [-0.5]


def test_a_journal_about_something_else_begins_anew(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", "model a") as journal:
        journal.add("sums", "ab" * 32, [-1.5])
    with Journal(tmp_path / "journal.jsonl", "model b") as journal:
        assert len(journal) == 0
    assert (tmp_path / "journal.jsonl").read_bytes() == b"model b\n"


def test_a_damaged_line_and_what_follows_it_are_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, "a") as journal:
        for number in range(3):
            journal.add("sums", f"{number:064x}", [-1.0])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b"\xff" + lines[2][1:] + lines[3])
    with Journal(path, "a") as journal:
        assert len(journal) == 1
        journal.add("sums", f"{1:064x}", [-2.0])
    with Journal(path, "a") as journal:
        assert journal.get("sums", f"{1:064x}") == [-2.0]


def means(way: Way = "auto", memory: int = 4 * GIB) -> Means:
    return Means(way, memory, "float32", "cpu", 2)


def test_a_model_runs_where_it_fits() -> None:
    small, large = 100_000_000, 7_000_000_000
    assert way_for(means(), small, serve=True) == "local"
    assert way_for(means(), large, serve=True) == "grid"
    assert way_for(means("grid"), small, serve=True) == "grid"
    with pytest.raises(
        TooLargeError, match=r"takes 36\.6 GB .* gives 4\.3 GB, and its author does not let the grid run"
    ):
        way_for(means(), large, serve=False)
    with pytest.raises(TooLargeError, match="told not to use the grid"):
        way_for(means("local"), large, serve=True)
    with pytest.raises(UsageError, match="does not let the grid run this model"):
        way_for(means("grid"), small, serve=False)


def test_bounds_grow_with_model_and_text() -> None:
    small, large = limits_for(10**5, 10**5, 2), limits_for(10**9, 10**5, 2)
    assert small.wall_s == 910
    assert large.wall_s == 100_900
    assert large.cpu_s == 2 * large.wall_s
    assert 4 * 10**9 < needed_bytes(10**9, "float32") < 8 * 10**9


def test_what_was_signed_first_stays(tmp_path: Path) -> None:
    ledge = Ledge(tmp_path, "ab" * 32, "cd" * 32)
    folder = ledge.folder("11" * 32, "22" * 32)
    assert signed_in(folder) is None
    assert keep_signed(folder, b"first", False) == b"first"
    assert keep_signed(folder, b"second", False) == b"first"
    assert keep_signed(folder, b"a failure", True) == b"first"
    assert signed_in(ledge.folder("11" * 32, "22" * 32)) == (b"first", False)
    assert signed_in(ledge.folder("11" * 32, "33" * 32)) is None


def test_an_account_grades_once_at_a_time(tmp_path: Path) -> None:
    with Ledge(tmp_path, "ab" * 32, "cd" * 32).alone():
        with (
            pytest.raises(LeaderboardError, match="Another `gridllm leaderboard grade`"),
            Ledge(tmp_path, "ab" * 32, "cd" * 32).alone(),
        ):
            pass
        with Ledge(tmp_path, "ab" * 32, "ef" * 32).alone():
            pass


def grade(sealed: TaskGrade, practice: TaskGrade | None) -> Grade:
    return Grade(
        grid="ab" * 32, round=1, draw="cd" * 32, submission="ef" * 32, root="12" * 32, grader="34" * 32,
        harness="lm_eval 0.4.13", dtype="float32", via="local", tasks=(sealed,),
        practice=() if practice is None else (practice,), issued=1,
    )  # fmt: skip


def share(right: int, count: int) -> TaskGrade:
    results = [result_of("choice", CHOICE, [-2.0, -1.0 if at < right else -3.0, -4.0]) for at in range(count)]
    return grade_of("sums", "choice", "ab" * 32, results)


def test_learning_public_items_by_heart_shows() -> None:
    report = overlaps_of([grade(share(30, 100), share(100, 100))])
    assert 0.4 < report["sums"] < 0.7
    found = advantages(grade(share(30, 100), share(100, 100)))["sums"]
    assert found.value == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("sealed", "public"),
    [
        pytest.param(share(30, 100), share(36, 100), id="noise"),
        pytest.param(share(100, 100), share(100, 100), id="perfect"),
        pytest.param(share(17, 20), share(20, 20), id="few"),
        pytest.param(share(60, 100), share(20, 100), id="worse"),
    ],
)
def test_an_honest_model_is_not_suspected(sealed: TaskGrade, public: TaskGrade) -> None:
    assert overlaps_of([grade(sealed, public)]) == {"sums": 0.0}


def test_without_public_results_there_is_no_report() -> None:
    assert overlaps_of([grade(share(1, 2), None)]) == {}


def test_items_that_share_a_run_of_words_are_counted() -> None:
    words = [f"w{number}" for number in range(60)]
    public = [{"text": " ".join(words[:40])}]
    items = [{"text": "before " + " ".join(words[20:33])}, {"text": " ".join(words[20:32])}, {"text": "short one"}]
    assert sharing(items, public) == pytest.approx(1 / 3)
    assert sharing([{"text": "Short  One"}], items) == 1.0
    assert sharing([], public) == 0.0
