"""The ranking, kept ready in memory: its rows are worked out when something changes, not when somebody asks."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from gridllm.errors import NotHeld
from gridllm_leaderboard.desk.arrivals import kept_shape
from gridllm_leaderboard.desk.readings import fitting
from gridllm_leaderboard.messages import Rank, RankRow
from gridllm_leaderboard.ranking.places import places
from gridllm_leaderboard.ranking.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gridllm.charter.economy import Prices
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.messages import AskRank
    from gridllm_leaderboard.store.records import Entry, Mark
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

AT_ONCE: Final = 1000  # submissions read in one query
TASKS_WARM: Final = 8  # whose rankings are made before anyone asks; the others' when somebody does
MOST_ORDERS: Final = 34  # rankings kept: by score and by each of 32 tasks

Columns = dict[str, Literal["text", "choice"]]


@dataclass(slots=True)
class _Facts:
    """One state of the store."""

    version: int
    marks: Sequence[Mark]
    entries: Mapping[str, Entry]
    champion: str | None
    blocks: Mapping[str, int]  # parameters in all blocks, by root
    orders: OrderedDict[tuple[str | None, bool], list[RankRow]] = field(default_factory=OrderedDict)


class Standing:
    """Answers ``AskRank``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._facts: _Facts | None = None
        self._turn = asyncio.Lock()

    async def warm(self) -> None:
        """Work out what is asked for most, if anything changed. Raises LeaderboardError: the store cannot be read."""
        async with self._turn:
            version = self._desk.ranked
            if self._facts is not None and self._facts.version == version:
                return
            before = self._facts
            facts = await self._desk.books.read(lambda view: _read(view, version, before))
            await asyncio.to_thread(self._order, facts, None, False)
            self._facts = facts
            # Ten thousand rows are half a million objects that stay: a full collection would look at each, for 0.2 s.
            gc.collect()
            gc.freeze()
            for task in self._desk.rules.tasks[:TASKS_WARM]:
                await asyncio.to_thread(self._order, facts, task.name, False)

    async def rank(self, asked: AskRank) -> Rank:
        """A page.

        Raises:
            NotHeld: there is no such task.
            LeaderboardError: the store cannot be read.
        """
        columns = self._columns()
        if asked.task is not None and asked.task not in columns:
            raise NotHeld(f"This leaderboard has no task {asked.task!r}; it has: {', '.join(columns)}.")
        if self._facts is None:
            await self.warm()
        facts = self._facts
        if facts is None:  # warm raised, or made one
            return Rank(0, columns, [])
        key = asked.task, asked.everyone
        found = facts.orders.get(key)
        if found is None:
            found = await asyncio.to_thread(self._order, facts, *key)
        return Rank(len(found), columns, fitting(found[asked.offset : asked.offset + asked.limit]))

    def _columns(self) -> Columns:
        return {task.name: task.kind for task in self._desk.rules.tasks}

    def _order(self, facts: _Facts, task: str | None, everyone: bool) -> list[RankRow]:
        kind = self._columns().get(task, "choice") if task is not None else "choice"
        shown = [
            mark
            for mark in facts.marks
            if mark.submission in facts.entries and (everyone or facts.entries[mark.submission].state != "withdrawn")
        ]
        prices: Prices = self._desk.signed.charter.economy.prices
        made = rows(places(shown, task, kind), facts.entries, facts.champion, prices, facts.blocks)
        facts.orders[task, everyone] = made
        while len(facts.orders) > MOST_ORDERS:
            facts.orders.popitem(last=False)
        return made


def _read(view: View, version: int, before: _Facts | None) -> _Facts:
    marks = view.marks()
    ids = [mark.submission for mark in marks]
    entries: dict[str, Entry] = {}
    for start in range(0, len(ids), AT_ONCE):
        entries |= view.several(ids[start : start + AT_ONCE])
    blocks = dict(before.blocks) if before is not None else {}
    for entry in entries.values():
        root = entry.submission.root
        if root not in blocks and (shape := kept_shape(view, root)) is not None:
            blocks[root] = shape.block_parameters
    return _Facts(version, marks, entries, view.champion(), blocks)
