"""The leaderboard ends thirty times, at moments that nobody chose, while authors submit and a grader grades."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gridllm.errors import GridError
from gridllm.ledger.keepers import Keepers
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk.annulling import annul
from gridllm_leaderboard.statements import Submission, Verdict
from gridllm_leaderboard.statements import verify_document as verify
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house

TIMES = 30
MODELS = 5
ANNULLED = 2
BOUNTY = 2 * CREDIT


@pytest.mark.soak
async def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    rng = random.Random(5)
    async with house(tmp_path, bounty=BOUNTY, daily=MODELS) as made:
        said = [made.submission(seed) for seed in range(MODELS)]
        grading = asyncio.create_task(grade_for_ever(made))
        submitting = asyncio.create_task(submit_all(made, said))
        annulling = asyncio.create_task(asyncio.to_thread(annul_some, made))
        for _ in range(TIMES):
            await asyncio.sleep(rng.uniform(0.0, 0.8))
            await made.stop()
            await made.start()
        ids = await submitting
        await annulling
        for id_ in ids:
            await made.until(id_, "graded")
        grading.cancel()
        await asyncio.gather(grading, return_exceptions=True)
        await check(made, ids)


def annul_some(made: House) -> None:
    """The first rounds that are found open, as the command does from a process of its own; then no more."""
    store, left, deadline = LeaderboardStore(open_engine(made.database_url)), ANNULLED, time.monotonic() + 120
    while left and time.monotonic() < deadline:
        with store.writing() as batch:
            found = batch.open_round()
            if found is not None:
                annul(batch, found.number, "by hand", made.identity, int(made.clock()))
                left -= 1
        time.sleep(0.02)
    store.close()


async def check(made: House, ids: list[str]) -> None:
    """Each was judged in one round, with others or alone, of those not annulled; each reign was paid for once."""
    page = await made.ask(made.author, messages.ROUNDS_CALL, messages.AskRounds(), messages.Rounds)
    judged = [one for one in page.rounds if one.state == "judged"]
    locked = [id_ for one in judged for id_ in one.submissions]
    assert sorted(locked) == sorted(ids) and len(page.rounds) == len(judged) + ANNULLED
    changes = 0
    for one in judged:
        ask = messages.AskDossier(one.submissions[0], one.round)
        dossier = await made.ask(made.author, messages.DOSSIER_CALL, ask, messages.Dossier)
        verdict = verify(dossier.verdict, Verdict, made.signed.grid, hex_of(made.identity))
        changes += verdict.changed
        assert len(dossier.grades) == 1 and not dossier.failures
    history = await made.ask(made.author, messages.HISTORY_CALL, messages.AskHistory(), messages.History)
    assert len(history.reigns) == changes >= 1
    assert made.board.crown is not None and made.board.crown.submission == history.reigns[-1].submission
    keepers = Keepers(made.network.find(made.author.peer), made.signed)
    async with asyncio.timeout(60):
        while (granted := (await keepers.account(hex_of(made.author))).granted) != BOUNTY * changes:
            assert granted < BOUNTY * changes
            await asyncio.sleep(0.1)


async def submit_all(made: House, said: list[Submission]) -> list[str]:
    """As the command does: the same submission again, until it is in the queue."""

    async def one(seed: int, submission: Submission) -> str:
        view = await made.enter(submission)
        if view.state == "uploading":
            await made.bring(seed, view.id)
        return view.id

    return [await again(lambda seed=seed, one_=one_: one(seed, one_)) for seed, one_ in enumerate(said)]  # type: ignore[misc]


async def grade_for_ever(made: House) -> None:
    async def once() -> None:
        work = await made.work(made.grader)
        for task in work.tasks:
            said = verify(task.submission, Submission, made.signed.grid, hex_of(made.identity))
            grade = await made.graded(made.grader, work, said, 0.3 + 0.15 * int(said.name.split()[1]))
            await made.put_grade(made.grader, grade)

    while True:
        await again(once)
        await asyncio.sleep(0.05)


async def again(deed: Callable[[], Awaitable[str | None]]) -> str:
    """Until it works."""
    while True:
        try:
            return await deed() or ""
        except GridError:
            await asyncio.sleep(0.02)
