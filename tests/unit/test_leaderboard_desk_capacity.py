"""The desk and graders of different size: what nobody holds waits, and holds up nobody. In-memory swarm, no process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gridllm.identity.keys import Identity
from gridllm_leaderboard import messages
from gridllm_leaderboard.messages import Unable
from gridllm_leaderboard.statements import Submission, Verdict, id_of
from gridllm_leaderboard.statements import verify_document as verify
from tests.unit.leaderboard_house import House, hex_of, house

WAITS = "waits for a grader that can hold"


async def asks(made: House, grader: Identity, **able: Any) -> messages.Work:
    """A grader's question, with what it is able to do."""
    asked = messages.AskWork(made.delegation(grader), **able)
    work: messages.Work = await made.ask(grader, messages.WORK_CALL, asked, messages.Work)
    return work


async def test_what_no_grader_holds_waits_with_a_reason_until_one_comes(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        made.say_rules(graders=(hex_of(made.grader), hex_of(made.second)))
        assert (await asks(made, made.grader, holds=100, grid=False)).beyond == []
        huge = await made.submit(1)
        view = await made.until_why(huge, WAITS)
        assert "the largest that asks holds" in view.why and view.round == 0
        (beyond,) = (await asks(made, made.grader, holds=100, grid=False)).beyond
        assert (beyond.name, beyond.parameters) == (view.name, view.parameters)
        await made.stop()
        await made.start()  # what graders said is not forgotten
        assert (await made.view(huge)).why == view.why
        await asks(made, made.second)
        await made.until(huge, "locked")
        await made.grade_all(lambda _: 0.5, [made.second])
        assert (await made.until(huge, "graded")).champion


async def test_what_proves_too_large_leaves_the_round_and_the_others_are_judged(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await asks(made, made.grader, holds=1, grid=False)
        huge, small = await made.submit(1), await made.submit(2)
        await made.until_told("waits", 2)
        assert len((await made.until_work(made.grader)).tasks) == 2  # both in one round
        tried = [Unable(huge, "it ran out of the memory that it may take")]
        work = await asks(made, made.grader, unable=tried)
        (task,) = work.tasks
        assert [one.name for one in work.beyond] == ["model 1"]
        said = verify(task.submission, Submission, made.signed.grid, hex_of(made.identity))
        await made.put_grade(made.grader, await made.graded(made.grader, work, said, 0.5))
        assert (await made.until(small, "graded")).champion
        view = await made.until_why(huge, WAITS)
        assert "or have it run: one that asks cannot, since it ran out of the memory" in view.why
        dossier = await made.ask(made.second, messages.DOSSIER_CALL, messages.AskDossier(small), messages.Dossier)
        verdict = verify(dossier.verdict, Verdict, made.signed.grid, hex_of(made.identity))
        assert (verdict.deferred, verdict.failed, verdict.champion) == ((huge,), (), small)
        await asks(made, made.grader)  # it was given more memory
        assert (await made.until(huge, "locked")).round == 2
        await made.grade_all(lambda name: 0.9 if name == "model 1" else 0.1)
        assert (await made.until(huge, "graded")).champion


async def test_a_round_of_what_nobody_can_run_ends_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        huge = await made.submit(1)
        await made.until_work(made.grader)
        await asks(made, made.grader, holds=1, grid=False)
        assert (await made.until_told("judged"))["changed"] is False
        await made.until_why(huge, WAITS)


async def test_two_who_disagree_wait_for_no_third_who_cannot_and_grade_it_no_more_until_one_can(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        third = Identity.ephemeral()
        made.say_rules(graders=tuple(map(hex_of, (made.grader, made.second, third))), quorum=2)
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        said = verify(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        for grader, quality in ((made.grader, 0.5), (made.second, 0.95)):
            await asks(made, grader)
            await made.put_grade(grader, await made.graded(grader, work, said, quality))
        await made.until_told("regrade")
        await asks(made, third, holds=1, grid=False)
        assert (await made.until_told("deferred"))["submission"] == id_
        view = await made.until_why(id_, "waits for another grader")
        assert id_of(said) == id_ and view.state == "queued" and "the largest other that asks" in view.why
        assert len([kind for kind, _ in made.told if kind == "locked"]) == 1  # not in round after round
        await asks(made, third)  # it was given more memory
        await made.until(id_, "locked")
        await made.grade_all(lambda _: 0.5, [made.grader, made.second])
        assert (await made.until(id_, "graded")).champion


async def test_nodes_are_asked_for_where_graders_must_use_the_grid(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await asks(made, made.grader, holds=1, grid=True)
        id_ = await made.submit(1)
        assert (await made.until_told("listed"))["submission"] == id_  # long before it is graded
        assert [one.submission for one in made.board.listings] == [id_]
        assert (await made.until(id_, "locked")).state == "locked"
