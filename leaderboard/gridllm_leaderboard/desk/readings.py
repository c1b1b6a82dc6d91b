"""What anyone may read: submissions, champions, rounds, dossiers, lists and files of tasks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from gridllm.errors import NotHeld
from gridllm.swarm.interface import MAX_CALL_BYTES
from gridllm_leaderboard.desk.views import reign_view, round_view, submission_view
from gridllm_leaderboard.messages import (
    PIECE_BYTES,
    Annulled,
    AnnulledRound,
    AskAnnulled,
    AskDossier,
    AskFile,
    AskHistory,
    AskLines,
    AskRounds,
    AskSubmissions,
    Dossier,
    History,
    Piece,
    Rounds,
    Submissions,
    pack,
)

if TYPE_CHECKING:
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.messages import Message
    from gridllm_leaderboard.records import Entry, Round
    from gridllm_leaderboard.store.view import View

FULL_BYTES: Final = MAX_CALL_BYTES - 64 * 1024  # of an answer; a page ends earlier rather than exceed it
LISTS_KEPT: Final = 4  # in memory while their pieces are asked for
KEPT_BYTES: Final = 128 * 1024 * 1024  # of them together

M = TypeVar("M", bound="Message")


class Readings:
    """Answers from the store."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lists: OrderedDict[str, bytes] = OrderedDict()

    async def submissions(self, asked: AskSubmissions) -> Submissions:
        """Newest first."""

        def work(view: View) -> Submissions:
            rules, champion = self._desk.rules, view.champion()
            page = view.entries(asked.account, asked.offset, asked.limit)
            told = fitting(submission_view(entry, rules, champion, self._desk.held_up) for entry in page)
            return Submissions(view.count(asked.account), told)

        return await self._desk.books.read(work)

    async def history(self, asked: AskHistory) -> History:
        """Champions, oldest first."""

        def work(view: View) -> History:
            reigns = view.reigns()
            page = reigns[asked.offset : asked.offset + asked.limit]
            entries = view.several([row.submission for row in page])
            told = fitting(reign_view(row, entries[row.submission]) for row in page if row.submission in entries)
            return History(len(reigns), told)

        return await self._desk.books.read(work)

    async def rounds(self, asked: AskRounds) -> Rounds:
        """Newest first."""

        def work(view: View) -> Rounds:
            page = view.rounds(asked.offset, asked.limit)
            graded = view.graded([one.number for one in page])
            told = fitting(round_view(one, graded[one.number]) for one in page)
            return Rounds(view.last_round(), told)

        return await self._desk.books.read(work)

    async def annulled(self, asked: AskAnnulled) -> Annulled:
        """Newest first."""

        def work(view: View) -> Annulled:
            page = view.annulled(asked.offset, asked.limit)
            graded = view.graded([one.number for one in page])
            told = fitting(self._annulled(view, one, graded[one.number]) for one in page)
            return Annulled(view.count_annulled(), told)

        return await self._desk.books.read(work)

    async def dossier(self, asked: AskDossier) -> Dossier:
        """All about one. Raises NotHeld: there is none of that id, or several."""
        return await self._desk.books.read(partial(self._dossier, asked=asked))

    async def lines(self, asked: AskLines) -> Piece:
        """A piece of a list. Raises NotHeld."""
        raw = self._lists.get(asked.root)
        if raw is None:
            raw = await self._desk.books.read(lambda view: view.lines(asked.root))
        if raw is None:
            raise NotHeld(f"The leaderboard holds no list {asked.root[:16]}….")
        self._lists[asked.root] = raw
        self._lists.move_to_end(asked.root)
        while len(self._lists) > LISTS_KEPT or sum(map(len, self._lists.values())) > KEPT_BYTES:
            self._lists.popitem(last=False)
        return Piece(len(raw), raw[asked.offset : asked.offset + PIECE_BYTES])

    async def file(self, asked: AskFile) -> Piece:
        """A piece of a task's public file. Raises NotHeld."""
        task = self._desk.tasks.get(asked.task)
        if task is None:
            raise NotHeld(f"This leaderboard has no task {asked.task!r}; it has: {', '.join(self._desk.tasks)}.")
        raw = (await asyncio.to_thread(task.files))[asked.name]
        return Piece(len(raw), raw[asked.offset : asked.offset + PIECE_BYTES])

    def _dossier(self, view: View, asked: AskDossier) -> Dossier:
        prefix = asked.id
        found = view.find(prefix)
        entry = view.entry(found[0]) if len(found) == 1 else None
        if entry is None:
            many = f"{len(found)} submissions' ids begin with {prefix}; give more of it."
            raise NotHeld(many if found else f"There is no submission whose id begins with {prefix}.")
        number = asked.round or entry.round
        round_ = view.round(number) if number else None
        if asked.round and (round_ is None or entry.id not in round_.graded):
            raise NotHeld(f"Round {asked.round} did not grade the submission {entry.id[:16]}….")
        return Dossier(
            view=submission_view(entry, self._desk.rules, view.champion(), self._desk.held_up),
            submission=entry.raw,
            rules=None if round_ is None else self._desk.rules_raw(view, round_.lock.rules),
            lock=None if round_ is None else round_.lock_raw,
            draw=None if round_ is None else round_.draw_raw,
            grades=_grades(view, round_, entry.id),
            champion_grades=_champions(view, round_, entry),
            verdict=None if round_ is None else round_.verdict_raw,
            withdrawal=entry.withdrawal,
            overlaps=dict(entry.overlaps),
            failures=_failures(view, round_, entry.id),
            annulment=None if round_ is None else round_.annulment_raw,
        )

    def _annulled(self, view: View, round_: Round, graded: int) -> AnnulledRound:
        rules = self._desk.rules_raw(view, round_.lock.rules)
        return AnnulledRound(rules, round_.lock_raw, round_.draw_raw, round_.annulment_raw or b"", graded)


def _grades(view: View, round_: Round | None, submission: str) -> list[bytes]:
    return [] if round_ is None else [kept.raw for kept in view.grades(round_.number, submission)][:64]


def _failures(view: View, round_: Round | None, submission: str) -> list[bytes]:
    """Of the model and of the champion that it met."""
    if round_ is None:
        return []
    models = dict.fromkeys([submission, *([round_.lock.champion] if round_.lock.champion else [])])
    return [kept.raw for one in models for kept in view.failures(round_.number, one)][:128]


def _champions(view: View, round_: Round | None, entry: Entry) -> list[bytes]:
    champion = None if round_ is None else round_.lock.champion
    return [] if champion is None or champion == entry.id else _grades(view, round_, champion)


def fitting(messages: Iterable[M]) -> list[M]:
    """As many of them as a call carries: whoever asks goes on after these."""
    chosen: list[M] = []
    size = 0
    for message in messages:
        size += len(pack(message))
        if chosen and size > FULL_BYTES:
            break
        chosen.append(message)
    return chosen
