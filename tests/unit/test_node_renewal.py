"""Staying admitted: when a node is measured again, what it does when that fails, and who may ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.admission.examination.candidacy import Watcher
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.minimums import DAY_S, Admission
from gridllm.errors import AdmissionError, CertificateError, NotAdmitted, TooSoon
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.node import renewal
from gridllm.node.renewal import Renewal
from gridllm.node.standing import Standing, lasts, renewal_at_s, retry_pause_s, spell_duration
from tests.certificates import amendment, certified, closed_grid, revocation
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.unit.notes import Notes, until

PEER = Identity.ephemeral().peer
drawn = st.floats(0, 1, exclude_max=True)


def aged(node: Node, peer: PeerId = PEER, *, life_s: float = 3600, age_s: float = 0) -> bytes:
    """A certificate issued ``age_s`` ago by the node's clock."""
    issued = int(node.now_s - age_s)
    return certified(node.signed, peer, issued=issued, expires=issued + int(life_s))


class Node:
    """What renewal sees of one: a standing, a clock that the test turns, an examination that the test decides."""

    def __init__(self, signed: SignedCharter | None = None) -> None:
        self.signed = signed or closed_grid()
        self.now_s = 1_700_000_000.0
        self.board = NoticeBoard(self.signed, clock=self.clock)
        self.standing = Standing(
            self.signed,
            Gatekeeper(self.signed, self.board, self.clock),
            PEER,
            ENTRY.model_root,
            "float32",
            clock=self.clock,
        )
        self.notes = Notes()
        self.examined: list[bytes] = []  # the certificate shown at each attempt
        self.called_by: list[PeerId | None] = []
        self.shown: list[tuple[bool, bytes]] = []
        self.outcome: Callable[[], bytes] = self.fresh
        self.renewal = Renewal(self.standing, self.examine, self.show, self.notes, clock=self.clock)
        self.task: asyncio.Task[CertificateError] | None = None

    def clock(self) -> float:
        return self.now_s

    def fresh(self) -> bytes:
        return aged(self)

    async def examine(self, watcher: Watcher, certificate: bytes, wait_s: float) -> bytes:
        assert 0 < wait_s <= 900
        watcher.note("1 of 3 authorities answers.")
        self.examined.append(certificate)
        self.called_by.append(self.standing.called_by)
        return self.outcome()

    async def show(self) -> None:
        self.shown.append((self.standing.good, self.standing.raw))

    def turn(self, seconds: float) -> None:
        """The clock goes on; naps end, as they would."""
        self.now_s += seconds
        self.renewal._wake()

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        self.task = asyncio.create_task(self.renewal.run())
        try:
            yield
        finally:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@given(drawn, st.integers(30, 31 * DAY_S))
def test_the_first_attempt_is_at_about_two_thirds(at: float, life_s: int) -> None:
    assert 0.6 * life_s < renewal_at_s(1000, 1000 + life_s, at) - 1000 < 0.75 * life_s


@given(drawn, st.integers(1, 10_000), st.floats(-1e6, 31 * DAY_S))
def test_pauses_leave_room_for_more_attempts(at: float, failures: int, left_s: float) -> None:
    pause_s = retry_pause_s(failures, left_s, at)
    assert 0 < pause_s < 1200
    if left_s > 60:
        assert pause_s < left_s / 3
    if left_s > 1e5:
        assert pause_s <= retry_pause_s(failures + 1, left_s, at)


def test_a_certificate_about_to_expire_is_not_served_with() -> None:
    node = Node()
    for life_s, left_s, good in ((DAY_S, 3600, True), (DAY_S, 200, False), (60, 40, True), (60, 10, False)):
        raw = aged(node, life_s=life_s, age_s=life_s - left_s)
        assert lasts(node.standing.adopt(raw), node.now_s) is good


def test_durations_for_people() -> None:
    texts = {0: "0 s", 42: "42 s", 90: "1 min 30 s", 125: "2 min", 3600: "1 h", 19_200: "5 h 20 min", 90_000: "1 d 1 h"}
    assert {seconds: spell_duration(seconds) for seconds in texts} == texts


async def test_renewed_in_good_time_and_shown_at_once() -> None:
    node = Node()
    first = node.fresh()
    node.standing.adopt(first)
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)
    async with node.living():
        node.turn(0.6 * 3600)
        await asyncio.sleep(0.05)
        assert node.examined == [], "too early"
        node.turn(0.15 * 3600)
        await until(lambda: bool(node.shown))
        assert node.examined == [first]
        assert node.shown == [(True, node.standing.raw)]
        assert node.standing.raw != first
        assert any("Certificate renewed, valid until 2023-11-14" in line for line in node.notes.lines)
        node.turn(0.6 * 3600)
        await asyncio.sleep(0.05)
        assert len(node.examined) == 1


async def test_it_serves_until_the_certificate_expires_and_says_why() -> None:
    node = Node()
    node.standing.adopt(node.fresh())
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)

    def nobody() -> bytes:
        raise AdmissionError("2 of 3 authorities are needed, and 1 answers.")

    node.outcome = nobody
    async with node.living():
        assert node.task is not None
        node.turn(0.75 * 3600)
        await until(lambda: len(node.notes.lines) == 1)
        assert node.notes.lines[0].startswith(
            "The certificate expires in 15 min and was not renewed: 2 of 3 authorities are needed, and 1 answers. "
            "Trying again in "
        )
        node.turn(800)
        await asyncio.sleep(0.05)
        assert not node.task.done(), "it goes on serving"
        node.turn(100)
        fault = await asyncio.wait_for(node.task, 60)
        assert fault.rule == "expired"
        assert str(fault).endswith("2 of 3 authorities are needed, and 1 answers.")
        assert node.shown == []


@pytest.mark.parametrize("quiet", [True, False])
async def test_what_is_due_waits_for_a_quiet_moment_but_not_for_ever(quiet: bool) -> None:
    node, busy = Node(), True
    node.standing.adopt(node.fresh())
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, busy=lambda: busy, clock=node.clock)
    async with node.living():
        node.turn(0.75 * 3600)
        await asyncio.sleep(0.05)
        assert node.examined == []
        if quiet:
            busy = False
        else:
            node.turn(0.06 * 3600)
        node.renewal._wake()
        await until(lambda: bool(node.shown))
        assert len(node.examined) == 1


async def test_attempts_that_fail_come_less_often() -> None:
    node = Node()
    node.standing.adopt(aged(node, life_s=DAY_S, age_s=0.75 * DAY_S))
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)

    def broken() -> bytes:
        raise RuntimeError("out of memory")

    node.outcome = broken
    async with node.living():
        for attempts in range(1, 5):
            await until(lambda: len(node.examined) == attempts)  # noqa: B023 - waited for at once
            node.renewal._wake()
            await asyncio.sleep(0.02)
            assert len(node.examined) == attempts, "waking does not shorten the pause"
            node.turn(1200)
        assert "The examination failed with RuntimeError: out of memory. Trying again in" in node.notes.lines[0]


async def test_another_ones_certificate_is_not_shown() -> None:
    node = Node()
    old = node.fresh()
    node.standing.adopt(old)
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)
    node.outcome = lambda: aged(node, Identity.ephemeral().peer)
    async with node.living():
        node.turn(0.75 * 3600)
        await until(lambda: bool(node.notes.lines))
        assert node.standing.raw == old
        assert "cannot use it" in node.notes.lines[0]


async def test_revocation_ends_it() -> None:
    node = Node()
    node.standing.adopt(aged(node, age_s=60))
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)
    async with node.living():
        assert node.task is not None
        node.board.add(revocation(node.signed, Identity.ephemeral().peer, issued=node.now_s))
        await asyncio.sleep(0.05)
        assert not node.task.done(), "another's"
        node.board.add(revocation(node.signed, PEER, issued=node.now_s, until=node.now_s + 3600))
        error = await asyncio.wait_for(node.task, 60)
        assert error.rule == "revoked"
        assert "It lied. It may be measured again from 2023-11-14 23:13 UTC on" in str(error)


async def test_an_amendment_closes_an_open_grid() -> None:
    node = Node(sign_charter(charter(), MAINTAINERS))
    assert node.standing.good
    async with node.living():
        assert node.task is not None
        await asyncio.sleep(0.05)
        assert node.examined == []
        node.board.add(amendment(node.signed, Admission(required=True)))
        assert (await asyncio.wait_for(node.task, 60)).rule == "missing"


async def test_only_authorities_ask_and_not_often() -> None:
    node = Node()
    node.standing.adopt(node.fresh())
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, clock=node.clock)
    authority, looks = Identity.ephemeral().peer, 0

    async def authorities() -> set[PeerId]:
        nonlocal looks
        looks += 1
        return {authority}

    async with node.living():
        for _ in range(5):
            with pytest.raises(NotAdmitted, match="Only an admission authority"):
                await node.renewal.on_recheck(Identity.ephemeral().peer, authorities)
        assert node.examined == []
        await node.renewal.on_recheck(authority, authorities)
        await until(lambda: len(node.examined) == 1)
        with pytest.raises(TooSoon, match="once in 10 minutes"):
            await node.renewal.on_recheck(authority, authorities)
        assert node.called_by == [authority], "the one that called is asked first"
        assert node.standing.called_by is None
        assert looks == 1, "a flood of strangers costs no look-ups"
        assert len(node.examined) == 1


@pytest.mark.parametrize("quiet", [True, False])
async def test_a_recheck_waits_for_a_quiet_moment_but_not_for_long(
    quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "RECHECK_QUIET_S", 20.0 if quiet else 0.3)
    monkeypatch.setattr(renewal, "QUIET_LOOK_S", 0.02)
    node, busy = Node(), True
    node.standing.adopt(node.fresh())
    node.renewal = Renewal(node.standing, node.examine, node.show, node.notes, busy=lambda: busy, clock=node.clock)
    authority = Identity.ephemeral().peer

    async def authorities() -> set[PeerId]:
        return {authority}

    async with node.living():
        await node.renewal.on_recheck(authority, authorities)
        await asyncio.sleep(0.1)
        assert node.examined == []
        busy = not quiet
        await until(lambda: len(node.examined) == 1)
