"""A round that cannot come to a verdict comes to an end: by itself when its rules' patience is over, or by command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import KeeperSilent, LeaderboardError, NotAccepted
from gridllm.identity.keys import Identity
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk import course
from gridllm_leaderboard.desk.annulling import annul, annulment_of, is_overdue, why_overdue
from gridllm_leaderboard.records import Round
from gridllm_leaderboard.statements import Annulment, Submission, Withdrawal, id_of, sign, verify_document
from tests.leaderboard_seasons import NOW, drawn, locked, submitted
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house
from tests.unit.test_leaderboard_decisions import rules


def open_round(*, is_drawn: bool) -> Round:
    """Of two submissions."""
    raw, lock = locked(1, [submitted(number).id for number in range(2)])
    draw_raw, draw = drawn(lock)
    return Round(1, raw, lock, draw_raw if is_drawn else None, draw if is_drawn else None, None, None, None)


def test_patience_counts_from_the_lock() -> None:
    lock, waits = open_round(is_drawn=False).lock, rules(patience_s=3600)
    assert not is_overdue(lock, waits, NOW + 3599) and is_overdue(lock, waits, NOW + 3600)
    assert not is_overdue(lock, rules(), NOW + 7 * 86400 - 1) and is_overdue(lock, rules(), NOW + 7 * 86400)


def test_what_did_not_come_is_named() -> None:
    early, late = open_round(is_drawn=False), open_round(is_drawn=True)
    assert why_overdue(early, rules(), {}).endswith(
        "signed no head that its items could follow from within 7 d of its lock"
    )
    one, other = late.graded
    asks = rules(quorum=2)
    assert "2 of 2 models had too few grades" in why_overdue(late, asks, {one: 1})
    assert "1 of 2 models had too few grades" in why_overdue(late, asks, {one: 2})
    assert "did not come to agree on all of 2 models" in why_overdue(late, asks, {one: 2, other: 3})


def test_an_annulment_names_its_lock_and_is_no_earlier() -> None:
    lock = locked(4, [submitted(1).id], issued=NOW + 500)[1]
    said = annulment_of(lock, "the keeper is lost", NOW)
    assert (said.round, said.lock, said.issued) == (4, id_of(lock), NOW + 500)
    for reason in ("", "x" * 501):
        with pytest.raises(ValueError, match="reason"):
            annulment_of(lock, reason, NOW)


async def silent(keepers: Any, lock: Any) -> None:
    """In place of ``head_after``: a keeper that is lost for good."""
    raise KeeperSilent(lock.keeper, "it is lost")


async def by_command(made: House, number: int, reason: str = "the grader's machine burnt") -> None:
    """As ``gridllm leaderboard annul`` does; the desk looks soon after."""
    assert made.opened is not None
    desk = made.opened.desk
    await desk.books.write(lambda batch: annul(batch, number, reason, made.identity, desk.now) and None)
    desk.ring()


async def rounds(made: House) -> list[messages.RoundView]:
    page = await made.ask(made.author, messages.ROUNDS_CALL, messages.AskRounds(), messages.Rounds)
    return list(page.rounds)


async def test_a_keeper_that_is_lost_holds_a_round_up_no_longer_than_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, fee=CREDIT, patience_s=3600) as made:
        with monkeypatch.context() as patch:
            patch.setattr(course, "head_after", silent)
            id_ = await made.submit(1)
            await made.until(id_, "unpaid")
            await made.pay(id_, CREDIT, made.author)
            await made.until(id_, "locked")
            made.skip(3600)
            assert made.opened is not None
            made.opened.desk.ring()
            told = await made.until_told("annulled")
            assert told["round"] == 1 and "signed no head" in told["text"] and "within 1 h" in told["text"]
        await made.until(id_, "locked", "queued")
        await made.grade_all(lambda _: 0.5)
        view = await made.until(id_, "graded")
        assert view.champion and view.round == 2 and view.fee == 0
        assert [(one.round, one.state) for one in await rounds(made)] == [(2, "judged"), (1, "annulled")]
        assert made.board.crown is None or made.board.crown.submission == id_


async def test_graders_that_are_lost_hold_a_round_up_no_longer_than_patience(tmp_path: Path) -> None:
    async with house(tmp_path, patience_s=3600) as made:
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        said = verify_document(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        late = await made.graded(made.grader, work, said, 0.5)
        made.skip(3600)
        assert made.opened is not None
        made.opened.desk.ring()
        told = await made.until_told("annulled")
        assert "1 of 1 model had too few grades" in told["text"]
        with pytest.raises(NotAccepted, match=r"Round 1 was annulled \(1 of 1 model .*come into another round"):
            await made.put_grade(made.grader, late)
        await made.grade_all(lambda _: 0.5)
        assert (await made.until(id_, "graded")).round == 2
        page = await made.ask(made.author, messages.ANNULLED_CALL, messages.AskAnnulled(), messages.Annulled)
        assert page.total == 1 and page.rounds[0].draw == work.draw and page.rounds[0].lock == work.lock


async def test_what_was_complete_is_judged_though_its_time_is_over(tmp_path: Path) -> None:
    async with house(tmp_path, patience_s=3600) as made:
        id_ = await made.submit(1)
        work = await made.until_work(made.grader)
        said = verify_document(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        grade = await made.graded(made.grader, work, said, 0.5)
        assert made.opened is not None
        made.opened.desk.bells.clear()  # the desk sleeps while both happens
        await made.put_grade(made.grader, grade)
        made.skip(7200)
        await made.stop()
        await made.start()
        await made.until(id_, "graded")
        assert [one.state for one in await rounds(made)] == ["judged"]


async def test_a_round_whose_grades_cannot_be_judged_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    async with house(tmp_path, patience_s=3600) as made:
        id_ = await made.submit(1)
        with monkeypatch.context() as patch:
            patch.setattr(course, "judge", broken)
            await made.grade_all(lambda _: 0.5)
            made.skip(3600)
            assert made.opened is not None
            made.opened.desk.ring()
            await made.until_told("annulled")
        await made.grade_all(lambda _: 0.5)
        assert (await made.until(id_, "graded")).round == 2


async def test_its_maintainer_ends_a_round_and_authors_may_withdraw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "head_after", silent)
    async with house(tmp_path, round_s=0) as made:
        id_ = await made.submit(1)
        await made.until(id_, "locked")
        paper = Withdrawal(grid=made.signed.grid, account=hex_of(made.author), submission=id_, issued=NOW)
        down = messages.Withdraw(sign(paper, made.author))
        with pytest.raises(NotAccepted, match="graded just now"):
            await made.ask(made.author, messages.WITHDRAW_CALL, down, messages.SubmissionView)
        made.say_rules(round_s=86_400)  # the next round waits
        await by_command(made, 1)
        view = await made.until(id_, "queued")
        assert view.why == "Round 1 was annulled: the grader's machine burnt"
        with pytest.raises(LeaderboardError, match="Round 1 is annulled already: the grader's machine burnt"):
            await by_command(made, 1)
        with pytest.raises(LeaderboardError, match="There is no round 2; the last is 1"):
            await by_command(made, 2)
        assert (await made.until_told("annulled"))["text"] == "the grader's machine burnt"
        gone = await made.ask(made.author, messages.WITHDRAW_CALL, down, messages.SubmissionView)
        assert gone.state == "withdrawn"
        asked = messages.AskDossier(id_, 1)
        dossier = await made.ask(made.author, messages.DOSSIER_CALL, asked, messages.Dossier)
        said = verify_document(dossier.annulment, Annulment, made.signed.grid, hex_of(made.identity))
        assert said.round == 1 and dossier.verdict is None


async def test_a_verdict_stands(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        id_ = await made.submit(1)
        await made.grade_all(lambda _: 0.5)
        await made.until(id_, "graded")
        with pytest.raises(LeaderboardError, match="Round 1 is judged, and a verdict is not taken back"):
            await by_command(made, 1)


async def test_the_champion_stays_and_is_measured_again(tmp_path: Path) -> None:
    async with house(tmp_path, bounty=CREDIT) as made:
        first = await made.submit(1)
        await made.grade_all(lambda _: 0.5)
        await made.until(first, "graded")
        second = await made.submit(2, Identity.ephemeral())
        work = await made.until_work(made.grader)
        await by_command(made, 2)
        async with asyncio.timeout(60):
            while (again := await made.until_work(made.grader)).draw == work.draw:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await made.view(first)).champion and len(again.tasks) == 2
        await made.grade_all({"model 1": 0.3, "model 2": 0.9}.__getitem__)
        view = await made.until(second, "graded")
        assert view.champion and view.round == 3
        history = await made.ask(made.author, messages.HISTORY_CALL, messages.AskHistory(), messages.History)
        assert [one.round for one in history.reigns] == [1, 3]


async def test_an_end_at_any_moment_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaderboard ends before, and right after, the annulment is on disk."""
    async with house(tmp_path, patience_s=3600) as made:
        with monkeypatch.context() as patch:
            patch.setattr(course, "head_after", silent)
            id_ = await made.submit(1)
            await made.until(id_, "locked")
            patch.setattr(course, "annul", lambda *_: (_ for _ in ()).throw(LeaderboardError("The disk is full.")))
            made.skip(3600)
            await made.stop()
            await made.start()
            await made.until_told("trouble")
            assert (await made.view(id_)).state == "locked"
            await made.stop()
        await by_hand(made)
        await made.start()
        await made.grade_all(lambda _: 0.5)
        assert (await made.until(id_, "graded")).round == 2


async def by_hand(made: House) -> None:
    """While no leaderboard runs."""
    from gridllm_leaderboard.store.engine import open_engine
    from gridllm_leaderboard.store.store import LeaderboardStore

    store = LeaderboardStore(open_engine(made.database_url))
    with store.writing() as batch:
        annul(batch, 1, "by hand", made.identity, int(made.clock()))
    store.close()
