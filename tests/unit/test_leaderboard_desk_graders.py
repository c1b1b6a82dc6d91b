"""Several graders: a liar among them is named, two that disagree call a third. And whom weights are handed to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gridllm.errors import NotAccepted, Refusal
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.models.weights import Checkpoint
from gridllm.swarm.interface import Frame
from gridllm.wire.weights import WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, encode
from gridllm_leaderboard import messages
from gridllm_leaderboard.statements import Grade, Submission, Verdict, id_of
from gridllm_leaderboard.statements import verify_document as verify
from tests.unit.leaderboard_house import TASKS, House, hex_of, house


async def test_two_who_disagree_call_a_third_who_tells_the_liar(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        third = Identity.ephemeral()
        honest, liar = made.grader, made.second
        made.say_rules(graders=tuple(map(hex_of, (honest, liar, third))), quorum=2)
        id_ = await made.submit(1)
        work = await made.until_work(honest)
        said = verify(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        false = await made.graded(liar, work, said, 0.95)
        true = await made.graded(honest, work, said, 0.5)
        await made.put_grade(honest, true)
        assert (await made.work(third)).tasks  # whoever comes first
        await made.put_grade(liar, false)
        asked = await made.until_told("regrade")
        assert asked["missing"] == {id_: {"more": 1, "of": [hex_of(third)]}}
        assert (await made.work(liar)).tasks == []
        await made.grade_all(lambda _: 0.5, [third])
        await made.until(id_, "graded")
        dossier = await made.ask(honest, messages.DOSSIER_CALL, messages.AskDossier(id_), messages.Dossier)
        verdict = verify(dossier.verdict, Verdict, made.signed.grid, hex_of(made.identity))
        assert verdict.outliers == (id_of(false),) and len(verdict.grades) == 2
        assert len(dossier.grades) == 3
        (row,) = (await made.until_ranked(id_)).rows
        assert row.tasks["sums"].value == pytest.approx(true.tasks[1].value)


async def test_results_come_before_the_grade_and_are_of_its_items(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.submit(1)
        work = await made.until_work(made.grader)
        said = verify(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        grade = await made.graded(made.grader, work, said, 0.5)
        unknown = grade.tasks[0].model_copy(update={"results": "3" * 64})
        with pytest.raises(NotAccepted, match="put them first"):
            await made.put_grade(made.grader, grade.model_copy(update={"tasks": (unknown, grade.tasks[1])}))
        swapped = grade.tasks[0].model_copy(update={"items": grade.tasks[1].items})
        with pytest.raises(NotAccepted, match="other items than the round's"):
            await made.put_grade(made.grader, grade.model_copy(update={"tasks": (swapped, grade.tasks[1])}))
        with pytest.raises(NotAccepted, match="do not have the root"):
            await made.put(made.grader, b"{}\n", "4" * 64)
        with pytest.raises(NotAccepted, match="is no grader"):
            await made.put(made.author, b"{}\n", "4" * 64)


async def test_weights_are_handed_to_graders_and_of_listed_models_to_everyone(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        id_ = await made.submit(1)
        await made.until_work(made.grader)
        root = (await made.view(id_)).root
        assert await fetched(made, made.grader, root) == await on_disk(tmp_path)
        with pytest.raises(Refusal, match="for you"):
            await fetched(made, made.second, root)
        await made.grade_all(lambda _: 0.5)
        await made.until_told("listed")
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await fetched(made, made.second, root) == await on_disk(tmp_path)
                    break
                except Refusal:
                    await asyncio.sleep(0.05)


async def on_disk(folder: Path) -> bytes:
    return await asyncio.to_thread(_tensor, folder / "1")


def _tensor(folder: Path) -> bytes:
    slot = Checkpoint.open(folder).slot("embed")
    return slot.file.read_bytes()[slot.offset : slot.offset + slot.size]


async def fetched(made: House, who: Identity, root: str) -> bytes:
    swarm = made.network.peek(who.peer) or made.network.join(who)
    stream = await swarm.open_stream(made.peer, WEIGHTS_STREAM)
    try:
        await stream.write(encode(Want(ModelRoot(root), "embed", 0)))
        frame: Frame = await stream.read()
        answer = decode_answer(frame.header)
        if isinstance(answer, Declined):
            raise Refusal.from_wire(answer.code, answer.text)
        assert isinstance(answer, Piece)
        return bytes(frame.body)
    finally:
        await stream.close()


async def test_new_rules_hold_from_the_next_round_on(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        first = await made.submit(1)
        await made.until(first, "locked")
        made.say_rules(graders=(hex_of(made.second),), tasks=(made.tasks["sums"].rule(TASKS["sums"]),))
        await made.grade_all(lambda _: 0.5)
        await made.until(first, "graded")
        second = await made.submit(2)
        await made.until(second, "locked")
        with pytest.raises(NotAccepted, match="is no grader"):
            await made.work(made.grader)
        await made.grade_all(lambda name: 0.9, [made.second])
        assert not (await made.until(second, "graded")).champion  # as good as the other
        dossier = await made.ask(made.second, messages.DOSSIER_CALL, messages.AskDossier(second), messages.Dossier)
        grade = verify(dossier.grades[0], Grade, made.signed.grid, hex_of(made.identity))
        assert [task.task for task in grade.tasks] == ["sums"]
