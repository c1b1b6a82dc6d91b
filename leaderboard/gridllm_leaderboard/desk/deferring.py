"""Which models no grader is able to grade now: they wait in the queue, or leave the round that they hold up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from gridllm_leaderboard.desk.capacity import WAITS, heard_lately, need_of, through_grid, why_not
from gridllm_leaderboard.desk.evidence import graders_by_model, judged_counts
from gridllm_leaderboard.desk.work import may_be_judged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.desk.capacity import Capacity
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.ranking.judge import Missing
    from gridllm_leaderboard.records import Entry, Round
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

DISAGREED_KEY: Final = "disagreed:"  # in the store's settings, with the submission: graders that it needs next time
GRACE_S: Final = 600  # after the draw, for graders to say for the first time what they are able to do


class Stand(NamedTuple):
    """How an open round stands. Where two are equal, nothing new can follow."""

    round: int
    ready: bool  # every model has as many grades as it needs or can get, the deferred ones aside
    heard: int  # grades and failures
    deferred: tuple[str, ...]  # models, sorted
    early: bool  # graders that were never heard are waited for
    known: Mapping[str, Capacity]  # what graders are able to do; when they said so does not count


def stand_of(view: View, round_: Round, rules: Rules, now: int) -> Stand:
    """Read it off the store. Raises LeaderboardError."""
    deferred = deferred_of(view, round_, rules, now)
    done = graders_by_model(view, round_.number)
    authors = {id_: entry.submission.account for id_, entry in view.several(round_.graded).items()}
    counts = {id_: len(graders) for id_, graders in done.items()}
    left = [one for one in round_.graded if one not in deferred]
    known = {grader: one.silent for grader, one in heard_lately(view, rules, now).items()}
    ready = may_be_judged(rules, left, authors, counts)
    return Stand(round_.number, ready, sum(counts.values()), deferred, _is_early(round_, now), known)


def deferred_of(
    view: View, round_: Round, rules: Rules, now: int, missing: Mapping[str, Missing] | None = None
) -> tuple[str, ...]:
    """Models of an open round that lack grades which nobody is able to give, sorted.

    Args:
        missing: where the grades that are here disagree: what is lacking beyond them.
    """
    if round_.draw is None:
        return ()
    known, done = heard_lately(view, rules, now), graders_by_model(view, round_.number)
    early, found = _is_early(round_, now), []
    for id_, entry in view.several(round_.graded).items():
        lacking = None if missing is None else missing.get(id_)
        said = entry.submission
        need = need_of(rules, said.account, done.get(id_, ()), 0 if lacking is None else lacking.more)
        unheard = any(one not in known for one in need.graders)
        if need.done < need.all and not (early and unheard) and why_not(id_, said, need, known):
            found.append(id_)
    return tuple(sorted(found))


def note_disagreements(batch: Batch, round_: Round, rules: Rules, deferred: Collection[str]) -> None:
    """Keep of each model that is put off because its graders disagree how many it needs: the same ones would disagree
    in round after round, and use up the pools.
    """
    counts = judged_counts(batch, round_.number)
    for id_, entry in batch.several(round_.graded).items():
        disagreed = id_ in deferred and counts[id_] >= need_of(rules, entry.submission.account).all
        if disagreed or batch.value(DISAGREED_KEY + id_):
            batch.keep(DISAGREED_KEY + id_, str(counts[id_] + 1) if disagreed else "")


def why_none_can(view: View, rules: Rules, entries: Sequence[Entry], now: int) -> dict[str, str]:
    """Which of these models nobody would be able to grade in the next round, and why, by id."""
    known, disagreed = heard_lately(view, rules, now), view.values(DISAGREED_KEY)
    found = {}
    for one in entries:
        need = need_of(rules, one.submission.account, least=int(disagreed.get(one.id) or 0))
        if why := why_not(one.id, one.submission, need, known):
            found[one.id] = why
    return found


async def ready_to_lock(desk: Desk, queued: Sequence[Entry], rules: Rules) -> list[Entry]:
    """Those that somebody is able to grade; of the others it is written down what they wait for.

    Raises:
        LeaderboardError: the store cannot be used.
    """
    waits = await desk.books.read(partial(why_none_can, rules=rules, entries=queued, now=desk.now))
    said = {one.id: one.why if one.why.startswith(WAITS) else "" for one in queued}
    changed = {id_: waits.get(id_, "") for id_, why in said.items() if waits.get(id_, "") != why}

    def work(batch: Batch) -> None:
        for id_, why in changed.items():
            now = batch.entry(id_)
            if now is not None and now.state == "queued":
                batch.state(id_, "queued", why)

    if changed:
        await desk.books.write(work)
        for id_, why in changed.items():
            desk.tell("waits", {"submission": id_, "text": why or "It waits for the next round."})
    return [one for one in queued if one.id not in waits]


def want_nodes(view: View, rules: Rules, now: int) -> list[Entry]:
    """Locked models that may be served, and get all their grades by way of the grid alone."""
    known = heard_lately(view, rules, now)
    locked = [one for one in view.in_state("locked") if one.submission.serve]
    done = graders_by_model(view, locked[0].round) if locked else {}
    return [
        one
        for one in locked
        if through_grid(one.id, one.submission, need_of(rules, one.submission.account, done.get(one.id, ())), known)
    ]


def _is_early(round_: Round, now: int) -> bool:
    return round_.draw is None or now < round_.draw.issued + GRACE_S
