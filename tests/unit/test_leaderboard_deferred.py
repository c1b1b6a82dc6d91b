"""Models that no grader was able to grade: the round ends for the others, and they wait for one again."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.ranking.judge import judge, verdict_of
from gridllm_leaderboard.statements import Verdict, sign, verify_document
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from gridllm_leaderboard.verifying.rounds import verify_judgement
from tests.leaderboard_seasons import GRID, LEADERBOARD, grade_all, judged, mark, open_round, submitted, whole_round
from tests.unit.graded_rounds import facts, graded, model, named


def test_what_is_deferred_is_no_part_of_the_verdict_and_the_others_are_judged() -> None:
    rng = random.Random(1)
    good = graded("good", model(rng, 0.7, 2.0))
    said = facts([graded("old", model(rng, 0.2, 3.0)), good], ["good", "huge"], "old")
    assert judge(said).missing[named("huge")].more == 1
    found = judge(dataclasses.replace(said, deferred=[named("huge")]))
    assert (found.champion, found.changed, found.failed, found.missing) == (named("good"), True, (), {})
    verdict = verdict_of(found, dataclasses.replace(said, deferred=[named("huge")]), named("grid"), 7)
    assert verdict.deferred == (named("huge"),)
    judgement, _ = verify_judgement(said, verdict)
    assert judgement.marks == found.marks


def test_a_champion_that_is_deferred_stays_and_nobody_is_compared_with_it() -> None:
    said = facts([graded("new", model(random.Random(1), 0.9, 1.0))], ["new"], "old", deferred=[named("old")])
    found = judge(said)
    assert (found.champion, found.changed, found.comparisons, found.missing) == (named("old"), False, (), {})
    assert [one.submission for one in found.marks] == [named("new")]


def test_a_model_that_has_its_grades_cannot_be_deferred() -> None:
    said = facts([graded("new", model(random.Random(1), 0.9, 1.0))], ["new"])
    deferred = dataclasses.replace(said, deferred=[named("new")])
    verdict = verdict_of(judge(deferred), deferred, named("grid"), 7)
    with pytest.raises(LeaderboardError, match="which has all the grades that it needs"):
        verify_judgement(said, verdict)


def test_a_verdict_that_defers_nothing_is_spelled_as_before_there_was_that_field() -> None:
    said = facts([graded("new", model(random.Random(1), 0.9, 1.0))], ["new"])
    verdict = verdict_of(judge(said), said, GRID, 7)
    assert "deferred" not in verdict.model_dump() and b"deferred" not in verdict.model_dump_json().encode()
    deferring = verdict.model_copy(update={"deferred": (named("huge"),)})
    raw = sign(deferring, LEADERBOARD)
    assert verify_document(raw, Verdict, GRID, LEADERBOARD.public_key.hex()) == deferring


def test_what_is_deferred_is_queued_again_and_stays_paid(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'leaderboard.db'}")
    store = LeaderboardStore(engine)
    first, small, huge = (submitted(number) for number in range(3))
    with store.writing() as batch:
        whole_round(batch, 1, [first])
        draw = open_round(batch, 2, [small, huge], first.id)
        batch.paid(huge.id, named("transfer"))
        grade_all(batch, draw, [small.id, first.id])
        marks = [mark(small.id, 2), mark(first.id, 2)]
        raw, verdict = judged(draw, first.id, deferred=[huge.id])
        with pytest.raises(LeaderboardError, match="is put off and graded"):
            batch.judge(2, raw, verdict, [*marks, mark(huge.id, 2)])
        assert batch.judge(2, raw, verdict, marks)
    with store.reading() as view:
        entry = view.entry(huge.id)
        assert entry is not None and (entry.state, entry.round, entry.paid, entry.why) == ("queued", 0, True, "")
        assert view.states([small.id]) == {small.id: "graded"} and view.open_round() is None
    with store.writing() as batch:
        open_round(batch, 3, [huge], first.id)
    with store.reading() as view:
        assert view.states([huge.id]) == {huge.id: "locked"}
    engine.dispose()
