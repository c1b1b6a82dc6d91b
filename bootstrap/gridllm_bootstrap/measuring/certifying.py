"""From measurements to an authority's signature on the certificate that they determine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from gridllm.admission.certificate import (
    Certificate,
    Measurement,
    certificate_from,
    sign_certificate,
    verify_measurement,
)
from gridllm.admission.figures import SPEEDS
from gridllm.admission.messages import CERTIFY_CALL, Certify, decode_certify
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Admission
from gridllm.errors import AdmissionError, Disagreement, Malformed, NotAdmitted, Revoked, TooSoon, WireError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm_bootstrap.limits import Tries, spell_wait
from gridllm_bootstrap.measuring.entrance import check_not_revoked

CALLS: Final = 20  # of one peer in a row; a candidate makes one, and a few more while notices spread
CALL_EVERY_S: Final = 10.0
MOST_APART: Final = 4.0  # times: further apart, two authorities did not measure the same machine in the same state
COMPARED: Final = (*SPEEDS, "memory_bytes")
"""Bandwidth, round trip and reachability differ with where an authority stands; these do not."""


class Certifier:
    """Answers ``CERTIFY_CALL`` for one maintainer."""

    def __init__(
        self,
        signed: SignedCharter,
        maintainer: Identity,
        board: NoticeBoard,
        *,
        clock: Callable[[], float] = time.time,
        on_certified: Callable[[Certificate], None] = lambda _: None,
    ) -> None:
        self._signed = signed
        self._maintainer = maintainer
        self._board = board
        self._clock = clock
        self._on_certified = on_certified
        self._calls = Tries(CALLS)

    async def serve(self, swarm: Swarm) -> None:
        """Answer from now on."""
        await swarm.serve_calls(CERTIFY_CALL, self.answer)

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        """The certificate with this maintainer's signature.

        Raises:
            TooSoon, Malformed, NotAdmitted, Disagreement, Revoked: why it is not signed.
        """
        wait_s = self._calls.take(peer, CALL_EVERY_S)
        if wait_s:
            raise TooSoon(f"This machine asks for certificates too often; ask again in {spell_wait(wait_s)}.")
        try:
            request = decode_certify(payload)
        except WireError as error:
            raise Malformed(str(error)) from error
        measurements = await asyncio.to_thread(self._verified, request)
        now_s = self._clock()
        check_not_revoked(peer, self._board, now_s)
        revocation = self._board.revocation(peer)
        if revocation is not None and any(one.taken < revocation.issued for one in measurements):
            raise Revoked(f"A measurement of {peer} is older than its revocation ({revocation.why}); measure again.")
        mine = self._maintainer.public_key.hex()
        certificate = agreed(measurements, peer, mine, self._signed, self._board.admission, now_s)
        raw = sign_certificate(certificate, self._maintainer)
        self._on_certified(certificate)
        return raw

    def _verified(self, request: Certify) -> list[Measurement]:
        try:
            return [verify_measurement(raw, self._signed) for raw in request.measurements]
        except AdmissionError as error:
            raise NotAdmitted(str(error)) from error


def agreed(
    measurements: Sequence[Measurement],
    peer: PeerId,
    mine: str,
    signed: SignedCharter,
    admission: Admission,
    now_s: float,
) -> Certificate:
    """What the maintainer ``mine`` may sign for ``peer``. Pure; the measurements' signatures were verified.

    Raises:
        NotAdmitted: too few, too old, of another peer, or below every role's minimums.
        Disagreement: this authority did not measure the machine itself, or measured something quite different.
    """
    for one in measurements:
        if one.peer != peer:
            raise NotAdmitted(f"A measurement is of {one.peer}; {peer} cannot be certified with it.")
    own = next((one for one in measurements if one.authority == mine), None)
    if own is None:
        raise Disagreement("This authority signs only what it measured itself; let it measure this machine first.")
    for other in measurements:
        for name in COMPARED:
            here, there = getattr(own.figures, name), getattr(other.figures, name)
            if max(here, there) > MOST_APART * min(here, there):
                raise Disagreement(
                    f"This authority measured {name} as {here:.6g}, {other.authority[:8]}… as {there:.6g}: too far "
                    "apart to sign. Let both measure again while this machine has nothing else to do."
                )
    try:
        return certificate_from(measurements, signed, admission, now_s)
    except AdmissionError as error:
        raise NotAdmitted(str(error)) from error
