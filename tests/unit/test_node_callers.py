"""How much of a node one peer, or everyone together, can take through links, requests and slow reading."""

from __future__ import annotations

import pytest

from gridllm.errors import Full
from gridllm.node.service import callers
from gridllm.node.service.callers import MAX_LINKS_PER_PEER, MAX_REQUESTS_PER_LINK, QUIET_S, Callers


class Line:
    """What Callers asks of a link."""

    def __init__(self, peer: str, waiting_bytes: int = 0) -> None:
        self.peer = peer
        self.waiting_bytes = waiting_bytes
        self.dropped = ""

    def drop(self, reason: str) -> None:
        self.dropped = reason


def admitted(made: Callers, *lines: Line) -> None:
    for line in lines:
        made.admit(line)  # type: ignore[arg-type]


def test_a_peer_has_few_links() -> None:
    made = Callers()
    lines = [Line("a") for _ in range(MAX_LINKS_PER_PEER)]
    admitted(made, *lines)
    with pytest.raises(Full, match="links to this node"):
        admitted(made, Line("a"))
    admitted(made, Line("b"))
    made.discard(lines[0])  # type: ignore[arg-type]
    admitted(made, Line("a"))


def test_all_peers_together_have_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_LINKS", 3)
    made = Callers()
    admitted(made, Line("a"), Line("b"), Line("c"))
    with pytest.raises(Full, match="try another"):
        admitted(made, Line("d"))


def test_links_that_nobody_uses_give_way_the_longest_quiet_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_LINKS", 3)
    made, lines = Callers(), [Line(name) for name in "abc"]
    used, heard, asking = lines

    def admit(name: str, now_s: float) -> object:
        return made.admit(Line(name), now_s, lambda one: one is used)  # type: ignore[arg-type,comparison-overlap]

    admitted(made, *lines)
    made.heard(heard, 5.0)  # type: ignore[arg-type]
    made.asked(asking)  # type: ignore[arg-type]
    with pytest.raises(Full, match="try another"):
        admit("d", QUIET_S + 4)  # one has a session, one a request, and one was heard lately
    assert admit("d", QUIET_S + 5) is heard
    made.answered(asking)  # type: ignore[arg-type]
    assert admit("e", QUIET_S + 5) is asking
    with pytest.raises(Full, match="try another"):
        admit("f", QUIET_S + 6)
    assert len(list(made)) == 3


def test_requests_wait_in_bounded_number() -> None:
    made, line = Callers(), Line("a")
    for _ in range(MAX_REQUESTS_PER_LINK):
        made.asked(line)  # type: ignore[arg-type]
    with pytest.raises(Full, match="fewer"):
        made.asked(line)  # type: ignore[arg-type]
    made.answered(line)  # type: ignore[arg-type]
    made.asked(line)  # type: ignore[arg-type]


def test_the_slowest_readers_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_WAITING_BYTES", 100)
    made = Callers()
    quick, slow, slowest = Line("a", 40), Line("b", 50), Line("c", 60)
    admitted(made, quick, slow, slowest)
    made.sweep()
    assert [line.dropped != "" for line in (quick, slow, slowest)] == [False, False, True]
