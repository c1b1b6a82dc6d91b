"""The desk's decisions: what is taken, when a round begins, whose work it is, what pays, what follows. No process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.contest import Crown, Rules, TaskRule
from gridllm.errors import LeaderboardError, NotAccepted, UsageError
from gridllm.ledger.messages import HistoryRow
from gridllm_leaderboard.desk.consequences import Shape, bounty, crown, crown_serial, delisting, listing
from gridllm_leaderboard.desk.course import reign_of
from gridllm_leaderboard.desk.intake import Held, check_contribution, check_held, check_words
from gridllm_leaderboard.desk.parts import MAX_RESULTS_BYTES, MOST_OF_ONE, Parts
from gridllm_leaderboard.desk.rounds import lock_of, most_in, to_lock
from gridllm_leaderboard.desk.work import may_be_judged, wanted
from gridllm_leaderboard.messages import PutLines
from gridllm_leaderboard.payments import memo_for, payments_in
from gridllm_leaderboard.ranking.judge import Judgement
from gridllm_leaderboard.records import Mark
from gridllm_leaderboard.statements import MAX_ROUND, Comparison, Verdict, id_of, sign
from gridllm_leaderboard.wishes import lines_of, loaded, parse_task, remember_sources, rules_of, tasks_at
from tests.leaderboard_seasons import AUTHOR, GRID, LEADERBOARD, NOW, digest, submitted
from tests.ledgers import Scribe, homed

TAKEN_DOWN = replace(submitted(2), state="withdrawn")

CREDIT = 10**6
GRADERS = tuple(digest("grader", number) for number in range(3))
TASK = TaskRule(name="sums", kind="choice", commitment="5" * 64, items=20)


def rules(**changes: Any) -> Rules:
    fields: dict[str, Any] = {
        "grid": GRID,
        "serial": 1,
        "issued": NOW,
        "account": LEADERBOARD.public_key.hex(),
        "graders": GRADERS,
        "tasks": (TASK,),
    }
    return Rules(**fields | changes)


@pytest.mark.parametrize(
    ("said", "of_rules", "text"),
    [
        pytest.param({"account": LEADERBOARD.public_key.hex()}, {}, "own account", id="its own"),
        pytest.param({"issued": NOW + 7200}, {}, "in the future", id="future"),
        pytest.param({"size": 2**40}, {}, "exceed the 21,474.8 MB", id="too large"),
        pytest.param({"license": "  "}, {}, "--license", id="no licence"),
        pytest.param({"name": "DEMO"}, {}, "choose another --name", id="a charter's name"),
        pytest.param({"account": GRADERS[0]}, {"graders": GRADERS[:1]}, "add some", id="nobody else grades"),
        pytest.param({"account": GRADERS[0]}, {"quorum": 3}, "2 graders of the 3", id="too few others"),
    ],
)
def test_submissions_that_cannot_be(said: dict[str, Any], of_rules: dict[str, Any], text: str) -> None:
    submission = submitted(1).submission.model_copy(update={"issued": NOW} | said)
    with pytest.raises(NotAccepted, match=text):
        check_words(submission, rules(**of_rules), ["demo"], NOW)


def test_one_that_can_be_is_taken() -> None:
    said = submitted(1).submission
    check_words(said, rules(), ["demo"], NOW)
    check_held(said, rules(), Held(2, None, None, None))
    check_contribution(5, 5)


@pytest.mark.parametrize(
    ("held", "text"),
    [
        pytest.param(Held(0, submitted(2), None, None), "This model was submitted before, as 'model-2'", id="root"),
        pytest.param(Held(0, None, submitted(2), None), "does not make another model\\.$", id="weights"),
        pytest.param(
            Held(0, TAKEN_DOWN, None, None), "withdrawn\\)\\. Weights that were withdrawn stay taken", id="withdrawn"
        ),
        pytest.param(Held(0, None, None, submitted(2)), "called 'model-2' already", id="name"),
        pytest.param(Held(3, None, None, None, 0, 7201), "3 models in 24 hours.*; the next one in 3 h", id="cap"),
        pytest.param(Held(3, None, None, None, 0, 61), "the next one in 2 min", id="cap, soon"),
        pytest.param(Held(0, None, None, None, 3), "of 3 submissions of yours are outstanding", id="awaited"),
    ],
)
def test_submissions_that_others_stand_in_the_way_of(held: Held, text: str) -> None:
    with pytest.raises(NotAccepted, match=text):
        check_held(submitted(1).submission, rules(), held)


def test_who_contributed_too_little_is_told_what_it_takes() -> None:
    with pytest.raises(NotAccepted, match=r"needs a contribution of 5 credits.*yours is -1 credits.*gridllm serve"):
        check_contribution(-CREDIT, 5 * CREDIT)


def test_a_round_waits_for_others_but_not_for_ever_and_takes_no_more_than_fit() -> None:
    queued = [submitted(number) for number in range(MAX_ROUND + 3)]
    waits = rules(round_s=600)
    assert to_lock([], waits, NOW, NOW + 9999) == ()
    assert to_lock(queued[:2], waits, NOW, NOW + 599) == ()
    assert to_lock(queued[:2], waits, NOW, NOW + 600) == tuple(sorted(one.id for one in queued[:2]))
    assert len(to_lock(queued, waits, NOW, NOW + 1)) == MAX_ROUND
    assert to_lock(queued[:1], rules(round_s=0), NOW, NOW) == (queued[0].id,)


@pytest.mark.parametrize("graders", [1, 8, 16, 64])
def test_a_verdict_can_name_all_grades_of_a_round(graders: int) -> None:
    said = rules(graders=tuple(digest("grader", number) for number in range(graders)))
    models = [digest("model", number) for number in range(most_in(said))]
    assert len(models) == MAX_ROUND if graders <= 8 else 8 <= len(models) < MAX_ROUND
    figures = {"difference": -1.2345678901234567e-05, "low": -1.2345678901234567e-05, "high": -1.2345678901234567e-05}
    verdict = Verdict(
        grid=GRID,
        round=2**31,
        draw=digest("draw", 1),
        grades=tuple(digest("grade", number) for number in range((len(models) + 1) * graders)),
        outliers=(),
        failed=(),
        comparisons=tuple(Comparison(submission=one, **figures) for one in models),
        champion=models[0],
        changed=True,
        issued=NOW,
    )
    sign(verdict, LEADERBOARD)  # raises where it is too large


def test_a_lock_is_later_than_every_head_that_is_known() -> None:
    ids = (submitted(1).id,)
    assert lock_of(GRID, 1, "7" * 64, ids, None, ("8" * 64, 5, NOW + 40), NOW).issued == NOW + 40
    assert lock_of(GRID, 1, "7" * 64, ids, None, ("8" * 64, 5, NOW - 40), NOW).issued == NOW


def test_work_goes_to_those_who_did_not_grade_and_are_not_the_author() -> None:
    a, b, champion = "a" * 64, "b" * 64, "c" * 64
    authors = {a: GRADERS[0], b: "0" * 64, champion: "1" * 64}
    models = [a, b, champion]
    said = rules(quorum=1)
    assert wanted(GRADERS[0], said, models, authors, {}, {}) == [b, champion]
    assert wanted(GRADERS[1], said, models, authors, {b: {GRADERS[0]}}, {}) == [a, champion]
    assert wanted(GRADERS[1], said, models, authors, {b: {GRADERS[0]}}, {b: GRADERS[1:]}) == [a, champion, b]
    assert wanted(GRADERS[1], rules(quorum=2), models, authors, {b: {GRADERS[0]}}, {}) == [a, champion, b]
    assert wanted("9" * 64, said, models, authors, {}, {}) == []
    assert not may_be_judged(said, models, authors, {a: 1, b: 1})
    assert may_be_judged(said, models, authors, {a: 1, b: 1, champion: 1})
    assert may_be_judged(rules(quorum=3), [a], authors, {a: 2})  # the third grader is its author


def test_what_pays_a_fee() -> None:
    scribe = Scribe()
    payer = homed(scribe.signed, scribe.signed.charter.keepers[0])
    id_, account = submitted(1).id, LEADERBOARD.public_key.hex()
    sound = scribe.transfer(payer, LEADERBOARD, 5, memo=memo_for(id_))
    others = [
        scribe.transfer(payer, LEADERBOARD, 5, memo="leaderboard abc"),
        scribe.transfer(payer, AUTHOR, 5, memo=memo_for(id_)),
        scribe.grant(LEADERBOARD, 5),
    ]
    log = scribe.signed.charter.keepers[0]
    rows = [HistoryRow(number, log, number, NOW, one.raw) for number, one in enumerate([sound, *others])]
    forged = HistoryRow(9, scribe.signed.charter.keepers[1], 9, NOW, sound.raw)  # in a log that had no say
    (found,) = payments_in([*rows, forged], scribe.rules, account)
    assert (found.submission, found.micro, found.transfer) == (id_[:32], 5, sound.id.hex())


def verdict(**changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "grid": GRID,
        "round": 4,
        "draw": "d" * 64,
        "grades": (),
        "outliers": (),
        "failed": (),
        "comparisons": (),
        "champion": submitted(1).id,
        "changed": True,
        "issued": NOW,
    }
    return Verdict(**fields | changes)


def test_what_follows_from_a_verdict_is_always_the_same() -> None:
    entry, said = submitted(1), verdict()
    paid = [bounty(entry.submission, said, id_of(said), rules(bounty=7)) for _ in range(2)]
    assert paid[0] is not None and paid[0] == paid[1]
    assert (paid[0].micro, paid[0].account) == (7, entry.submission.account)
    assert bounty(entry.submission, said, id_of(said), rules()) is None
    assert bounty(entry.submission, verdict(changed=False), id_of(said), rules(bounty=7)) is None
    shape = Shape(2, 8, "float32", 90)
    listed = listing(GRID, entry.id, entry.submission, shape, 3, NOW)
    assert (listed.contribution, listed.model.name, listed.model.blocks) == (3, "model-1", 2)
    gone = delisting(listed, NOW - 50)
    assert gone.withdrawn and gone.issued == NOW + 1
    first = crown(entry.submission, entry.id, said, id_of(said), crown_serial(None, 4), None)
    assert (first.serial, first.former) == (4, None)
    older = Crown(**first.model_dump() | {"serial": 9})
    assert crown_serial(older, 5) == 10  # a store that began anew


def test_a_reign_tells_the_lead() -> None:
    a, b = submitted(1).id, submitted(2).id
    marks = (Mark(a, 4, 50.0, 40.0, 60.0, {}), Mark(b, 4, 70.0, 60.0, 80.0, {}))
    lead = Comparison(submission=b, difference=20.0, low=5.0, high=30.0)
    found = reign_of(Judgement(comparisons=(lead,), champion=b, changed=True, marks=marks), 4, NOW, rules(bounty=2))
    assert (found.submission, found.score, found.lead, found.bounty) == (b, 70.0, (20.0, 5.0, 30.0), 2)


def test_lists_of_results_come_in_pieces_and_are_bounded() -> None:
    parts, raw = Parts(), bytes(range(100))

    def piece(root: str, offset: int, size: int, total: int = 100) -> PutLines:
        return PutLines(b"", root * 64, total, offset, raw[offset : offset + size])

    assert parts.add("g", piece("a", 0, 60)) == (60, None)
    assert parts.add("g", piece("a", 0, 60)) == (60, None)  # said again: it goes on at 60
    assert parts.add("h", piece("a", 0, 10)) == (10, None)  # another grader's own
    assert parts.add("g", piece("a", 60, 60)) == (100, raw)
    assert parts.add("g", piece("a", 60, 60)) == (0, None)  # it is not there any more
    with pytest.raises(NotAccepted, match="exceeds the cap"):
        parts.add("g", piece("b", 0, 1, MAX_RESULTS_BYTES + 1))
    with pytest.raises(NotAccepted, match="does not fit"):
        parts.add("g", piece("b", 0, 60, 50))
    for root in "bcdef"[: MOST_OF_ONE + 1]:
        parts.add("g", piece(root, 0, 50))
    assert parts.add("g", piece("b", 50, 50)) == (0, None)  # its oldest gave way
    assert parts.add("h", piece("a", 10, 10)) == (20, None)


def test_rules_from_flags_and_what_is_not_said_stays(tmp_path: Path) -> None:
    assert (parse_task("sums:40:3").items, parse_task("sums:40:3").weight) == (40, 3)
    assert parse_task("a/b c").source == "a/b c" and parse_task("sums").items == 200
    tasks = loaded([parse_task("sums:40:3")])
    first = rules_of(GRID, "2" * 64, None, {"graders": list(GRADERS), "fee": 5}, lines_of(tasks), NOW)
    assert (first.serial, first.fee, first.tasks[0].items) == (1, 5, 40)
    then = rules_of(GRID, "2" * 64, first, {"bounty": 9}, [], NOW + 1)
    assert (then.serial, then.fee, then.bounty, then.tasks, then.graders) == (2, 5, 9, first.tasks, GRADERS)
    with pytest.raises(UsageError, match="quorum of 4"):
        rules_of(GRID, "2" * 64, first, {"quorum": 4}, [], NOW)
    with pytest.raises(UsageError, match="items 1 cannot be"):
        lines_of(loaded([parse_task("sums:1")]))
    remember_sources(tmp_path / "tasks.json", tasks)
    assert list(tasks_at(tmp_path / "tasks.json", then)) == ["sums"]
    with pytest.raises(LeaderboardError, match="not the one that the rules commit to"):
        tasks_at(tmp_path / "tasks.json", rules())
