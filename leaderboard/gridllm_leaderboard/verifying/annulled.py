"""Rounds that are void: signed by the leaderboard, and nothing followed from them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gridllm.charter.document import SignedCharter
from gridllm.errors import LeaderboardError
from gridllm.quantities import count_things
from gridllm_leaderboard.messages import AnnulledRound, Reign
from gridllm_leaderboard.statements import Annulment, Lock
from gridllm_leaderboard.verifying.papers import read_lock, verify_annulment, verify_rules


@dataclass(frozen=True, slots=True)
class VoidRound:
    """One of them, its documents' signatures checked."""

    lock: Lock
    annulment: Annulment
    early: bool  # before the rules' patience was over: its maintainer gave it up
    drawn: bool  # its items were known; the leaderboard's word, as is
    graded: int  # how many of its models had grades

    @property
    def number(self) -> int:
        """The round's."""
        return self.lock.round


def verify_annulled(
    shown: Sequence[AnnulledRound], reigns: Sequence[Reign], signed: SignedCharter, leaderboard: str
) -> list[VoidRound]:
    """All void rounds, in the order in which they were shown.

    Args:
        reigns: all champions that there were.
        leaderboard: its account by the rules that hold now; a round may be older than its key.

    Raises:
        LeaderboardError, NoticeError: one is forged or shown twice, or somebody became champion by it.
    """
    found: dict[int, VoidRound] = {}
    for one in shown:
        rules = verify_rules(one.rules, signed)
        lock = read_lock(one.lock, rules)
        annulment = verify_annulment(one.annulment, lock, rules, leaderboard)
        if lock.round in found:
            raise LeaderboardError(f"Round {lock.round} is annulled twice, by two locks or two annulments.")
        early = annulment.issued < lock.issued + rules.patience_s
        found[lock.round] = VoidRound(lock, annulment, early, one.draw is not None, one.graded)
    for reign in reigns:
        if reign.round in found:
            raise LeaderboardError(f"Round {reign.round} was annulled, and {reign.name!r} is champion since then.")
    return list(found.values())


def told_of(found: Sequence[VoidRound], submission: str) -> str:
    """How often that happened, for people."""
    if not found:
        return "none"
    early, drawn = (sum(getattr(one, name) for one in found) for name in ("early", "drawn"))
    mine = [f"round {one.number} ({one.annulment.reason})" for one in found if submission in one.lock.submissions]
    held = f"; of them with this submission: {', '.join(mine)}" if mine else "; none with this submission"
    return (
        f"{count_things(len(found), 'round')}, {early} before the rules' patience was over, {drawn} after the items "
        f"were drawn{held}"
    )
