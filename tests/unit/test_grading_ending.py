"""A grader whose round comes to its end stops, says why, and goes on with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import SwarmError
from gridllm_leaderboard.desk.annulling import annul
from gridllm_leaderboard.grading import ending
from gridllm_leaderboard.grading.ending import RoundOverError, unless_over
from gridllm_leaderboard.grading.grader import Done
from gridllm_leaderboard.grading.watching import Told, grade_all
from gridllm_leaderboard.grading.work import Assignment, Wanted, read_work
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import Beyond, Rounds, RoundView
from tests.unit.leaderboard_house import House, house


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(ending, "LAST_WORD_S", 0.05)


class Line:
    """In place of a link: what the leaderboard says of its rounds, one answer after the other, the last for ever."""

    def __init__(self, *answers: RoundView | Exception) -> None:
        self._answers = list(answers)

    async def ask(self, call: str, asked: Any, kind: Any) -> Rounds:
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(said, Exception):
            raise said
        return Rounds(said.round, [said])


def standing(state: Any, why: str = "") -> RoundView:
    return RoundView(3, state, [], 0, 0, why)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def over(*answers: RoundView | Exception) -> str:
    with pytest.raises(RoundOverError) as caught:
        await unless_over(Line(*answers), 3, for_ever())  # type: ignore[arg-type]
    return str(caught.value)


async def test_work_for_a_void_round_ends_with_the_reason() -> None:
    said = await over(standing("drawn"), standing("annulled", "the keeper is lost"))
    assert said.startswith("Round 3 was annulled (the keeper is lost): grades in it count for nothing")


async def test_work_for_a_judged_round_ends() -> None:
    assert "Round 3 is judged: no more grades" in await over(standing("judged"))


async def test_a_leaderboard_that_does_not_answer_ends_no_work() -> None:
    assert "annulled" in await over(SwarmError("Nobody answers."), standing("annulled"))


async def test_a_grade_that_ended_its_round_is_a_grade(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was handed in while the answer about the round was on its way."""
    monkeypatch.setattr(ending, "LAST_WORD_S", 20.0)
    seen = asyncio.Event()

    class Judged(Line):
        async def ask(self, call: str, asked: Any, kind: Any) -> Rounds:
            seen.set()
            return await super().ask(call, asked, kind)

    async def handed_in() -> int:
        await seen.wait()
        await asyncio.sleep(0.05)
        return 7

    assert await unless_over(Judged(standing("judged")), 3, handed_in()) == 7  # type: ignore[arg-type]


async def test_what_fails_fails_as_it_would() -> None:
    async def fails() -> None:
        raise SwarmError("no way")

    with pytest.raises(SwarmError, match="no way"):
        await unless_over(Line(standing("drawn")), 3, fails())  # type: ignore[arg-type]


@dataclass
class Slow:
    """A grader that never comes to an end in the first round."""

    made: House
    at_work: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    async def assignment(self, link: LeaderboardLink) -> tuple[Assignment | None, list[Beyond]]:
        work = await self.made.work(self.made.grader)
        return read_work(work, self.made.signed, self.made.grader.public_key.hex()), work.beyond

    async def grade(self, link: LeaderboardLink, given: Assignment, model: Wanted, sheets: Any) -> Done:
        if given.lock.round == 1:
            self.at_work.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        work = await self.made.work(self.made.grader)
        grade = await self.made.graded(self.made.grader, work, model.submission, 0.5)
        await self.made.put_grade(self.made.grader, grade)
        return Done(model.id, model.submission.name, grade, None)


async def test_a_grader_goes_on_with_the_next_round(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        first, second = await made.submit(1), await made.submit(2)
        await made.until_work(made.grader)
        assert made.board.rules is not None and made.opened is not None
        desk, peer = made.opened.desk, made.network.find(made.peer)
        swarm = made.network.peek(made.grader.peer)
        assert swarm is not None
        link = LeaderboardLink(swarm, made.signed, made.board, made.board.rules, made.peer, peer.addresses)
        troubles: list[str] = []
        grader, done = Slow(made), list[Done]()
        told = Told(done.append, troubles.append)
        grading = asyncio.create_task(again(lambda: grade_all(link, grader, {}, told), lambda: len(done) < 2))  # type: ignore[arg-type]
        await asyncio.wait_for(grader.at_work.wait(), 60)
        await desk.books.write(lambda batch: annul(batch, 1, "by hand", made.identity, desk.now) and None)
        desk.ring()
        await asyncio.wait_for(grading, 60)
        assert len(troubles) == 1 and "Round 1 was annulled (by hand)" in troubles[0] and grader.cancelled == 1
        assert {one.submission for one in done} == {first, second}
        for id_ in (first, second):
            assert (await made.until(id_, "graded")).round > 1


async def again(deed: Callable[[], Awaitable[int]], more: Callable[[], bool]) -> None:
    while more():
        await deed()
        await asyncio.sleep(0.05)
