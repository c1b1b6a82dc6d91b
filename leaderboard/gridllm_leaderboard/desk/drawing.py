"""A round's items: what its seed draws, and the document that commits to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gridllm.charter.contest import Rules
from gridllm_leaderboard.results import Line, items_root
from gridllm_leaderboard.statements import Draw, ItemSet, Lock, id_of

if TYPE_CHECKING:
    from gridllm_leaderboard.store.view import View
    from gridllm_leaderboard.tasks import Task

Drawn = Mapping[str, tuple[str, Sequence[Line]]]
"""Each task's items, and their root."""


def spent_of(view: View, tasks: Mapping[str, Task]) -> dict[str, set[str]]:
    """Of pools: what rounds before used. A generated task needs none, so that anyone can draw it again."""
    return {name: view.spent(name) for name, task in tasks.items() if not task.generated}


def items_of(rules: Rules, tasks: Mapping[str, Task], seed: bytes, spent: Mapping[str, set[str]]) -> Drawn:
    """What the seed draws. Raises LeaderboardError: a pool has too few items left."""
    drawn: dict[str, tuple[str, Sequence[Line]]] = {}
    for rule in rules.tasks:
        items = tasks[rule.name].draw(seed, rule.items, spent.get(rule.name, ()))
        drawn[rule.name] = items_root(items), items
    return drawn


def draw_of(rules: Rules, lock: Lock, head: bytes, drawn: Drawn, now: int) -> Draw:
    """The document. ``head``: the envelope that the seed follows from."""
    items = tuple(
        ItemSet(task=rule.name, commitment=rule.commitment, root=drawn[rule.name][0], count=rule.items)
        for rule in rules.tasks
    )
    return Draw(grid=lock.grid, round=lock.round, lock=id_of(lock), head=head.decode("ascii"), items=items, issued=now)
