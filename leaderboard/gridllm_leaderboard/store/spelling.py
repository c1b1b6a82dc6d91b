"""Rows ⇄ records. What is read here was verified before it was written, so it is not verified once more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec
from pydantic import BaseModel
from sqlalchemy import Row

from gridllm.errors import LeaderboardError, StatementError
from gridllm.identity.statement import read_unverified
from gridllm_leaderboard.messages import State
from gridllm_leaderboard.records import Entry, Kept, Mark, ReignRow, Round
from gridllm_leaderboard.statements import TYPES, Annulment, Draw, Failure, Grade, Lock, Submission

M = TypeVar("M", bound=BaseModel)
D = TypeVar("D", Grade, Failure)


class _Envelope(msgspec.Struct):
    """The part of a DSSE envelope that is looked at; msgspec reads base64."""

    payload: bytes


_envelopes = msgspec.json.Decoder(_Envelope)
_marks = msgspec.msgpack.Decoder(list[Mark])
_overlaps = msgspec.json.Decoder(dict[str, float])


def damaged(what: str, error: Exception) -> LeaderboardError:
    """To be raised where what was once written cannot be read any more."""
    return LeaderboardError(
        f"The leaderboard's database is damaged: {what} cannot be read ({error}). Put back its newest copy: "
        "gridllm leaderboard restore"
    )


def document_of(raw: bytes, kind: type[M]) -> M:
    """The document in an envelope, its form checked and its signature not. Raises LeaderboardError."""
    try:
        return read_unverified(raw, kind, TYPES[kind])[0]
    except StatementError as error:
        raise LeaderboardError(f"A {kind.__name__.lower()} cannot be used: {error}") from error


@lru_cache(maxsize=1024)  # listings read the same ones over and over
def submission_of(raw: bytes) -> Submission:
    """The submission of a row: ten thousand of them are read in a tenth of a second, unlike by ``document_of``."""
    try:
        said = msgspec.json.decode(_envelopes.decode(raw).payload)
        return Submission.model_construct(**said)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError) as error:
        raise damaged("a submission", error) from error


def entry_of(row: Row[Any]) -> Entry:
    """Row of ``submissions`` → entry."""
    return Entry(
        id=row.id,
        raw=bytes(row.raw),
        submission=submission_of(bytes(row.raw)),
        state=cast("State", row.state),
        entered=row.entered,
        why=row.why,
        round=row.round,
        paid=row.transfer is not None,
        withdrawal=None if row.withdrawal is None else bytes(row.withdrawal),
        overlaps=_overlaps.decode(row.overlaps),
    )


def rules_in(lock: bytes) -> str:
    """The rules that a lock names: the ranking asks it of every round."""
    try:
        return str(msgspec.json.decode(_envelopes.decode(lock).payload)["rules"])
    except (msgspec.DecodeError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise damaged("a round's lock", error) from error


def round_of(row: Row[Any]) -> Round:
    """Row of ``rounds`` → round."""
    draw = None if row.draw is None else bytes(row.draw)
    annulment = None if row.annulment is None else bytes(row.annulment)
    return Round(
        number=row.number,
        lock_raw=bytes(row.lock),
        lock=document_of(bytes(row.lock), Lock),
        draw_raw=draw,
        draw=None if draw is None else document_of(draw, Draw),
        verdict_raw=None if row.verdict is None else bytes(row.verdict),
        annulment_raw=annulment,
        annulment=None if annulment is None else document_of(annulment, Annulment),
    )


def kept_of(row: Row[Any], kind: type[D]) -> Kept[D]:
    """Row of ``grades`` → a grader's document."""
    return Kept(row.id, bytes(row.raw), document_of(bytes(row.raw), kind))


def reign_of(row: Row[Any]) -> ReignRow:
    """Row of ``reigns`` → reign."""
    lead = None if row.lead is None else (row.lead, row.lead_low, row.lead_high)
    return ReignRow(row.submission, row.since, row.round, row.score, row.low, row.high, lead, row.bounty)


def reign_columns(reign: ReignRow) -> dict[str, Any]:
    """Reign → row of ``reigns``."""
    lead, low, high = (None, None, None) if reign.lead is None else reign.lead
    same = {name: getattr(reign, name) for name in ("submission", "since", "round", "score", "low", "high", "bounty")}
    return {**same, "lead": lead, "lead_low": low, "lead_high": high}


def read_marks(raw: bytes) -> list[Mark]:
    """``rounds.marks`` → marks."""
    try:
        return _marks.decode(raw)
    except msgspec.DecodeError as error:
        raise damaged("a round's list of marks", error) from error


def write_marks(marks: list[Mark]) -> bytes:
    """Marks → ``rounds.marks``."""
    return msgspec.msgpack.encode(marks)


def write_overlaps(overlaps: Mapping[str, float]) -> str:
    """Overlaps → ``submissions.overlaps``."""
    return json.dumps(dict(overlaps), sort_keys=True, separators=(",", ":"), allow_nan=False)
