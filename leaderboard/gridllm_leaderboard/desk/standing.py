"""The ranking, kept ready in memory: its rows are worked out when something changes, not when somebody asks.

Models that other tasks graded, or the same with other weights, are ranked apart: one section for each yardstick.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gridllm.errors import NotHeld
from gridllm_leaderboard.desk.arrivals import kept_shape
from gridllm_leaderboard.desk.readings import fitting
from gridllm_leaderboard.messages import Rank, RankRow
from gridllm_leaderboard.ranking.places import Kind, places
from gridllm_leaderboard.ranking.rows import rows
from gridllm_leaderboard.ranking.yardstick import yardstick
from gridllm_leaderboard.statements import id_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gridllm.charter.contest import Rules
    from gridllm.charter.economy import Prices
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.messages import AskRank
    from gridllm_leaderboard.records import Entry, Mark
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

AT_ONCE: Final = 1000  # submissions read in one query
TASKS_WARM: Final = 8  # whose rankings are made before anyone asks; the others' when somebody does
MOST_ORDERS: Final = 34  # rankings kept: by score and by each of 32 tasks


@dataclass(frozen=True, slots=True)
class _Section:
    """Models whose scores compare."""

    serial: int  # of the first rules with these tasks and weights
    kinds: Mapping[str, Kind]
    current: bool
    marks: Sequence[Mark]


@dataclass(slots=True)
class _Facts:
    """One state of the store."""

    version: tuple[int, str]  # changes of the store, and id of the rules that hold
    sections: Sequence[_Section]  # that of these rules, then the others, the latest first
    entries: Mapping[str, Entry]
    champion: str | None
    blocks: Mapping[str, int]  # parameters in all blocks, by root
    rounds: Mapping[int, str]  # id of the rules that each was locked under
    older: int = 0  # models that other tasks graded, and that are not withdrawn
    orders: OrderedDict[tuple[str | None, bool], list[RankRow]] = field(default_factory=OrderedDict)

    def shown(self, section: _Section, *, everyone: bool) -> list[Mark]:
        """Those that are listed."""
        found = [mark for mark in section.marks if mark.submission in self.entries]
        return [mark for mark in found if everyone or self.entries[mark.submission].state != "withdrawn"]


class Standing:
    """Answers ``AskRank``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._facts: _Facts | None = None
        self._turn = asyncio.Lock()

    async def warm(self) -> None:
        """Work out what is asked for most, if anything changed. Raises LeaderboardError: the store cannot be read."""
        async with self._turn:
            version = self._desk.ranked, id_of(self._desk.rules)
            if self._facts is not None and self._facts.version == version:
                return
            before = self._facts
            facts = await self._desk.books.read(lambda view: _read(view, self._desk, version, before))
            await asyncio.to_thread(self._order, facts, None, False)
            self._facts = facts
            # Ten thousand rows are half a million objects that stay: a full collection would look at each, for 0.2 s.
            gc.collect()
            gc.freeze()
            for task in list(facts.sections[0].kinds)[:TASKS_WARM]:
                await asyncio.to_thread(self._order, facts, task, False)

    async def rank(self, asked: AskRank) -> Rank:
        """A page.

        Raises:
            NotHeld: there is no such task.
            LeaderboardError: the store cannot be read.
        """
        if self._facts is None:
            await self.warm()
        facts = self._facts
        if facts is None:  # warm raised, or made one
            return Rank(0, {}, [])
        current = facts.sections[0]
        if asked.task is not None and asked.task not in current.kinds:
            raise NotHeld(f"This leaderboard has no task {asked.task!r}; it has: {', '.join(current.kinds)}.")
        key = asked.task, asked.everyone
        found = facts.orders.get(key)
        if found is None:
            found = await asyncio.to_thread(self._order, facts, *key)
        page = fitting(found[asked.offset : asked.offset + asked.limit])
        return Rank(len(found), dict(current.kinds), page, 0 if asked.everyone else facts.older, current.serial)

    def _order(self, facts: _Facts, task: str | None, everyone: bool) -> list[RankRow]:
        prices: Prices = self._desk.signed.charter.economy.prices
        made: list[RankRow] = []
        for one in facts.sections if everyone else facts.sections[:1]:
            placed = places(facts.shown(one, everyone=everyone), task, one.kinds.get(task or "", "choice"))
            made += rows(placed, facts.entries, facts.champion, prices, facts.blocks, one.serial, one.current)
        facts.orders[task, everyone] = made
        while len(facts.orders) > MOST_ORDERS:
            facts.orders.popitem(last=False)
        return made


def _read(view: View, desk: Desk, version: tuple[int, str], before: _Facts | None) -> _Facts:
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
    rounds = dict(before.rounds) if before is not None else {}
    rounds |= view.rules_by_round(max(rounds, default=0))
    known = {id_: desk.rules_of(view, id_) for id_ in {rounds[mark.round] for mark in marks}}
    sections = _sections(marks, rounds, known, desk.rules)
    facts = _Facts(version, sections, entries, view.champion(), blocks, rounds)
    facts.older = sum(len(facts.shown(one, everyone=False)) for one in sections[1:])
    return facts


def _sections(
    marks: Sequence[Mark], rounds: Mapping[int, str], known: Mapping[str, Rules], current: Rules
) -> list[_Section]:
    """Marks by what they were measured by. Pure.

    Args:
        rounds: id of the rules by round.
        known: rules by id.
    """
    now = yardstick(current)
    sticks = {id_: yardstick(rules) for id_, rules in known.items()}
    rules_of = {now: current}  # the first of each yardstick
    for id_, rules in known.items():
        first = rules_of.setdefault(sticks[id_], rules)
        if rules.serial < first.serial:
            rules_of[sticks[id_]] = rules
    by_stick: dict[str, list[Mark]] = {stick: [] for stick in rules_of}
    for mark in marks:
        by_stick[sticks[rounds[mark.round]]].append(mark)
    made = [
        _Section(
            rules_of[stick].serial,
            {task.name: task.kind for task in (current if stick == now else rules_of[stick]).tasks},
            stick == now,
            found,
        )
        for stick, found in by_stick.items()
    ]
    return sorted(made, key=lambda one: (not one.current, -one.serial))
