"""The desk with its whole machinery, on a network in memory: from a submission to a champion, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gridllm.charter.catalogue import Catalogue
from gridllm.errors import ModelError, NotAccepted, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm_bootstrap.paper import read_paper
from gridllm_leaderboard import messages
from gridllm_leaderboard.beacon import seed_of, verify_beacon
from gridllm_leaderboard.results import items_root
from gridllm_leaderboard.statements import (
    Draw,
    Failure,
    Grade,
    Lock,
    Submission,
    TaskGrade,
    Verdict,
    Withdrawal,
    id_of,
    sign,
)
from gridllm_leaderboard.statements import verify_document as verify
from tests.unit.leaderboard_house import CREDIT, TASKS, House, hex_of, house

QUALITY = {"model 1": 0.5, "model 2": 0.9, "model 3": 0.9, "model 4": 0.2}


async def test_from_a_submission_to_a_champion_and_on_to_the_next(tmp_path: Path) -> None:
    async with house(tmp_path, fee=3 * CREDIT, bounty=7 * CREDIT, daily=9) as made:
        first = await made.submit(1)
        view = await made.until(first, "unpaid")
        assert (view.fee, view.pay_to) == (3 * CREDIT, hex_of(made.identity))
        await made.pay(first, 3 * CREDIT, made.author)
        await made.until(first, "locked")
        await made.grade_all(lambda name: QUALITY[name])
        assert (await made.until(first, "graded")).champion
        await made.until_told("bounty")
        await made.until_told("crowned")
        assert Catalogue(made.signed, made.board).model("@champion").name == "model 1"

        entered = [first]
        for seed, champion in ((4, first), (2, ""), (3, "")):  # worse, better, as good as the better
            entered.append(challenger := await made.submit(seed))
            await made.pay(challenger, 3 * CREDIT, made.author)
            await made.until(challenger, "locked")
            await made.grade_all(lambda name: QUALITY[name])
            view = await made.until(challenger, "graded")
            assert view.champion == (seed == 2), (seed, champion)
        await made.until_told("bounty", 2)
        await made.until_told("crowned", 2)
        assert Catalogue(made.signed, made.board).model("@champion").name == "model 2"
        history = await made.ask(made.author, messages.HISTORY_CALL, messages.AskHistory(), messages.History)
        assert [one.name for one in history.reigns] == ["model 1", "model 2"]
        assert history.reigns[0].lead is None and history.reigns[1].lead.low > 0
        keepers = Keepers(made.network.find(made.author.peer), made.signed)
        account = await keepers.account(hex_of(made.author))
        assert account.granted - 4 * 3 * CREDIT == 2 * 7 * CREDIT
        rank = await made.until_ranked(*entered)
        assert {row.name for row in rank.rows[:2]} == {"model 2", "model 3"}
        assert [row.name for row in rank.rows[2:]] == ["model 1", "model 4"]
        assert rank.rows[2].place == 3 and rank.tasks == {"stories": "text", "sums": "choice"}
        await check_dossier(made, first)


async def test_a_model_that_is_found_wanting_goes_and_a_fee_that_is_dropped_is_not_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path, fee=CREDIT) as made:
        made.wanting = [ModelError("Tensor embed has a NaN."), OSError(28, "No space left on device")]
        first = await made.submit(1)
        await made.until_told("trouble")  # the disk's fault: it is looked at again
        second = await made.submit(2)
        view = await made.until(second, "unpaid", "refused")
        assert {(await made.until(first, "unpaid", "refused")).state, view.state} == {"unpaid", "refused"}
        (refused,) = [one for one in (first, second) if (await made.view(one)).state == "refused"]
        assert "NaN" in (await made.view(refused)).why
        made.say_rules(fee=0)
        (other,) = {first, second} - {refused}
        await made.until(other, "locked")
        desk = made.opened.desk if made.opened else None
        assert desk is not None and await asyncio.to_thread(desk.vault.roots) == [(await made.view(other)).root]
        assert (await made.submit(1 if refused == first else 2, name="mended")) != refused  # signed anew


async def check_dossier(made: House, id_: str) -> None:
    """Whoever has the documents finds the items again."""
    said = await made.ask(made.author, messages.DOSSIER_CALL, messages.AskDossier(id_[:12], 1), messages.Dossier)
    grid, account = made.signed.grid, hex_of(made.identity)
    lock, draw = verify(said.lock, Lock, grid, account), verify(said.draw, Draw, grid, account)
    verdict = verify(said.verdict, Verdict, grid, account)
    head = draw.head.encode()
    verify_beacon(head, lock, made.signed)
    seed = seed_of(id_of(lock), head)
    for drawn in draw.items:
        assert drawn.root == items_root(made.tasks[drawn.task].draw(seed, TASKS[drawn.task]))
    assert len(said.grades) == 1 and verdict.champion == id_ and verdict.changed


async def test_what_a_grader_may_not_say(tmp_path: Path) -> None:
    async with house(tmp_path, quorum=1) as made:
        made.say_rules(graders=(hex_of(made.grader), hex_of(made.second), hex_of(made.author)), quorum=2)
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        assert (await made.work(made.author)).tasks == []  # its own
        said = verify(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        grade = await made.graded(made.grader, work, said, 0.5)
        own = grade.model_copy(update={"grader": hex_of(made.author)})
        stranger = Identity.ephemeral()
        for who, changes, text in (
            (made.author, own.model_dump(include={"grader"}), "nobody grades a model of their own"),
            (stranger, {"grader": hex_of(stranger)}, "is no grader"),
            (made.grader, {"draw": "0" * 64}, "another draw"),
            (made.grader, {"round": 7}, "There is no round 7"),
            (made.grader, {"submission": "1" * 64}, "is not in round 1"),
            (made.grader, {"root": "2" * 64}, "is of the model"),
            (made.grader, {"tasks": grade.tasks[:1]}, "not of exactly the round's tasks"),
            (made.grader, {"tasks": (raised(grade.tasks[0]), *grade.tasks[1:])}, "says points"),
        ):
            with pytest.raises(NotAccepted, match=text):
                await made.put_grade(who, grade.model_copy(update=changes))
        with pytest.raises(NotAccepted, match="is no grader"):
            await made.work(stranger)
        assert not (await made.put_grade(made.grader, grade)).known
        assert (await made.put_grade(made.grader, grade)).known  # the same once more
        assert (await made.work(made.grader)).tasks == []
        with pytest.raises(NotAccepted, match="given once"):
            await made.put_grade(made.grader, await made.graded(made.grader, work, said, 0.6))
        with pytest.raises(NotAccepted, match="given once"):
            await made.put_grade(made.grader, failure_of(grade), failure=True)
        await made.put_grade(made.second, failure_of(grade, made.second), failure=True)
        assert (await made.until(id_, "graded", "failed")).state in ("graded", "failed")


def raised(task: TaskGrade) -> TaskGrade:
    return task.model_copy(update={"points": task.points + 0.01})


def failure_of(grade: Grade, grader: Identity | None = None) -> Failure:
    fields = grade.model_dump(include={"grid", "round", "draw", "submission", "grader", "issued"})
    return Failure(**fields | ({} if grader is None else {"grader": hex_of(grader)}), reason="out of memory")


async def test_a_thousand_at_once_are_answered_and_the_desk_goes_on_answering(tmp_path: Path) -> None:
    async with house(tmp_path, economy={"submit": CREDIT}) as made:
        said = made.submission(1)
        authors = [made.author] * 1000 + [Identity.ephemeral() for _ in range(100)]
        entering = []
        for number, author in enumerate(authors):
            other = {"root": f"{number:064x}", "weights": f"{number:064x}", "name": f"m{number}"}
            changed = said.model_copy(update=other | {"account": hex_of(author)})
            entering.append((author, messages.Enter(sign(changed, author))))

        async def one(author: Identity, message: messages.Enter) -> str:
            try:
                await made.ask(author, messages.ENTER_CALL, message, messages.SubmissionView)
            except (NotAccepted, TooSoon) as error:
                return type(error).__name__
            return "taken"

        slow = 0.0

        async def watch() -> None:
            nonlocal slow
            loop = asyncio.get_running_loop()
            while True:
                before = loop.time()
                await asyncio.sleep(0.01)
                slow = max(slow, loop.time() - before)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(one(*each) for each in entering))
        watching.cancel()
        assert set(answers) <= {"TooSoon", "NotAccepted"} and answers[-100:] == ["NotAccepted"] * 100
        assert slow < 20.0  # on a machine that does much else
        assert (await made.ask(made.grader, messages.RANK_CALL, messages.AskRank(), messages.Rank)).total == 0


async def test_withdrawn_models_go_and_champions_stay(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        champion = await made.submit(2)
        await made.until(champion, "locked")
        with pytest.raises(NotAccepted, match="graded just now"):
            await withdraw(made, champion)
        await made.grade_all(lambda name: QUALITY[name])
        await made.until(champion, "graded")
        with pytest.raises(NotAccepted, match="is champion"):
            await withdraw(made, champion)
        other = await made.enter(made.submission(1))
        assert (await withdraw(made, other.id)).state == "withdrawn"
        assert (await withdraw(made, other.id)).state == "withdrawn"
        with pytest.raises(NotAccepted, match="has no submission"):
            await withdraw(made, champion, made.second)
        with pytest.raises(NotAccepted, match="submitted before"):
            await made.enter(made.submission(1, name="again"))


async def test_where_several_maintainers_sign_there_are_drafts_that_say_it_once(tmp_path: Path) -> None:
    async with house(tmp_path, others=1, bounty=4 * CREDIT) as made:
        id_ = await made.submit(1)
        await made.until(id_, "locked")
        await made.grade_all(lambda name: QUALITY[name])
        await made.until_told("draft", 3)
        drafts = await asyncio.to_thread(drafts_in, tmp_path)
        assert sorted(drafts) == ["crown", "grant", "listing"] and made.board.crown is None
        await made.stop()
        await made.start()
        await made.until(id_, "graded")
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(drafts_in, tmp_path) == drafts  # the same ones
        assert not [facts for kind, facts in made.told if kind == "crowned"]
        for kind in ("listing", "crown"):
            made.board.add(read_paper(drafts[kind]).signed_by(made.others[0]).raw)
        assert Catalogue(made.signed, made.board).model("@champion").name == "model 1"
        keepers = Keepers(made.network.find(made.author.peer), made.signed)
        raw = read_paper(drafts["grant"]).signed_by(made.others[0]).raw
        said = [(await keepers.submit(keepers.all[0], [raw]))[0].code for _ in range(2)]
        assert said == ["accepted", "known"]
        assert (await keepers.account(hex_of(made.author))).granted == 4 * CREDIT


def drafts_in(folder: Path) -> dict[str, Path]:
    return {path.name.split("-")[0]: path for path in sorted(folder.glob("*-*.json"))}


async def withdraw(made: House, id_: str, author: Identity | None = None) -> messages.SubmissionView:
    whose = author or made.author
    said = Withdrawal(grid=made.signed.grid, account=hex_of(whose), submission=id_, issued=int(made.clock()))
    view: messages.SubmissionView = await made.ask(
        whose, messages.WITHDRAW_CALL, messages.Withdraw(sign(said, whose)), messages.SubmissionView
    )
    return view


@pytest.mark.parametrize("moment", ["checked", "drawn", "graded", "judged"])
async def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path: Path, moment: str) -> None:
    async with house(tmp_path, bounty=5 * CREDIT) as made:

        async def go_through() -> None:
            said = made.submission(2, issued=int(made._began))
            view = await made.enter(said)
            if view.state == "uploading":
                await made.bring(2, view.id)
            await made.until(view.id, "locked", "graded")
            while (await made.view(view.id)).state != "graded":
                work = await made.work(made.grader)
                for _ in work.tasks:
                    await made.put_grade(made.grader, await made.graded(made.grader, work, said, 0.9))
                await asyncio.sleep(0.05)

        going = asyncio.create_task(go_through())
        await made.until_told(moment)
        await made.stop()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await made.start()
        await go_through()
        await made.until_told("bounty")
        assert made.board.crown is not None and made.board.crown.serial == 1
        rounds = await made.ask(made.author, messages.ROUNDS_CALL, messages.AskRounds(), messages.Rounds)
        assert [(one.round, one.state) for one in rounds.rounds] == [(1, "judged")]
        keepers = Keepers(made.network.find(made.author.peer), made.signed)
        assert (await keepers.account(hex_of(made.author))).granted == 5 * CREDIT
