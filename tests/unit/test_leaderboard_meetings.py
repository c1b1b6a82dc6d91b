"""Where vacant titles, models that are put off, regrading and lost files meet. In-memory swarm, no process."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.errors import NotAccepted
from gridllm_leaderboard import messages
from gridllm_leaderboard.checking.check import check_in_child
from gridllm_leaderboard.desk import agenda, safekeeping
from gridllm_leaderboard.desk.arrivals import LOST, Arrivals
from gridllm_leaderboard.statements import Submission, Withdrawal, sign, verify_document
from tests.unit.leaderboard_house import House, hex_of, house


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other without a pause, and a lost title is vacant at once."""
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(safekeeping, name, 0.1)
    monkeypatch.setattr(safekeeping, "PATIENCE_S", 0)
    monkeypatch.setattr(agenda, "AGAIN_S", 0.1)


async def vacated(made: House) -> tuple[str, Path]:
    """A champion that lost its title with its files; these lie at the path that comes with its id."""
    id_ = await made.submit(1)
    await made.grade_all(lambda _: 0.9)
    root = (await made.until(id_, "graded")).root
    assert made.opened is not None
    folder = made.opened.desk.vault.folder(root)
    assert folder is not None
    folder.rename(made.folder / "elsewhere")
    assert "The title is vacant" in (await made.until_told("trouble"))["text"]
    return id_, folder


def forget(draft: Path) -> None:
    draft.unlink()


def there(draft: Path) -> bool:
    return draft.exists()


async def test_who_may_reign_on_is_not_queued_to_meet_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as made:
        id_, folder = await vacated(made)
        monkeypatch.setattr(safekeeping, "AGAIN_S", 1000.0)  # its files are back before anybody looks
        (tmp_path / "elsewhere").rename(folder)
        made.say_rules(tasks=(made.tasks["sums"].rule(60),), round_s=10**6)
        ask = messages.Regrade(made.delegation(made.author), id_)
        with pytest.raises(NotAccepted, match="nobody followed it"):
            await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        monkeypatch.setattr(safekeeping, "AGAIN_S", 0.1)
        assert made.opened is not None
        made.opened.desk.ring()
        await made.until_told("found")
        view = await made.view(id_)
        assert (view.state, view.champion) == ("graded", True)


async def test_who_gave_the_title_up_and_was_withdrawn_is_not_listed_again(tmp_path: Path) -> None:
    async with house(tmp_path, others=1) as made:
        id_, _ = await vacated(made)
        listing = Path((await made.until_told("draft"))["file"])  # for the other maintainer; the same each time
        account = hex_of(made.author)
        said = Withdrawal(grid=made.signed.grid, account=account, submission=id_, issued=int(made.clock()))
        await made.ask(
            made.author, messages.WITHDRAW_CALL, messages.Withdraw(sign(said, made.author)), messages.SubmissionView
        )
        second = await made.submit(2)
        await made.until_told("locked", 2)
        forget(listing)
        await made.grade_all(lambda _: 0.5)
        await made.until(second, "graded")
        await made.until_told("draft", 3)  # of who followed
        assert listing.name.startswith("listing-") and not there(listing)


async def test_lost_files_are_asked_for_again_where_no_fee_was_asked(tmp_path: Path) -> None:
    async with house(tmp_path, round_s=20 * 86_400) as made:
        id_ = await made.submit(1)
        root = (await made.until(id_, "queued")).root
        assert made.opened is not None
        folder = made.opened.desk.vault.folder(root)
        assert folder is not None
        await made.stop()
        folder.rename(tmp_path / "elsewhere")
        made.skip(8 * 86_400)  # it had waited for long
        await made.start()
        await Arrivals(made.opened.desk, check_in_child).tidy()
        view = await made.view(id_)
        assert (view.state, view.why) == ("uploading", LOST)


async def test_a_manifest_that_cannot_be_read_keeps_no_leaderboard_from_starting(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        id_ = await made.submit(1)
        await made.grade_all(lambda _: 0.9)
        root = (await made.until(id_, "graded")).root
        await made.stop()
        kept = tmp_path / "vault" / "manifests" / f"{root}.json"
        forget(kept)
        kept.mkdir()  # as good as a sector that cannot be read
        await made.start()
        assert "its files are gone" in (await made.until_told("trouble"))["text"]


async def test_who_never_met_a_champion_that_nobody_could_grade_may_meet_it_later(tmp_path: Path) -> None:
    quality = {"model 1": 0.5, "model 2": 0.9}.__getitem__
    async with house(tmp_path) as made:
        first = await made.submit(1)
        await made.grade_all(quality)
        await made.until(first, "graded")
        unable = [messages.Unable(first, "it ran out of memory")]
        beyond = messages.AskWork(made.delegation(made.grader), unable=unable)
        await made.ask(made.grader, messages.WORK_CALL, beyond, messages.Work)
        second = await made.submit(2)
        await made.until_told("drawn", 2)
        work = await made.ask(made.grader, messages.WORK_CALL, beyond, messages.Work)
        said = verify_document(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        await made.put_grade(made.grader, await made.graded(made.grader, work, said, 0.9))
        assert not (await made.until(second, "graded")).champion
        ask = messages.Regrade(made.delegation(made.author), second)
        with pytest.raises(NotAccepted, match="by the tasks that hold now"):
            await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        await made.work(made.grader)  # it was given more memory
        await made.ask(made.author, messages.REGRADE_CALL, ask, messages.SubmissionView)
        await made.grade_all(quality)
        assert (await made.until(second, "graded")).champion


async def test_who_brought_what_cannot_be_looked_at_now_is_told(tmp_path: Path) -> None:
    async with house(tmp_path, round_s=10**6) as made:
        made.wanting = [RuntimeError("a fault of a library")] * 10_000
        id_ = await made.submit(1)
        view = await made.until_why(id_, "it will be tried again")
        assert view.state == "checking"
        made.wanting.clear()
        view = await made.until(id_, "queued")
        assert view.why == "It waits for the next round."
