"""The candidate's way to a certificate: find the authorities, be measured by a threshold, join their signatures."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gridllm.admission.candidate_book import Rounds, Taken, short
from gridllm.admission.cards import AuthorityCard, find_authorities, those_answering
from gridllm.admission.certificate import (
    check_certificate,
    join_certificate,
    verify_measurement,
    verify_signatures,
)
from gridllm.admission.examination.candidacy import Candidacy, Watcher
from gridllm.admission.examination.prover import Prover, answer_examination, hello_of
from gridllm.admission.knock import answer_knocks
from gridllm.admission.messages import ADMISSION_STREAM, CERTIFY_CALL, Certify, Hello, Verdict, encode
from gridllm.admission.outcome import NotAdmittedHere, check_not_revoked, figures_of
from gridllm.errors import (
    AdmissionError,
    CertificateError,
    Disagreement,
    GridError,
    NotAdmitted,
    Outdated,
    Refusal,
    Revoked,
    SwarmError,
    WireError,
    WrongGrid,
    WrongModel,
)
from gridllm.ids import ModelRoot, PeerId

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.swarm.interface import Stream, Swarm

__all__ = ["NotAdmittedHere", "admit"]

OPEN_S: Final = 10.0  # for a stream
CERTIFY_S: Final = 15.0  # for one signature
FIRST_PAUSE_S: Final = 5.0  # while too few authorities answer; twice that after each further look
LONGEST_PAUSE_S: Final = 60.0
LAST_LOOK_S: Final = 5.0  # before the time is over
AGREE_S: Final = 10.0  # how long notices take to reach all authorities
AGREE_TRIES: Final = 6
FOR_GOOD: Final = (Revoked, Outdated, WrongGrid, WrongModel)  # it says the same later on, too

Answer = Callable[["Stream", Hello, Watcher], Awaitable[Verdict]]
"""Takes part in one examination, from Hello to the verdict."""


async def admit(
    swarm: Swarm,
    signed: SignedCharter,
    board: NoticeBoard,
    candidacy: Candidacy,
    watcher: Watcher,
    *,
    certificate: bytes = b"",
    wait_s: float,
    first: PeerId | None = None,
    answer: Answer | None = None,
) -> bytes:
    """Be measured and certified: the certificate's envelope. Asks for patience through ``watcher``.

    Args:
        certificate: the one that runs out, for a renewal.
        wait_s: for everything together, authorities that are down and queues included.
        first: the authority that called for it; the others are asked after it.
        answer: in place of an honest ``Prover``, for tests.

    Raises:
        NotAdmittedHere: revoked as far as ``board`` knows; or so many authorities measured it and did not admit it, or
            refused it for good, that too few of those that answer are left.
        AdmissionError: not done within ``wait_s`` (the text says what was missing), or this machine cannot compute it.
    """
    check_not_revoked(board.revocation(swarm.peer))
    await answer_knocks(swarm)
    application = _Application(swarm, signed, board, candidacy, watcher, certificate, first, answer)
    try:
        async with asyncio.timeout(wait_s):
            return await application.run(_now() + wait_s)
    except TimeoutError as error:
        raise AdmissionError(f"Not admitted within {wait_s:.0f} s: {application.why}") from error


class _Application:
    """One way to one certificate."""

    def __init__(
        self,
        swarm: Swarm,
        signed: SignedCharter,
        board: NoticeBoard,
        candidacy: Candidacy,
        watcher: Watcher,
        certificate: bytes,
        first: PeerId | None,
        answer: Answer | None,
    ) -> None:
        self._swarm = swarm
        self._signed = signed
        self._board = board
        self._candidacy = candidacy
        self._watcher = watcher
        self._certificate = certificate
        self._first = first
        self._answer = answer or self._answer_honestly
        self._rounds = Rounds(signed.charter.maintainers, signed.charter.threshold)
        self._disagreements = 0
        self.why = "no authority was asked yet."

    async def run(self, until: float) -> bytes:
        """Go on until there is a certificate; ``until``, on the loop's clock, the caller ends it."""
        pause_s = FIRST_PAUSE_S
        while True:
            answering = await self._look()
            self._rounds.check_denials()
            if len(answering) >= self._rounds.threshold:
                await self._be_measured(answering)
            usable = self._rounds.usable(_now())
            if len(usable) >= self._rounds.threshold:
                raw = await self._certified(usable)
                if raw is not None:
                    return raw
                pause_s = FIRST_PAUSE_S
            hopeless = self._rounds.hopeless()
            if hopeless is not None:
                raise NotAdmittedHere(hopeless.code, str(hopeless)) from hopeless
            drawn_s = pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
            left_s = until - _now()
            drawn_s = min(drawn_s, max(left_s - LAST_LOOK_S, FIRST_PAUSE_S))
            self.why = self._rounds.why()
            self._watcher.note(self._rounds.why(drawn_s if drawn_s < left_s else None))
            await asyncio.sleep(drawn_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _look(self) -> list[AuthorityCard]:
        """Authorities that answer now: those that measured this machine, the one that called, the rest at random."""
        try:
            cards = await find_authorities(self._swarm, self._signed)
        except SwarmError as error:
            self._watcher.note(f"The grid's authorities cannot be looked up: {error}")
            cards = []
        random.shuffle(cards)  # so that a crowd does not begin at the same one
        answering = await those_answering(self._swarm, cards)
        self._rounds.answering = {card.maintainer for card in answering}
        return sorted(answering, key=lambda card: (card.maintainer not in self._rounds.taken, card.peer != self._first))

    async def _be_measured(self, answering: list[AuthorityCard]) -> None:
        """One authority after the other, until a threshold of them has measured this machine."""
        for card in answering:
            now = _now()
            usable = self._rounds.usable(now)
            if len(usable) >= self._rounds.threshold:
                return
            done = {one.card.maintainer for one in usable} | self._rounds.denials.keys()
            if card.maintainer in done or self._rounds.rests(card.maintainer, now):
                continue
            name = short(card.maintainer)
            self._watcher.note(
                f"Authority {name} measures this machine ({len(usable) + 1} of {self._rounds.threshold})."
            )
            try:
                raw = await self._measured_by(card)
            except NotAdmittedHere as verdict:
                self._denied(card, verdict)
            except (SwarmError, WireError, Refusal) as error:
                if isinstance(error, FOR_GOOD) and not self._unheard_of(error):
                    self._denied(card, NotAdmittedHere(error.code, str(error)))
                    continue
                self._watcher.note(f"Authority {name} did not measure this machine: {error}")
                self._rounds.failed(card.maintainer, error, _now())
            else:
                self._rounds.measured(card, raw, _now())

    def _unheard_of(self, refusal: Refusal) -> bool:
        """Whether the authority may not have heard yet that the model is listed: that takes notices some seconds."""
        own = {entry.root for entry in self._signed.charter.models}
        return isinstance(refusal, WrongModel) and self._candidacy.entry.root not in own

    def _denied(self, card: AuthorityCard, verdict: NotAdmittedHere) -> None:
        """One authority said no. Raises NotAdmittedHere when that settles it."""
        check_not_revoked(self._board.revocation(self._swarm.peer))  # nobody's word alone, but a notice, proves that
        self._watcher.note(f"Authority {short(card.maintainer)} does not admit this machine: {verdict}")
        self._rounds.denied(card.maintainer, verdict)

    async def _measured_by(self, card: AuthorityCard) -> bytes:
        """The authority's signed measurement.

        Raises:
            NotAdmittedHere: its verdict.
            SwarmError, WireError, Refusal: it could not be used this time.
            AdmissionError: this machine cannot compute what is asked.
        """
        stream = await self._swarm.open_stream(PeerId(card.peer), ADMISSION_STREAM, timeout_s=OPEN_S)
        addresses = tuple(one for one in self._swarm.addresses if len(one) <= 256 and "/p2p-circuit" not in one)
        hello = hello_of(self._candidacy, self._signed.grid, addresses, self._certificate)
        try:
            verdict = await self._answer(stream, hello, self._watcher)
        finally:
            await stream.close()
        if not verdict.admitted:
            raise NotAdmittedHere(verdict.reason, verdict.text, figures_of(verdict))
        try:
            measurement = verify_measurement(verdict.measurement, self._signed)
        except AdmissionError as error:
            raise WireError(f"Its measurement does not count: {error}") from error
        mine = self._swarm.peer, self._candidacy.entry.root, self._candidacy.dtype
        if measurement.authority != card.maintainer or (measurement.peer, measurement.model, measurement.dtype) != mine:
            raise WireError("Its measurement is not its own, or not of this machine.")
        return verdict.measurement

    async def _certified(self, usable: list[Taken]) -> bytes | None:
        """The certificate; None when an authority has to be replaced, or some do not agree yet."""
        request = encode(Certify(measurements=[one.raw for one in usable]))
        envelopes = []
        for one in usable:
            try:
                envelopes.append(
                    await self._swarm.call(PeerId(one.card.peer), CERTIFY_CALL, request, timeout_s=CERTIFY_S)
                )
            except Disagreement as refusal:
                self._rounds.taken.clear()
                await self._disagree(refusal)
                return None
            except (Revoked, NotAdmitted) as refusal:
                self._denied(one.card, NotAdmittedHere(refusal.code, str(refusal)))
                return None
            except (SwarmError, WireError, Refusal) as error:
                self._watcher.note(f"Authority {short(one.card.maintainer)} did not sign the certificate: {error}")
                self._rounds.failed(one.card.maintainer, error, _now())
                return None
        try:
            return self._checked(join_certificate(envelopes, self._signed))
        except (AdmissionError, CertificateError) as error:
            await self._disagree(error)  # an amendment may not have reached all of them yet
            return None

    def _checked(self, raw: bytes) -> bytes:
        certificate = verify_signatures(raw, self._signed)
        check_certificate(
            certificate,
            self._swarm.peer,
            now_s=time.time(),
            role=certificate.roles[0],
            model=ModelRoot(self._candidacy.entry.root),
            dtype=self._candidacy.dtype,
        )
        return raw

    async def _disagree(self, error: GridError) -> None:
        self._disagreements += 1
        if self._disagreements >= AGREE_TRIES:
            raise NotAdmittedHere(Disagreement.code, f"The authorities do not agree: {error}") from error
        self.why = f"the authorities do not agree: {error}"
        self._watcher.note(f"The authorities do not agree yet ({error}); trying again in {AGREE_S:.0f} s.")
        await asyncio.sleep(AGREE_S)

    async def _answer_honestly(self, stream: Stream, hello: Hello, watcher: Watcher) -> Verdict:
        prover = Prover(self._candidacy, self._signed.grid, self._swarm.peer)
        return await answer_examination(stream, prover, hello, watcher)


def _now() -> float:
    return asyncio.get_running_loop().time()
