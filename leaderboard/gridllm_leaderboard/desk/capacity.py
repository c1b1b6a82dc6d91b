"""What graders are able to grade, as they say with each question for work. Pure, but for what is read from the store.

A model that nobody is able to grade waits in the queue: locked, it would hold up everybody in its round. Who was never
heard may be able to do anything, until a grader that is heard has said more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from gridllm.errors import LeaderboardError

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules
    from gridllm_leaderboard.messages import AskWork
    from gridllm_leaderboard.statements import Submission
    from gridllm_leaderboard.store.view import View

LATELY_S: Final = 3 * 86_400  # a grader that nothing was heard of for longer is gone: one model takes two days at most
HEARD_EVERY_S: Final = 600  # so often it is written down that a grader is there still
GRADER_KEY: Final = "grader:"  # in the store's settings, with the account
WAITS: Final = "It waits for "  # how the sentence of a model begins that nobody is able to grade


class Capacity(msgspec.Struct, frozen=True):
    """One grader's."""

    holds: int  # parameters of a model that it can hold whole
    grid: bool  # it grades through the grid what it cannot hold
    heard: int  # when it said so; Unix time, seconds
    unable: dict[str, str] = {}  # submissions that it tried, or cannot try: why not

    @property
    def silent(self) -> Capacity:
        """The same, whenever that was said."""
        return msgspec.structs.replace(self, heard=0)

    def holding(self, id_: str, said: Submission) -> bool:
        """Whether it is able to grade that model on its own machine."""
        return id_ not in self.unable and said.parameters <= self.holds

    def able(self, id_: str, said: Submission) -> bool:
        """Whether it is able to grade that model, here or by way of the grid."""
        return id_ not in self.unable and (said.parameters <= self.holds or (self.grid and said.serve))


Capacities = Mapping[str, Capacity]
"""By grader's account: those that were heard lately."""


class Need(NamedTuple):
    """What one model lacks in a round, or would in the next one."""

    graders: Collection[str]  # who may grade it: neither its author, nor who did already
    done: int  # grades and failures that are here
    all: int  # that it needs, those included


def need_of(rules: Rules, author: str, done: Collection[str] = (), more: int = 0, least: int = 0) -> Need:
    """What a model needs by the rules; ``more``: grades beyond those ``done``, where these disagree; ``least``: in all,
    where fewer disagreed before.
    """
    eligible = [one for one in rules.graders if one != author]
    left = [one for one in eligible if one not in done]
    return Need(left, len(done), len(done) + more if more else min(max(rules.quorum, least), len(eligible)))


def why_not(id_: str, said: Submission, need: Need, known: Capacities) -> str:
    """Why nobody is able to grade this model, a sentence for people; empty: somebody is, or may be."""
    heard = [known[one] for one in need.graders if one in known]
    able = sum(one.able(id_, said) for one in heard)
    unknown = len(need.graders) - len(heard)
    enough = need.done + able + unknown >= need.all
    if not heard or (enough and need.done + able):
        return ""
    who = f"{WAITS}{'another' if able + need.done else 'a'} grader that can hold {_gigabytes(said.size)}"
    told = [one.unable[id_] for one in heard if id_ in one.unable]
    largest = max((one.holds for one in heard if not one.able(id_, said)), default=0)
    if told:
        return f"{who}, or have it run: one that asks cannot, since {told[0]}."
    held = said.size * largest // said.parameters  # in the author's bytes
    here = f"the largest {'other ' if able else ''}that asks holds {_gigabytes(held)}"
    if not largest:
        here = f"{'the others' if able else 'those'} that ask hold none"
    if not said.serve and any(one.grid for one in heard):
        here += ", and its author does not let the grid run it"
    return f"{who}; {here}."


def through_grid(id_: str, said: Submission, need: Need, known: Capacities) -> bool:
    """Whether some of its grades can come by way of the grid alone, so that nodes must serve it."""
    heard = [known[one] for one in need.graders if one in known]
    holding = sum(one.holding(id_, said) for one in heard)
    able = sum(one.able(id_, said) for one in heard)
    return able > holding and need.done + holding + len(need.graders) - len(heard) < need.all


def capacity_of(asked: AskWork, now: int) -> Capacity:
    """As the question says."""
    return Capacity(asked.holds, asked.grid, now, {one.submission: one.why for one in asked.unable})


def kept_of(view: View, grader: str) -> Capacity | None:
    """What that grader said last. Raises LeaderboardError: the store is damaged."""
    kept = view.value(GRADER_KEY + grader)
    try:
        return None if kept is None else msgspec.json.decode(kept, type=Capacity)
    except msgspec.DecodeError as error:
        raise LeaderboardError(f"What grader {grader[:16]}… said is damaged in the store: {error}.") from error


def spelled(capacity: Capacity) -> str:
    """For the store."""
    return msgspec.json.encode(capacity).decode()


def heard_lately(view: View, rules: Rules, now: int) -> dict[str, Capacity]:
    """What the rules' graders are able to do, of those that were heard lately. Raises LeaderboardError."""
    found = {grader: kept_of(view, grader) for grader in rules.graders}
    return {grader: one for grader, one in found.items() if one is not None and one.heard >= now - LATELY_S}


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
