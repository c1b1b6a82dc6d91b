"""The leaderboard's store: listings, states, rounds; handed in twice counts once, another document is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from gridllm.errors import LeaderboardError
from gridllm.identity.keys import Identity
from gridllm_leaderboard.results import write_results
from gridllm_leaderboard.statements import id_of
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.intake import FOLLOWING
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.leaderboard_seasons import (
    AUTHOR,
    NOW,
    broken,
    digest,
    drawn,
    emptied,
    grade_all,
    graded,
    judged,
    locked,
    mark,
    open_round,
    reign,
    results,
    submitted,
    whole_round,
    withdrawn,
)

OTHER = Identity.ephemeral()
anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'leaderboard.db'}")
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> LeaderboardStore:
    return LeaderboardStore(engine)


def test_what_was_entered_is_listed_newest_first_and_found_by_all_it_is_known_by(store: LeaderboardStore) -> None:
    entries = [submitted(number) for number in range(5)] + [submitted(9, OTHER)]
    with store.writing() as batch:
        assert all(batch.enter(entry) for entry in entries)
    with store.reading() as view:
        assert view.entries() == entries[::-1]
        assert view.entries(AUTHOR.public_key.hex(), offset=1, limit=2) == [entries[3], entries[2]]
        assert view.entry(entries[2].id) == entries[2] and view.entry(digest("no")) is None
        assert view.several([entries[0].id, digest("no")]) == {entries[0].id: entries[0]}
        assert (view.count(), view.count(OTHER.public_key.hex()), view.count(since=NOW + 4)) == (6, 1, 2)
        assert view.find(entries[1].id[:12]) == [entries[1].id] and view.find(digest("no")) == []
        assert view.in_state("queued", "locked") == entries and view.in_state("graded") == []
        for found in (
            view.with_root(digest("root", 3)),
            view.with_weights(digest("weights", 3)),
            view.with_name("MODEL-3"),
        ):
            assert found == entries[3]


@pytest.mark.parametrize("field", ["root", "weights", "name"])
def test_a_model_is_taken_once_however_it_is_called(store: LeaderboardStore, field: str) -> None:
    first = submitted(1)
    value = getattr(first.submission, field)
    again = submitted(2, **{field: value.upper() if field == "name" else value})
    with store.writing() as batch:
        assert batch.enter(first)
        assert not batch.enter(first)
        with pytest.raises(LeaderboardError, match=f"already: submission {first.id[:16]}"):
            batch.enter(again)
        batch.state(first.id, "refused", "NaN")
        assert batch.enter(again)
        with pytest.raises(LeaderboardError, match="not what its submission says"):
            batch.enter(submitted(3).__class__(digest("x"), first.raw, first.submission, "queued", NOW))


def test_states_follow_each_other_as_they_may(store: LeaderboardStore) -> None:
    entry = submitted(1, queued=False)
    with store.writing() as batch:
        batch.enter(entry)
        batch.state(entry.id, "checking")
        batch.state(entry.id, "unpaid", "1 credit\0 is due")
        for state in ("locked", "graded", "failed", "withdrawn"):
            with pytest.raises(LeaderboardError, match=f"is unpaid; {state} cannot follow"):
                batch.state(entry.id, state)  # type: ignore[arg-type]
        with pytest.raises(LeaderboardError, match="no submission"):
            batch.state(digest("no"), "checking")
    with store.reading() as view:
        found = view.entry(entry.id)
        assert found is not None and (found.state, found.why) == ("unpaid", "1 credit is due")
    assert not FOLLOWING["locked"] and not FOLLOWING["withdrawn"]
    with store.writing() as batch:  # files that are gone
        batch.state(entry.id, "queued")
        batch.bring_again(entry.id, "bring them")
        assert batch.states([entry.id]) == {entry.id: "uploading"}
        whole_round(batch, 1, [submitted(2), submitted(3)])
        batch.state(submitted(2).id, "queued")
        batch.bring_again(submitted(2).id, "bring them")
        assert batch.states([submitted(2).id]) == {submitted(2).id: "graded"}
        with pytest.raises(LeaderboardError, match="uploading cannot follow"):
            batch.bring_again(submitted(2).id, "bring them")


def test_a_transfer_pays_for_one_submission_once(store: LeaderboardStore) -> None:
    first, second = submitted(1, queued=False), submitted(2, queued=False)
    with store.writing() as batch:
        batch.enter(first)
        batch.enter(second)
        batch.state(first.id, "checking")
        batch.state(first.id, "unpaid")
        assert batch.paid(first.id, digest("transfer")) and not batch.paid(first.id, digest("transfer"))
        assert batch.paid(second.id, digest("other"))
    with store.writing() as batch:
        assert batch.states([first.id, second.id]) == {first.id: "queued", second.id: "uploading"}
        assert batch.settled(digest("transfer")) and not batch.settled(digest("no"))
        with pytest.raises(LeaderboardError, match="paid for submission"):
            batch.paid(second.id, digest("transfer"))
        with pytest.raises(LeaderboardError, match="by another transfer"):
            batch.paid(first.id, digest("third"))


def test_a_season(store: LeaderboardStore) -> None:
    entries = [submitted(number) for number in range(6)]
    with store.writing() as batch:
        first = whole_round(batch, 1, entries[:3])
        assert batch.champion() == first
        second = whole_round(batch, 2, entries[3:], champion=first)
    with store.reading() as view:
        assert view.champion() == second and [row.submission for row in view.reigns()] == [first, second]
        assert view.reigns()[1] == reign(second, 2)
        assert (view.last_round(), view.open_round()) == (2, None)
        assert [one.number for one in view.rounds()] == [2, 1] and view.rounds()[0].verdict_raw == view.verdict(2)
        marks = {one.submission: one.round for one in view.marks()}
        assert marks == {entry.id: 1 if entry in entries[1:3] else 2 for entry in entries}
        assert {one.state for one in view.entries()} == {"graded"}
        assert view.graded([1, 2, 3]) == {1: 3, 2: 4, 3: 0}
        kept = view.grades(2, first)
        assert [one.document.submission for one in kept] == [first] and len(view.grades(2)) == 4
        root = kept[0].document.tasks[0].results
        assert view.lines(root) == write_results(results(first, 2)) and view.lines(digest("no")) is None


def test_every_step_of_a_round_needs_the_one_before(store: LeaderboardStore) -> None:
    entries = [submitted(number) for number in range(3)]
    raw, lock = locked(1, [entries[0].id])
    with store.writing() as batch:
        batch.enter(entries[0])
        with pytest.raises(LeaderboardError, match="not queued"):
            batch.lock(1, locked(1, [digest("no")])[0], [digest("no")])
        with pytest.raises(LeaderboardError, match="cannot be locked"):
            batch.lock(2, locked(2, [entries[0].id])[0], [entries[0].id])
        with pytest.raises(LeaderboardError, match="does not reign"):
            batch.lock(1, locked(1, [entries[0].id], champion=digest("no"))[0], [entries[0].id])
        assert batch.lock(1, raw, lock.submissions) and not batch.lock(1, raw, lock.submissions)
        with pytest.raises(LeaderboardError, match="locked already, by another"):
            batch.lock(1, locked(1, [entries[0].id], issued=1)[0], lock.submissions)
        draw_raw, draw = drawn(lock)
        grade_raw, grade = graded(draw, entries[0].id)
        with pytest.raises(LeaderboardError, match="not of what was drawn"):
            batch.grade(id_of(grade), grade_raw, grade)
        with pytest.raises(LeaderboardError, match="not that of round 1's lock"):
            batch.draw(1, drawn(locked(1, [digest("no")])[1])[0])
        assert batch.draw(1, draw_raw) and not batch.draw(1, draw_raw)
        with pytest.raises(LeaderboardError, match="drawn already, by another"):
            batch.draw(1, drawn(lock, issued=1)[0])
        with pytest.raises(LeaderboardError, match="hand them in first"):
            batch.grade(id_of(grade), grade_raw, grade)
        with pytest.raises(LeaderboardError, match="not of what was drawn"):
            stray, of_another = graded(draw, entries[1].id)
            batch.grade(id_of(of_another), stray, of_another)
        verdict_raw, verdict = judged(draw, None)
        with pytest.raises(LeaderboardError, match=f"leaves {entries[0].id[:16]}… out"):
            batch.judge(1, verdict_raw, verdict, [])
    assert store_state(store, entries[0].id) == "locked"


def store_state(store: LeaderboardStore, id_: str) -> str:
    with store.reading() as view:
        return view.states([id_])[id_]


def test_a_grader_speaks_once_of_each_model(store: LeaderboardStore) -> None:
    entries = [submitted(number) for number in range(2)]
    good, bad = sorted(entry.id for entry in entries)
    with store.writing() as batch:
        draw = open_round(batch, 1, entries)
        grade_all(batch, draw, [good])
        raw, grade = graded(draw, good)
        assert not batch.grade(id_of(grade), raw, grade)
        raw, changed = graded(draw, good, issued=1)
        with pytest.raises(LeaderboardError, match="something else"):
            batch.grade(id_of(changed), raw, changed)
        raw, failure = broken(draw, bad)
        assert batch.failure(id_of(failure), raw, failure) and not batch.failure(id_of(failure), raw, failure)
        assert [kept.raw for kept in batch.failures(1)] == [raw]
        raw, verdict = judged(draw, good, changed=True, failed=[bad])
        assert batch.judge(1, raw, verdict, [mark(good, 1)], reign(good, 1))
        assert not batch.judge(1, raw, verdict, [mark(good, 1)], reign(good, 1))
        later, other = judged(draw, good, changed=True, failed=[bad], issued=1)
        with pytest.raises(LeaderboardError, match="judged already"):
            batch.judge(1, later, other, [mark(good, 1)], reign(good, 1))
        late, grade = graded(draw, bad, OTHER)
        with pytest.raises(LeaderboardError, match="is judged"):
            batch.grade(id_of(grade), late, grade)
        failed = batch.entry(bad)
        assert failed is not None and (failed.state, failed.why) == ("failed", "it needs 900 GB")


def test_withdrawing(store: LeaderboardStore) -> None:
    entries = [submitted(number) for number in range(3)]
    with store.writing() as batch:
        champion = whole_round(batch, 1, entries[:2])
        with pytest.raises(LeaderboardError, match="reigning champion"):
            batch.withdraw(champion, withdrawn(entries[0]))
        with pytest.raises(LeaderboardError, match="by its author"):
            batch.withdraw(entries[1].id, withdrawn(entries[1], OTHER))
        paper = withdrawn(entries[1])
        assert batch.withdraw(entries[1].id, paper) and not batch.withdraw(entries[1].id, paper)
        with pytest.raises(LeaderboardError, match="withdrawn already"):
            batch.withdraw(entries[1].id, withdrawn(entries[1], issued=1))
        assert batch.withdrawn() == {entries[1].id} and len(batch.marks()) == 2
        assert batch.with_name("model-1") is None and batch.with_root(digest("root", 1)) is not None
        draw = open_round(batch, 2, [entries[2]], champion)
        batch.withdraw(entries[2].id, withdrawn(entries[2]))
        grade_all(batch, draw, [entries[2].id, champion])
        raw, verdict = judged(draw, entries[2].id, changed=True)
        marks = [mark(entries[2].id, 2), mark(champion, 2)]
        with pytest.raises(LeaderboardError, match="taken down"):
            batch.judge(2, raw, verdict, marks, reign(entries[2].id, 2))
        raw, verdict = judged(draw, champion)
        batch.judge(2, raw, verdict, marks)
        assert batch.states([entries[2].id]) == {entries[2].id: "withdrawn"}


def test_lists_are_what_their_roots_say(store: LeaderboardStore) -> None:
    with store.writing() as batch:
        with pytest.raises(LeaderboardError, match="does not have the root"):
            batch.put_lines(digest("no"), b'{"text":"a"}\n')
        batch.spend("facts", [digest(1), digest(2)])
        batch.spend("facts", [digest(2), digest(3)])
        batch.keep("cursor", "1")
        batch.keep("cursor", "2")
    with store.reading() as view:
        assert view.spent("facts") == {digest(1), digest(2), digest(3)} and view.spent("sums") == set()
        assert (view.value("cursor"), view.value("no")) == ("2", None)


def test_a_batch_that_raises_never_was(store: LeaderboardStore) -> None:
    with pytest.raises(RuntimeError), store.writing() as batch:
        whole_round(batch, 1, [submitted(1)])
        raise RuntimeError
    with store.reading() as view:
        assert (view.count(), view.last_round(), view.champion(), view.marks()) == (0, 0, None, [])


def test_what_a_batch_has_read_holds_until_it_has_written(store: LeaderboardStore) -> None:
    """Many submissions of one account at once, of which three are allowed."""

    def submit(number: int) -> None:
        with store.writing() as batch:
            if batch.count(AUTHOR.public_key.hex()) < 3:
                batch.enter(submitted(number))

    threads = [Thread(target=submit, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with store.reading() as view:
        assert view.count() == 3


@anew
@given(order=st.permutations(range(4)), again=st.lists(st.integers(0, 3), max_size=6))
def test_whatever_the_order_and_however_often_grades_count_once(
    engine: Engine, order: list[int], again: list[int]
) -> None:
    emptied(engine)
    store = LeaderboardStore(engine)
    entries = [submitted(number) for number in range(4)]
    with store.writing() as batch:
        draw = open_round(batch, 1, entries)
    for place in [*order, *again]:
        with store.writing() as batch:
            grade_all(batch, draw, [entries[place].id])
    with store.reading() as view:
        kept = view.grades(1)
        assert [one.document.submission for one in kept] == [entries[place].id for place in order]
