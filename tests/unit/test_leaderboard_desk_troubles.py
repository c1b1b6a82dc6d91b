"""What the desk meets and must not stop at: empty pools, silent keepers, models that break a library."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signature

from gridllm.errors import KeeperSilent, LeaderboardError, NotAccepted
from gridllm.identity.keys import Identity
from gridllm.ledger.messages import Heads
from gridllm_leaderboard import messages
from gridllm_leaderboard.desk import course
from gridllm_leaderboard.desk.beacons import AHEAD_S, newest_head
from gridllm_leaderboard.desk.proclaiming import Proclaimer
from gridllm_leaderboard.ranking.judge import Judgement, RoundFacts
from gridllm_leaderboard.statements import TYPES, Submission, Verdict, id_of, verify_document
from gridllm_leaderboard.tasks import load
from gridllm_leaderboard.tasks.from_text import make_task
from tests.unit.leaderboard_house import CREDIT, House, hex_of, house
from tests.unit.log_heads import KEEPER, NOW, OTHER, SIGNED, signed_head


def _add_pool(made: House, items: int, of_round: int) -> None:
    """Rules with a task of that many sealed items."""
    text = "\n\n".join(f"Paragraph {number} of a text that nobody has seen." for number in range(items + 2))
    make_task([text], made.folder / "tiny", name="tiny", practice=2, size=10, seed=1)
    made.tasks["tiny"] = load(made.folder / "tiny")
    made.say_rules(tasks=(made.tasks["tiny"].rule(of_round),))


async def test_a_pool_that_is_used_up_locks_no_round(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        _add_pool(made, items=5, of_round=3)
        first = await made.submit(1)
        await made.grade_all(lambda _: 0.5)
        await made.until(first, "graded")
        second = await made.submit(2)
        told: Any = await made.until_told("trouble")
        assert "tiny has 2 items left" in told["text"]
        view = await made.until_why(second, "No round can begin now")  # under these rules its round would never end
        assert view.state == "queued"
        made.say_rules()
        await made.until(second, "locked")


async def test_a_model_that_breaks_a_library_holds_up_no_other(tmp_path: Path) -> None:
    async with house(tmp_path, fee=CREDIT) as made:
        made.wanting = [RuntimeError("a fault of a library")]
        first = await made.submit(1)
        second = await made.submit(2)
        await made.until(second, "unpaid")
        await made.until(first, "unpaid")  # it was looked at again


async def test_a_bounty_outlasts_the_reign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booked = Proclaimer._grant

    async def silent(self: Proclaimer, grant: Any) -> str:
        raise KeeperSilent(made.board.rules.account if made.board.rules else "", "it is being mended")

    async with house(tmp_path, bounty=CREDIT) as made:
        monkeypatch.setattr(Proclaimer, "_grant", silent)
        for seed in (1, 2):
            id_ = await made.submit(seed)
            await made.grade_all({"model 1": 0.3, "model 2": 0.9}.__getitem__)
            assert (await made.until(id_, "graded")).champion
        monkeypatch.setattr(Proclaimer, "_grant", booked)
        assert made.opened is not None
        made.opened.desk.ring()
        paid = [(await made.until_told("bounty", count))["submission"] for count in (1, 2)]
        assert len(set(paid)) == 2


async def test_a_grade_that_comes_while_the_verdict_is_written_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, go_on = threading.Event(), threading.Event()
    judge = course.judge

    def slow(facts: RoundFacts) -> Judgement:
        judging.set()
        go_on.wait(20)
        return judge(facts)

    monkeypatch.setattr(course, "judge", slow)
    graders = Identity.ephemeral(), Identity.ephemeral()
    async with house(tmp_path, graders=tuple(map(hex_of, graders)), quorum=1) as made:
        id_ = await made.submit(1)
        work = await made.until_work(graders[0])
        said = verify_document(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity))
        grades = [await made.graded(grader, work, said, 0.5) for grader in graders]
        await made.put_grade(graders[0], grades[0])
        assert await asyncio.to_thread(judging.wait, 20)
        await made.put_grade(graders[1], grades[1])  # taken, for there is no verdict yet
        go_on.set()
        await made.until(id_, "graded")
        dossier = await made.ask(made.author, messages.DOSSIER_CALL, messages.AskDossier(id_), messages.Dossier)
        verdict = verify_document(dossier.verdict, Verdict, made.signed.grid, hex_of(made.identity))
        assert list(verdict.grades) == sorted(map(id_of, grades))


async def test_a_verdict_that_could_not_be_written_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [LeaderboardError("The disk is full.")]
    verdict_of = course.verdict_of

    def once(*facts: Any) -> Verdict:
        if faults:
            raise faults.pop()
        return verdict_of(*facts)

    monkeypatch.setattr(course, "verdict_of", once)
    async with house(tmp_path) as made:
        id_ = await made.submit(1)
        await made.grade_all(lambda _: 0.5)
        await made.until(id_, "graded")
        assert not faults


async def test_blanks_do_not_make_a_submission_that_no_grader_can_be_sent(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        longest = made.submission(1, message="\x01" * 500, license="\x01" * 64, name="x" * 64)
        assert (await made.enter(longest)).state == "uploading"
        said = made.submission(2).model_dump_json(indent=20).ljust(30_000).encode()
        envelope = Envelope(said, TYPES[Submission], {})
        signature = made.author.sign(envelope.pae()).hex()
        envelope.signatures[hex_of(made.author)] = Signature(hex_of(made.author), signature)
        raw = json.dumps(envelope.to_dict()).encode()
        assert verify_document(raw, Submission, made.signed.grid, "").name == "model 2"
        with pytest.raises(NotAccepted, match="larger than its words"):
            await made.ask(made.author, messages.ENTER_CALL, messages.Enter(raw), messages.SubmissionView)


class _Clocks:
    """Two keepers, the first of which signs heads of another time."""

    signed = SIGNED
    all = (KEEPER.public_key.hex(), OTHER.public_key.hex())

    def __init__(self, ahead_s: int) -> None:
        self._ahead_s = ahead_s

    def home(self, account: str) -> str:
        return self.all[0]

    async def heads(self, keeper: str) -> Heads:
        mine = keeper == self.all[0]
        return Heads([signed_head(9, keeper=KEEPER if mine else OTHER, issued=NOW + self._ahead_s * mine)])


async def test_a_keeper_whose_clock_is_far_ahead_decides_no_items() -> None:
    """A lock is no earlier than its keeper's head, and waits for a later one: until then, and patience, too."""
    near: Any = _Clocks(AHEAD_S)
    assert await newest_head(near, hex_of(KEEPER), NOW) == (near.all[0], 9, NOW + AHEAD_S)
    far: Any = _Clocks(10 * 365 * 86400)
    assert await newest_head(far, hex_of(KEEPER), NOW) == (far.all[1], 9, NOW)
    with pytest.raises(KeeperSilent, match="315,360,001 s ahead"):
        far.all = far.all[:1]
        await newest_head(far, hex_of(KEEPER), NOW - 1)
