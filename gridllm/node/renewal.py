"""Stays admitted while serving: is measured again in good time, beside the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gridllm.admission.cards import find_authorities
from gridllm.admission.examination.candidacy import Watcher
from gridllm.admission.messages import RECHECK_CALL
from gridllm.charter.document import SignedCharter
from gridllm.errors import CertificateError, GridError, NotAdmitted, TooSoon
from gridllm.ids import PeerId
from gridllm.node.report import Report
from gridllm.node.standing import Standing, renewal_at_s, retry_pause_s, spell_duration, spell_time
from gridllm.swarm.interface import Swarm
from gridllm.tasks import end

log = logging.getLogger(__name__)

RECHECK_EVERY_S: Final = 600.0  # an authority cannot keep a node busy with examinations
LOOKUP_EVERY_S: Final = 5.0  # between looks in the directory at who is an authority, whoever asks for them
WAIT_FOR_QUIET: Final = 0.8  # of a certificate's life: until then, a renewal that is due waits for sessions to end
QUIET_LOOK_S: Final = 1.0
RECHECK_QUIET_S: Final = 120.0  # an authority that calls waits so long for sessions to end: others' load is no fault
SHORTEST_WAIT_S: Final = 60.0  # of one attempt, for authorities that are down and queues, too
LONGEST_WAIT_S: Final = 900.0
LONGEST_NAP_S: Final = 30.0  # waits are cut: a machine that slept, or whose clock was set, notices
SHORTEST_NAP_S: Final = 0.05


class Examine(Protocol):
    """Has this node measured and certified: ``Enrolment.examine`` does, tests have their own."""

    async def __call__(self, watcher: Watcher, certificate: bytes, wait_s: float) -> bytes:
        """The new certificate's envelope, within ``wait_s``. ``certificate`` is the one to be renewed.

        Raises:
            GridError: not admitted this time, and why.
        """
        ...


class Renewal:
    """Keeps one node's certificate fresh in the background: ``await renewal.run()`` while it serves."""

    def __init__(
        self,
        standing: Standing,
        examine: Examine,
        show: Callable[[], Awaitable[None]],
        report: Report,
        *,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            show: announces the node with its new certificate.
            busy: whether measuring would take from somebody's tokens now.
        """
        self._standing = standing
        self._examine = examine
        self._show = show
        self._report = report
        self._busy = busy
        self._clock = clock
        self._drawn = random.random()  # noqa: S311 - spreads load
        self._failures = 0
        self._said = ""  # why it takes so long
        self._again_at_s = 0.0  # after failures; Unix time
        self._wanted = False  # by an authority
        self._attempt_news, self._watch_news = asyncio.Event(), asyncio.Event()
        self._shown = standing.raw
        self._rechecked_at: float | None = None  # of the event loop, like the next
        self._looked_at: float | None = None
        self._looking = asyncio.Lock()
        self._authorities: set[PeerId] = set()

    async def serve_rechecks(self, swarm: Swarm, signed: SignedCharter) -> None:
        """Take calls of authorities from now on."""
        await serve_rechecks(swarm, signed, lambda: self)

    async def on_recheck(self, peer: PeerId, authorities: Callable[[], Awaitable[set[PeerId]]]) -> None:
        """``peer`` wants this node to be measured again now; ``authorities`` looks up who may.

        Raises:
            NotAdmitted: the caller is no authority of this grid.
            TooSoon: one of them asked not long ago.
            SwarmError: they could not be looked up.
        """
        clock = asyncio.get_running_loop().time
        async with self._looking:  # strangers that call at once share one look
            if self._looked_at is None or clock() > self._looked_at + LOOKUP_EVERY_S:
                self._authorities = await authorities()
                self._looked_at = clock()
        if peer not in self._authorities:
            raise NotAdmitted("Only an admission authority of this grid may have this node measured.")
        if self._rechecked_at is not None and clock() < self._rechecked_at + RECHECK_EVERY_S:
            raise TooSoon(f"This node does that once in {RECHECK_EVERY_S / 60:.0f} minutes, and was asked already.")
        self._rechecked_at = clock()
        self._wanted = True
        self._standing.called_by = peer
        self._wake()

    async def run(self) -> CertificateError:
        """Renew until this node may serve no longer; returns why: its admission was revoked, or the certificate expired
        before there was a new one, or an amendment began to ask for certificates."""
        forget = self._standing.gate.board.listen(self._wake)
        attempts = asyncio.create_task(self._attempts())
        attempts.add_done_callback(lambda _: self._wake())
        try:
            while True:
                self._watch_news.clear()
                fault = self._standing.revoked() or self._standing.fault()
                if fault is not None:
                    return fault if fault.rule == "revoked" else CertificateError(fault.rule, f"{fault} {self._said}")
                if self._standing.raw != self._shown:
                    await self._show_change()
                await _nap(self._watch_news, self._standing.left_s)
                if attempts.done():
                    attempts.result()  # nothing but a fault of ours ends it
        finally:
            forget()
            await end(attempts)

    def stage(self, name: str, done: float) -> None:
        """See ``Watcher``: the log hears of it, the terminal goes on showing sessions."""
        log.debug("Renewal: %s, %.0f%% done", name, 100 * done)

    def queued(self, place: int, waiting: int) -> None:
        """See ``Watcher``."""
        log.debug("Renewal: %d of %d in the queue", place, waiting)

    def note(self, sentence: str) -> None:
        """See ``Watcher``."""
        self._said = sentence
        log.info("Renewal: %s", sentence)

    def _wake(self) -> None:
        self._attempt_news.set()
        self._watch_news.set()

    async def _show_change(self) -> None:
        self._shown = self._standing.raw
        if self._standing.certificate is not None:
            self._report.note(f"Certificate renewed, valid until {spell_time(self._standing.certificate.expires)}.")
        try:
            await self._show()
        except GridError as error:
            log.info("Could not announce the new certificate: %s", error)  # the announcer tries again by itself

    async def _attempts(self) -> None:
        while True:
            self._attempt_news.clear()
            wait_s = self._due_s()
            if wait_s > 0:
                await _nap(self._attempt_news, wait_s)
                continue
            self._wanted = False
            try:
                wait_s = min(max(self._standing.left_s / 2, SHORTEST_WAIT_S), LONGEST_WAIT_S)
                self._standing.adopt(await self._examine(self, self._standing.raw, wait_s))
            except GridError as error:
                self._failed(str(error))
            except Exception as error:
                log.exception("The examination failed")
                self._failed(f"The examination failed with {type(error).__name__}: {error}.")
            else:
                self._failures, self._said = 0, ""
                self._drawn = random.random()  # noqa: S311 - spreads load
                self._wake()

    def _due_s(self) -> float:
        """Seconds until the next attempt."""
        certificate = self._standing.certificate
        if certificate is None or not self._standing.required:
            return LONGEST_NAP_S  # an open grid; or one that has just been closed, and ``run`` returns
        if self._wanted:
            called_at = self._rechecked_at if self._rechecked_at is not None else 0.0
            patient = asyncio.get_running_loop().time() < called_at + RECHECK_QUIET_S
            return QUIET_LOOK_S if patient and self._busy() else 0.0
        if self._failures:
            return self._again_at_s - self._clock()
        wait_s = renewal_at_s(certificate.issued, certificate.expires, self._drawn) - self._clock()
        quiet_until_s = certificate.issued + WAIT_FOR_QUIET * (certificate.expires - certificate.issued)
        if wait_s <= 0 and self._clock() < quiet_until_s and self._busy():
            return QUIET_LOOK_S
        return wait_s

    def _failed(self, why: str) -> None:
        self._failures += 1
        self._said = why
        left_s = self._standing.left_s
        pause_s = retry_pause_s(self._failures, left_s, random.random())  # noqa: S311 - spreads load
        self._again_at_s = self._clock() + pause_s
        self._report.note(
            f"The certificate expires in {spell_duration(left_s)} and was not renewed: {why.rstrip('.')}. Trying again "
            f"in {spell_duration(pause_s)}."
        )


async def _nap(news: asyncio.Event, seconds: float) -> None:
    """Wait for news, at most ``seconds``; not long at a time, since the clock may be set, or the machine sleep."""
    bounded_s = min(seconds, LONGEST_NAP_S) if seconds > 0 else LONGEST_NAP_S
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(bounded_s, SHORTEST_NAP_S)):
            await news.wait()


async def serve_rechecks(swarm: Swarm, signed: SignedCharter, renewal: Callable[[], Renewal]) -> None:
    """Take calls of authorities from now on, for whichever ``renewal`` gives."""

    async def authorities() -> set[PeerId]:
        return {PeerId(card.peer) for card in await find_authorities(swarm, signed)}

    async def answer(peer: PeerId, _payload: bytes) -> bytes:
        await renewal().on_recheck(peer, authorities)
        return b""

    await swarm.serve_calls(RECHECK_CALL, answer)
