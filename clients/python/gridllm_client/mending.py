"""Carrying out a repair: who is to be replaced, trying until the chain stands, and when to give up."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field

from gridllm.errors import CertificateError, NotAdmitted, PeerLost, Refusal, RouteError
from gridllm.ids import PeerId
from gridllm.planning.routing import without_wait_advice
from gridllm.wire.messages import Step
from gridllm.wire.replay import ReplayBuffer
from gridllm.wire.tensor import pack
from gridllm_client.chain import Chain
from gridllm_client.hop import HopFailed
from gridllm_client.repair import Call, pause_s, stuck_hop
from gridllm_client.terms import ChainEvent, OnEvent, Patience, short
from gridllm_client.verdict import judge

log = logging.getLogger(__name__)

EARLY_ATTEMPTS = 4  # nodes that may be dead are tried so often at least, though dialling one can take seconds
POLL_S = 0.5  # between looks into the directory while a node is waited for


@dataclass(slots=True)
class Trouble:
    """What went wrong since the chain was last in order."""

    gone: dict[PeerId, str] = field(default_factory=dict)  # hops to replace, and why
    accused: dict[PeerId, PeerId] = field(default_factory=dict)  # hop → who cannot push to it; itself when it leaves
    doubted: set[PeerId] = field(default_factory=set)  # hops whose certificate somebody does not accept
    asked: bool = False  # something is odd: ask all hops where they stand
    reason: str = ""  # of the first of it, for people
    quiet_s: float = 0.0  # how long it had lasted before it was noticed

    def __bool__(self) -> bool:
        return bool(self.gone or self.accused or self.asked)

    def note(self, reason: str, quiet_s: float = 0.0) -> None:
        """Keep the first reason."""
        self.reason = self.reason or reason
        self.quiet_s = max(self.quiet_s, quiet_s)


class Mender:
    """Keeps one session's chain in order."""

    def __init__(self, chain: Chain, replay: ReplayBuffer, patience: Patience, on_event: OnEvent | None) -> None:
        self.trouble = Trouble()
        self.fatal: Refusal | None = None
        """A refusal that no other node would help with."""
        self.stalls = 0  # of the current call
        self.waiting_since = 0.0  # time.monotonic() when the current call began
        self._chain = chain
        self._replay = replay
        self._patience = patience
        self._on_event = on_event
        self._attempts_left = patience.attempts

    def lost(self, peer: PeerId, error: PeerLost) -> None:
        """The link to a hop ended."""
        self._chain.failed(peer)
        self.trouble.gone[peer] = str(error)
        self.trouble.note(f"node {short(peer)} lost", self._chain.silent_s(peer))

    def leaving(self, peer: PeerId) -> None:
        """A hop drains: move to another, if there is one."""
        self._chain.avoid(peer)
        self.trouble.accused.setdefault(peer, peer)
        self.trouble.note(f"node {short(peer)} leaves")

    def replace(self, peer: PeerId, why: str) -> None:
        """A hop lives, yet must be replaced."""
        self._chain.avoid(peer)
        self.trouble.gone[peer] = why
        self.trouble.note(why)

    def unadmitted(self, peer: PeerId, fault: CertificateError) -> None:
        """A hop may not serve any longer."""
        self.trouble.doubted.add(peer)
        self.replace(peer, f"node {short(peer)} is no longer admitted ({fault.rule})")

    def refused(self, peer: PeerId, refusal: Refusal, blamed: PeerId | None) -> None:
        """Turn a hop's refusal into what it means for the chain."""
        if isinstance(refusal, NotAdmitted):
            self.trouble.doubted.add(blamed or peer)
        verdict = judge(self._chain, peer, refusal, blamed)
        if verdict.fatal:
            self.fatal = refusal
        elif verdict.gone is not None:
            self.replace(verdict.gone, f"node {short(verdict.gone)}: {refusal}")
        elif verdict.accused is not None:
            self._chain.avoid(verdict.accused)
            self.trouble.accused[verdict.accused] = peer
            quiet_s = self._chain.silent_s(verdict.accused)
            self.trouble.note(f"node {short(verdict.accused)} cannot be reached by {short(peer)}", quiet_s)
        else:
            self.trouble.asked = True
        self.trouble.note(f"node {short(peer)}: {refusal}")

    def stalled(self, quiet_s: float) -> None:
        """Nothing came back for long: ask all hops where they stand; the second time, replace the one that holds up."""
        self.stalls += 1
        self.trouble.asked = True
        self.trouble.note(f"nothing came back for {quiet_s:.0f} s", quiet_s)

    async def mend(self, call: Call) -> None:
        """Bring the chain into order and feed it what it lacks.

        Raises:
            RouteError: nobody can take a lost node's place, or too many attempts failed.
            Refusal: a refusal that no other node would help with.
        """
        started = time.monotonic()
        before = self._chain.shape
        paused_since = max(self.waiting_since, started - self.trouble.quiet_s)
        attempt, waited_s, reason, last = 0, 0.0, self.trouble.reason, ""
        while True:
            attempt += 1
            self._attempts_left -= 1
            trouble, self.trouble = self.trouble, Trouble()
            reason = reason or trouble.reason
            try:
                early = time.monotonic() - started < self._patience.linger_s or attempt <= EARLY_ATTEMPTS
                await self._attempt(call, trouble, desperate=early)
            except RouteError as error:
                self._keep(trouble)
                waited_s = await self._await_node(started, error, last, attempt, waited_s)
                continue
            except HopFailed as failure:
                last = str(failure)
                self._blame(failure)
            if self.fatal is not None:
                raise self.fatal
            if not self.trouble:
                break
            if self._attempts_left <= 0 or time.monotonic() - started - waited_s > self._patience.repair_s:
                raise RouteError(
                    f"The chain could not be repaired in {time.monotonic() - started:.0f} s and {attempt} "
                    f"attempts{f'; the last failed with: {last}' if last else ''}. Try again later.",
                    tuple((start, end) for peer, start, end in self._chain.shape if peer in self.trouble.gone),
                )
            await asyncio.sleep(pause_s(attempt, random.random()))  # noqa: S311  # spreads retries, guards nothing
        self._report(before, reason, time.monotonic() - paused_since)

    async def _attempt(self, call: Call, trouble: Trouble, *, desperate: bool) -> None:
        if trouble.doubted:  # perhaps it was the old certificate only
            for peer in await self._chain.standing.renew(trouble.doubted):
                trouble.gone.pop(peer, None)
                trouble.accused.pop(peer, None)
        await self._chain.replan(
            frozenset(trouble.gone),
            frozenset(trouble.accused),
            frozenset(trouble.accused.values()),
            desperate=desperate,
        )
        need, reports = await self._chain.reshape(call)
        head = self._chain.hops[0].link
        if head is None or self.trouble:
            return  # lost another one meanwhile
        if self.stalls > 1 and (stuck := stuck_hop(reports, call.step)) is not None:
            self.stalls = 0
            self.replace(stuck, f"node {short(stuck)} took the step and passed nothing on")
            return
        try:
            for piece, hidden in self._replay.from_positions(need):
                step = Step(self._chain.id, self._chain.epoch, call.step, [piece], replay=True)
                await head.send_paced(step, pack(hidden))
        except PeerLost as error:
            self.lost(head.peer, error)

    def _blame(self, failure: HopFailed) -> None:
        self.trouble.gone |= dict.fromkeys(failure.unreachable, str(failure))
        if isinstance(failure.error, Refusal):
            self.refused(failure.peer, failure.error, failure.blamed)
        else:
            self.trouble.gone[failure.peer] = str(failure.error)
            self.trouble.note(f"node {short(failure.peer)}: {failure.error}")
        if not self.trouble:
            self.trouble.asked = True

    def _keep(self, trouble: Trouble) -> None:
        """What an attempt could not cure stays to be cured."""
        self.trouble.gone = trouble.gone | self.trouble.gone
        self.trouble.accused = trouble.accused | self.trouble.accused
        self.trouble.doubted |= trouble.doubted
        self.trouble.asked = True

    async def _await_node(self, started: float, error: RouteError, last: str, attempt: int, waited_s: float) -> float:
        """Wait a little for a node to appear; returns the time waited in this repair, seconds.

        Raises:
            RouteError: the time is over.
        """
        elapsed_s = time.monotonic() - started
        if elapsed_s >= max(self._patience.wait_s, self._patience.linger_s) or self._attempts_left <= 0:
            detail = f" The last node asked said: {last}" if last else ""
            sentence = without_wait_advice(str(error)) if self._patience.wait_s else str(error)
            raise RouteError(f"{sentence}{detail}", error.uncovered) from error
        if self._patience.wait_s and not waited_s:
            self._tell(ChainEvent("waiting", f"waiting for a node: {without_wait_advice(str(error))}"))
        pause = min(POLL_S, pause_s(attempt + 1, random.random()))  # noqa: S311  # spreads retries, guards nothing
        await asyncio.sleep(pause)
        self._attempts_left += 1  # waiting is bounded by time, not by attempts
        return waited_s + pause

    def _report(self, before: tuple[tuple[PeerId, int, int], ...], reason: str, pause: float) -> None:
        shape = self._chain.shape
        for peer, _, _ in shape:
            self._chain.succeeded(peer)
        old, new = {peer for peer, _, _ in before}, {peer for peer, _, _ in shape}
        lost = tuple(peer for peer, _, _ in before if peer not in new)
        joined = tuple(peer for peer, _, _ in shape if peer not in old)
        if not before:
            spelled = ", ".join(f"{start}:{end} on {short(peer)}" for peer, start, end in shape)
            self._tell(ChainEvent("opened", f"chain opened: {spelled}", shape, (), joined, pause))
            return
        by = ", ".join(f"{short(peer)} ({start}:{end})" for peer, start, end in shape if peer in joined)
        what = f"replaced by {by}" if joined else "chain resumed"
        self._tell(ChainEvent("repaired", f"{reason}, {what}, pause {pause:.1f} s", shape, lost, joined, pause))

    def _tell(self, event: ChainEvent) -> None:
        log.info("%s", event.text)
        if self._on_event is not None:
            self._on_event(event)
