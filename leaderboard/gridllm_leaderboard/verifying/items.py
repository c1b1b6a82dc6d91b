"""What a round asked: lists that have the roots which the draw names, drawn again from the seed where anyone can."""

from __future__ import annotations

from collections.abc import Callable

from gridllm.charter.contest import TaskRule
from gridllm.errors import LeaderboardError
from gridllm_leaderboard.beacon import seed_of
from gridllm_leaderboard.results import Line, digest_of, items_root, read_items
from gridllm_leaderboard.statements import Draw, ItemSet
from gridllm_leaderboard.tasks.items import checked_all
from gridllm_leaderboard.tasks.task import Task

FindTask = Callable[[TaskRule], Task | None]
"""The task of a rule, as far as it is to be had here: with its generator, or by its public files alone."""


def verify_items(raw: bytes, drawn: ItemSet, rule: TaskRule) -> list[Line]:
    """The items of one task, each well-formed, and no two alike. Raises LeaderboardError."""
    items = read_items(raw)
    if items_root(items) != drawn.root or len(items) != drawn.count:
        raise LeaderboardError(f"The items of the task {rule.name!r} are not those that the draw names.")
    return checked_all(items, rule.kind, f"The task {rule.name!r}")


def verify_drawn(items: list[Line], draw: Draw, rule: TaskRule, task: Task | None) -> tuple[bool, str]:
    """Whether the items could be drawn again, and what is to be said about it.

    Raises:
        LeaderboardError: others follow from the seed, public items are among them, or the files break the commitment.
    """
    if task is None:
        return False, "its public files are not to be had, or were changed since"
    if task.commitment != rule.commitment:
        if task.generated:
            return False, "this version of gridllm generates other items than the rules commit to; update it"
        raise LeaderboardError(f"The public files of the task {rule.name!r} are not those that the rules commit to.")
    public = {digest_of(item) for item in task.practice()} & {digest_of(item) for item in items}
    if public:
        raise LeaderboardError(f"{len(public)} items of the task {rule.name!r} are public ones.")
    if not task.generated:
        return False, "they come from a sealed pool, which only its keeper can draw from"
    again = task.draw(seed_of(draw.lock, draw.head.encode()), len(items))
    if items_root(again) != items_root(items):
        raise LeaderboardError(f"Other items of the task {rule.name!r} follow from the round's seed.")
    return True, f"{len(items)} drawn again from the seed"
