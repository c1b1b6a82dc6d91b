"""How grading looks: progress while it runs, a table of what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.grading.grader import Done
    from gridllm_leaderboard.grading.plan import Means
    from gridllm_leaderboard.messages import Beyond
    from gridllm_leaderboard.results import ItemResult
    from gridllm_leaderboard.statements import TaskGrade

Kind = Literal["text", "choice"]

UNITS: Final[Mapping[str, str]] = {"text": "bits per byte", "choice": "right"}


def score_of(grades: Sequence[TaskGrade], weights: Mapping[str, int]) -> float:
    """0 to 100, as the ranking counts it; tasks without a weight count once."""
    shares = [(weights.get(one.task, 1), one.points) for one in grades]
    return 100 * sum(weight * points for weight, points in shares) / sum(weight for weight, _ in shares)


def grades_table(grades: Sequence[TaskGrade], kinds: Mapping[str, Kind]) -> Table:
    """Each task's line."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task")
    for title in ("items", "value", "points ±"):
        table.add_column(title, justify="right")
    table.add_column("")
    for one in grades:
        said = f"{one.value:.4f}" if kinds.get(one.task) == "text" else f"{100 * one.value:.1f} %"
        points = f"{100 * one.points:.2f} ± {196 * one.stderr:.2f}"
        table.add_row(one.task, str(one.count), said, points, UNITS.get(kinds.get(one.task, ""), ""))
    return table


def done_line(done: Done, rules: Rules) -> str:
    """One model, for people."""
    if done.grade is None:
        why = "" if done.failure is None else done.failure.reason
        return f"{done.name} ({done.submission[:16]}): {why}"
    weights = {task.name: task.weight for task in rules.tasks}
    kinds = {task.name: task.kind for task in rules.tasks}
    parts = [
        f"{one.task} {one.value:.4f}" if kinds.get(one.task) == "text" else f"{one.task} {100 * one.value:.1f} %"
        for one in done.grade.tasks
    ]
    score = score_of(done.grade.tasks, weights)
    return f"{done.name} ({done.submission[:16]}): score {score:.2f}; {', '.join(parts)}; graded {done.grade.via}"


def beyond_line(one: Beyond, means: Means) -> str:
    """A model that waits for a grader of other means, for people; and what this one's owner can do."""
    from gridllm.cli.show import count_of

    about = f"{one.name} ({count_of(one.parameters)} parameters, {one.size / 1e9:,.1f} GB)"
    if one.parameters <= means.holds:
        return f"{about} waits for another grader: this one tried and could not grade it."
    advice = "give it more with --memory"
    if one.serve and means.way == "local":
        advice += ", or let it run on the grid's nodes with --via auto"
    return f"{about} waits for a grader that can hold it; this one holds {count_of(means.holds)}: {advice}."


def practised_json(grade: TaskGrade, results: Sequence[ItemResult]) -> dict[str, Any]:
    """One task of a practice, with what the model made of each item, in their order."""
    import msgspec

    return grade.model_dump(mode="json") | {"items_in_order": [msgspec.to_builtins(one) for one in results]}


def done_json(done: Done) -> dict[str, Any]:
    """One model, for programs."""
    said = done.grade or done.failure
    return {
        "event": "failed" if done.grade is None else "graded",
        "submission": done.submission,
        "name": done.name,
        **({} if said is None else {"document": said.model_dump(mode="json")}),
    }
