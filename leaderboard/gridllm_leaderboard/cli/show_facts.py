"""What ``show`` shows, put together from a submission's documents, their signatures checked. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from gridllm.charter.contest import Rules
from gridllm.charter.document import SignedCharter
from gridllm_leaderboard.messages import Dossier, RankRow, SubmissionView
from gridllm_leaderboard.results import ItemResult, Line
from gridllm_leaderboard.statements import Comparison, Draw, Failure, Grade, Lock, Verdict, id_of
from gridllm_leaderboard.verifying.annulled import VoidRound
from gridllm_leaderboard.verifying.papers import (
    verify_draw,
    verify_failures,
    verify_grades,
    verify_lock,
    verify_rules,
    verify_submission,
    verify_verdict,
)

MOST_ANCESTORS: Final = 32
SHOWN_CHARACTERS: Final = 60  # of an item


class Statement(NamedTuple):
    """What one grader says, and what the verdict made of it."""

    grade: Grade
    standing: Literal["counts", "outlier", "too late", "not judged yet"]

    @property
    def counts(self) -> bool:
        """Whether its results are among those that the median is taken of."""
        return self.standing in ("counts", "not judged yet")


class Ancestor(NamedTuple):
    """A model that another was made from."""

    root: str
    name: str | None  # None: neither in the charter nor on the leaderboard


class ItemRow(NamedTuple):
    """One item, with the model's points."""

    number: int  # from 1
    text: str  # its beginning
    points: float  # the graders' median
    answer: str  # that the model found likeliest; of a text: bits per byte


@dataclass(frozen=True, slots=True)
class Portrait:
    """One submission."""

    view: SubmissionView
    row: RankRow | None  # None: it has no place
    lineage: Sequence[Ancestor]  # the model it was made from, what that was made from, and so on
    rules: Rules | None
    lock: Lock | None
    draw: Draw | None
    verdict: Verdict | None
    statements: Sequence[Statement]
    failures: Sequence[Failure]
    overlaps: Mapping[str, float]
    champion: str | None  # name of the one that it met
    withdrawn: bool
    annulled: Sequence[VoidRound]  # rounds that held it and are void, newest first

    @property
    def duel(self) -> Comparison | None:
        """Its comparison with the champion of its round; None: there was none, or it is the champion itself."""
        found = () if self.verdict is None else self.verdict.comparisons
        return next((one for one in found if one.submission == self.view.id), None)


def portrait_of(
    dossier: Dossier,
    signed: SignedCharter,
    row: RankRow | None,
    ancestors: Sequence[Ancestor],
    names: Mapping[str, str],
    void: Sequence[VoidRound] = (),
) -> Portrait:
    """Put it together.

    Args:
        names: of submissions, by id.
        void: all rounds that were annulled.

    Raises:
        LeaderboardError, NoticeError: a document is forged, or does not belong to the others.
    """
    verify_submission(dossier, dossier.view.id, signed.grid)
    rules = None if dossier.rules is None else verify_rules(dossier.rules, signed)
    lock = None if rules is None or dossier.lock is None else verify_lock(dossier, dossier.view.id, rules)
    draw = verdict = None
    grades: Mapping[str, Grade] = {}
    failures: Mapping[str, Failure] = {}
    if rules is not None and lock is not None and dossier.draw is not None:
        draw = verify_draw(dossier, lock, rules, signed)
        grades = verify_grades(dossier.grades, rules, draw)
        failures = verify_failures(dossier.failures, rules, draw)
        verdict = None if dossier.verdict is None else verify_verdict(dossier.verdict, draw, rules)
    met = lock.champion if lock is not None and lock.champion != dossier.view.id else None
    return Portrait(
        view=dossier.view,
        row=row,
        lineage=ancestors,
        rules=rules,
        lock=lock,
        draw=draw,
        verdict=verdict,
        statements=[
            Statement(one, _standing(one, verdict)) for one in grades.values() if one.submission == dossier.view.id
        ],
        failures=[one for one in failures.values() if one.submission == dossier.view.id],
        overlaps=dossier.overlaps,
        champion=None if met is None else names.get(met, f"{met[:12]}…"),
        withdrawn=dossier.withdrawal is not None,
        annulled=[one for one in void if dossier.view.id in one.lock.submissions],
    )


def lineage(base: str | None, names: Mapping[str, str], bases: Mapping[str, str | None]) -> list[Ancestor]:
    """The models behind a model, nearest first, as far as they are known. ``names``, ``bases``: by root."""
    found: list[Ancestor] = []
    while base is not None and len(found) < MOST_ANCESTORS and base not in {one.root for one in found}:
        found.append(Ancestor(base, names.get(base)))
        base = bases.get(base)
    return found


def item_rows(items: Sequence[Line], results: Sequence[Sequence[ItemResult]]) -> list[ItemRow]:
    """Each item with the median of what graders found. ``results``: each of all items, in their order."""
    rows = []
    for number, (item, *found) in enumerate(zip(items, *results, strict=True), start=1):
        text = item["text"] if "text" in item else item["query"]
        begin = " ".join(text.split())
        shown = begin if len(begin) <= SHOWN_CHARACTERS else begin[: SHOWN_CHARACTERS - 1] + "…"
        points = statistics.median(one.points for one in found) if found else 0.0
        rows.append(ItemRow(number, shown, points, _answer(item, found[0]) if found else ""))
    return rows


def _answer(item: Line, found: ItemResult) -> str:
    if "text" in item:
        return f"{-found.logliks[0] / math.log(2) / found.size:.3f} bits/byte"
    likeliest = max(range(len(found.logliks)), key=lambda at: (found.logliks[at], -at))
    right = item["choices"][item["gold"]]
    said = item["choices"][likeliest] if likeliest < len(item["choices"]) else "?"
    return said if said == right else f"{said} (right: {right})"


def _standing(grade: Grade, verdict: Verdict | None) -> Literal["counts", "outlier", "too late", "not judged yet"]:
    if verdict is None:
        return "not judged yet"
    id_ = id_of(grade)
    return "counts" if id_ in verdict.grades else "outlier" if id_ in verdict.outliers else "too late"
