"""Cheats by graders, each with real keys against a whole leaderboard in memory: how each of them ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import LeaderboardError, NotAccepted, Refusal
from gridllm.identity.keys import Identity
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk import gradings
from gridllm_leaderboard.ranking.points import grade_of
from gridllm_leaderboard.results import (
    ItemResult,
    lines_root,
    read_items,
    read_results,
    results_root,
    write_results,
)
from gridllm_leaderboard.statements import Draw, Failure, Grade, Submission, TaskGrade, Verdict, id_of, sign
from gridllm_leaderboard.statements import verify_document as verify
from tests.unit.leaderboard_house import TASKS, House, hex_of, house

THIRD = Identity.ephemeral()


def submission_in(made: House, work: messages.Work, name: str) -> Submission:
    """Of the work, the model of that name."""
    said = [verify(one.submission, Submission, made.signed.grid, hex_of(made.identity)) for one in work.tasks]
    return next(one for one in said if one.name == name)


async def lied_upwards(made: House, liar: Identity, grade: Grade, draw: Draw, share: float) -> Grade:
    """The same grade by a liar, who says of so many wrong ones that they were right; well made otherwise.

    Args:
        share: of all items of each task; as many at least are wrong.
    """
    tasks = []
    for said, drawn in zip(grade.tasks, draw.items, strict=True):
        kind = made.tasks[said.task].kind
        items, results = read_items(await made.lines(drawn.root)), read_results(await made.lines(said.results))
        wrong = [at for at, one in enumerate(results) if one.points < 1]
        raised = {*wrong[: round(share * len(items))]}
        told: list[ItemResult] = []
        for at, (item, one) in enumerate(zip(items, results, strict=True)):
            if at not in raised:
                told.append(one)
            elif kind == "text":
                told.append(ItemResult(one.item, 1.0, [0.0], one.size))
            else:
                logliks = [-1.0 if choice == item["gold"] else -5.0 for choice in range(len(item["choices"]))]
                told.append(ItemResult(one.item, 1.0, logliks, 1))
        await made.put(liar, write_results(told), results_root(told))
        tasks.append(grade_of(said.task, kind, said.items, told))
    return grade.model_copy(update={"grader": hex_of(liar), "tasks": tuple(tasks)})


async def test_a_grader_that_lies_about_one_item_in_ten_is_named_and_changes_nothing(tmp_path: Path) -> None:
    """The liar helps a model that is as good as the champion."""
    async with house(tmp_path) as made:
        honest, liar = made.grader, made.second
        made.say_rules(graders=tuple(map(hex_of, (honest, liar, THIRD))), quorum=3)
        first = await made.submit(1)
        await made.grade_all(lambda _: 0.5, [honest, liar, THIRD])
        await made.until(first, "graded")
        second = await made.submit(2)
        work = await made.until_work(liar)
        draw = verify(work.draw or b"", Draw, made.signed.grid, hex_of(made.identity))
        said = submission_in(made, work, "model 2")
        true = await made.graded(honest, work, said, 0.5)
        false = await lied_upwards(made, liar, true, draw, 0.1)
        assert false.tasks[1].points > true.tasks[1].points
        await made.put_grade(liar, false)
        await made.grade_all(lambda _: 0.5, [honest, THIRD])
        of_champion = await made.graded(liar, work, submission_in(made, work, "model 1"), 0.5)
        await made.put_grade(liar, of_champion)
        assert not (await made.until(second, "graded")).champion
        dossier = await made.ask(honest, messages.DOSSIER_CALL, messages.AskDossier(second), messages.Dossier)
        verdict = verify(dossier.verdict or b"", Verdict, made.signed.grid, hex_of(made.identity))
        assert verdict.outliers == (id_of(false),) and len(verdict.grades) == 5
        assert not verdict.changed and verdict.champion == first
        (lead,) = verdict.comparisons
        assert lead.low <= 0 <= lead.high
        rank = await made.until_ranked(first, second)
        row = next(one for one in rank.rows if one.submission == second)
        assert row.tasks["sums"].value == pytest.approx(true.tasks[1].value)


async def test_an_author_who_is_a_grader_does_not_grade_itself(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        author = made.author
        made.say_rules(graders=(hex_of(author),))
        with pytest.raises(NotAccepted, match="Nobody grades a model of their own"):
            await made.submit(1)
        made.say_rules(graders=tuple(map(hex_of, (author, made.grader))))
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        assert (await made.work(author)).tasks == []
        said = submission_in(made, work, "model 1")
        with pytest.raises(NotAccepted, match="nobody grades a model of their own"):
            await made.put_grade(author, await made.graded(author, work, said, 1.0))
        fields = {"grid", "round", "draw", "submission", "issued"}
        grade = await made.graded(made.grader, work, said, 0.5)
        failed = Failure(**grade.model_dump(include=fields), grader=hex_of(author), reason="so that nobody counts")
        with pytest.raises(NotAccepted, match="nobody grades a model of their own"):
            await made.put_grade(author, failed, failure=True)
        forged = grade.model_copy(update={"grader": hex_of(made.grader)})
        with pytest.raises(NotAccepted, match="forged|cannot be used"):  # in a grader's name
            await made.ask(author, messages.PUT_GRADE_CALL, messages.PutGrade(sign(forged, author)), messages.Taken)
        assert (await made.view(id_)).state == "locked"
        await made.put_grade(made.grader, grade)
        await made.until(id_, "graded")


def spoilt(raw: bytes, line: int, **fields: Any) -> bytes:
    """A list of results with other fields in one line, as no honest program writes them."""
    lines = raw.splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | fields, separators=(",", ":")).encode()
    return b"\n".join(lines) + b"\n"


def regraded(raw: bytes) -> TaskGrade | None:
    """The figures that follow from a spoilt list, where any do: a cheat would sign these."""
    try:
        return grade_of("stories", "text", "0" * 64, read_results(raw))
    except LeaderboardError:
        return None


SPOILT: dict[str, dict[str, Any]] = {
    "NaN": {"logliks": [float("nan")]},
    "infinite": {"logliks": [float("-inf")]},
    "huge": {"logliks": [-1e308]},
    "likelier than certain": {"logliks": [1e308]},
    "points above one": {"points": 1.5},
    "points that do not follow": {"points": 1.0},
    "another item": {"item": "0" * 64},
    "of many bytes": {"size": 10**30},
    "of few bytes": {"size": 1},
    "no list": {"logliks": []},
    "another field": {"note": "x"},
}

WHY = re.compile(r"does not parse|log-likelihoods|is of another item|says [\d.]+ (bytes|points)")


async def test_results_that_are_no_numbers_or_do_not_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradings, "LISTS", 100)
    async with house(tmp_path) as made:
        await made.submit(1)
        work = await made.until_work(made.grader)
        grade = await made.graded(made.grader, work, submission_in(made, work, "model 1"), 0.5)
        raw = await made.lines(grade.tasks[0].results)
        assert grade.tasks[0].task == "stories"
        for what, fields in SPOILT.items():
            bad = spoilt(raw, 3, **fields)
            root = lines_root(bad)
            with pytest.raises(NotAccepted) as told:
                await made.put(made.grader, bad, root)
                first = regraded(bad) or grade.tasks[0].model_copy(update={"results": root})
                first = first.model_copy(update={"items": grade.tasks[0].items})
                await made.put_grade(made.grader, grade.model_copy(update={"tasks": (first, *grade.tasks[1:])}))
            assert WHY.search(str(told.value)), what
        for figures in ({"points": float("nan")}, {"value": float("inf")}, {"points": 7.0}, {"stderr": -1.0}):
            first = grade.tasks[0].model_copy(update=figures)
            for where in ("tasks", "practice"):
                with pytest.raises((NotAccepted, ValueError)):
                    await made.put_grade(made.grader, grade.model_copy(update={where: (first, *grade.tasks[1:])}))
        assert not (await made.put_grade(made.grader, grade)).known


async def test_grades_of_another_draw_submission_or_items_and_two_that_differ(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        made.say_rules(graders=tuple(map(hex_of, (made.grader, made.second))), quorum=2)
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        said = submission_in(made, work, "model 1")
        grade = await made.graded(made.grader, work, said, 0.5)
        sums = grade.tasks[1]
        for changes, why in (
            ({"draw": "0" * 64}, "another draw"),
            ({"round": 2}, "no round 2"),
            ({"submission": "1" * 64}, "is not in round"),
            ({"root": "2" * 64}, "is of the model"),
            ({"tasks": (grade.tasks[0], sums.model_copy(update={"items": "3" * 64}))}, "other items"),
            ({"tasks": (grade.tasks[0], sums.model_copy(update={"results": grade.tasks[0].results}))}, "results"),
            ({"tasks": (grade.tasks[0], sums.model_copy(update={"count": 5}))}, "other items"),
            ({"tasks": (sums, grade.tasks[0])}, "in their order"),
            ({"tasks": (*grade.tasks, sums)}, "exactly the round's tasks"),
        ):
            with pytest.raises(NotAccepted, match=why):
                await made.put_grade(made.grader, grade.model_copy(update=changes))
        await made.put_grade(made.grader, grade)
        with pytest.raises(NotAccepted, match="given once"):
            await made.put_grade(made.grader, await made.graded(made.grader, work, said, 0.9))
        await made.put_grade(made.second, await made.graded(made.second, work, said, 0.5))
        await made.until(id_, "graded")
        late = grade.model_copy(update={"issued": grade.issued + 5})
        with pytest.raises(NotAccepted, match="is not graded now"):
            await made.put_grade(made.grader, late)


async def test_lists_of_results_without_end_are_not_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.submit(1)
        await made.until_work(made.grader)
        most = gradings.LISTS * len(TASKS)
        for number in range(most):
            junk = b'{"junk":%d}\n' % number
            await made.put(made.grader, junk, lines_root(junk))
        with pytest.raises(NotAccepted, match="more lists of results than this round has"):
            await made.put(made.grader, b"{}\n", lines_root(b"{}\n"))


async def test_another_peer_cannot_act_with_a_graders_word(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.submit(1)
        await made.until_work(made.grader)
        word = made.delegation(made.grader)
        with pytest.raises(Refusal):
            await made.ask(THIRD, messages.WORK_CALL, messages.AskWork(word), messages.Work)
