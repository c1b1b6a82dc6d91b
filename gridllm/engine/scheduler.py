"""Which waiting steps go into the next pass: a pure decision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """The oldest waiting step of one session."""

    tokens: int  # of all its rows together
    decoding: bool  # one token per row: someone is watching text appear
    priority: int  # class of its session; a higher one goes first
    arrival: int  # rising number; lower came first
    blocks: tuple[int, int]  # the part of the span it runs through


C = TypeVar("C", bound=Candidate)


def next_pass(candidates: Iterable[C], max_tokens: int) -> list[C]:
    """Choose the steps of the next pass.

    The oldest candidate always goes, so that nobody waits for ever, of whatever class; then higher classes before lower
    ones, and in a class decode steps before prompts, each in order of arrival, as long as they fit ``max_tokens``. All
    run through the same blocks, those of the oldest.
    """
    waiting = sorted(candidates, key=lambda c: c.arrival)
    if not waiting:
        return []
    oldest = waiting[0]
    chosen: list[C] = []
    room = max_tokens
    for candidate in sorted(waiting, key=lambda c: (c is not oldest, -c.priority, not c.decoding)):
        if candidate.blocks != oldest.blocks:
            continue
        if candidate.tokens <= room or not chosen:
            chosen.append(candidate)
            room -= candidate.tokens
    return chosen
