"""A node's own admission: the certificate it shows, whether that counts now, and when to renew it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gridllm.admission.certificate import Certificate
from gridllm.admission.gate import Gatekeeper
from gridllm.admission.store import Certificates
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Role
from gridllm.errors import AdmissionError, CertificateError
from gridllm.ids import ModelRoot, PeerId

log = logging.getLogger(__name__)

DUE_AT: Final = 2 / 3  # of a certificate's life: the middle of the first attempts
SPREAD: Final = 0.1  # of a certificate's life: how far nodes that started together drift apart
SPARE_S: Final = 300.0  # a stored certificate must last this much longer to start serving with it …
SPARE_SHARE: Final = 0.25  # … or this share of its life, where that is less
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 900.0
SHORTEST_PAUSE_S: Final = 5.0


def renewal_at_s(issued_s: float, expires_s: float, drawn: float) -> float:
    """When to be measured again, Unix time: at about two thirds of the certificate's life.

    Args:
        drawn: a random number in [0, 1), drawn once for each certificate, so that nodes that were admitted in the same
            minute do not queue up in the same minute again.
    """
    return issued_s + (expires_s - issued_s) * (DUE_AT + SPREAD * (drawn - 0.5))


def retry_pause_s(failures: int, left_s: float, drawn: float) -> float:
    """Seconds until the next attempt: doubling, and short enough for several more before the certificate runs out.

    Args:
        failures: attempts that failed in a row, at least 1.
        left_s: until the certificate expires; not above 0 when it did.
        drawn: a random number in [0, 1): spreads nodes that wait for the same authority.
    """
    pause_s = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)
    if left_s > 0:
        pause_s = min(pause_s, max(left_s / 4, SHORTEST_PAUSE_S))
    return pause_s * (0.75 + 0.5 * drawn)


def lasts(certificate: Certificate, now_s: float) -> bool:
    """Whether a certificate is good for long enough to start serving with it."""
    spare_s = min(SPARE_S, SPARE_SHARE * (certificate.expires - certificate.issued))
    return now_s + spare_s < certificate.expires


class Standing:
    """The certificate of one node for one model and dtype."""

    def __init__(
        self,
        signed: SignedCharter,
        gate: Gatekeeper,
        peer: PeerId,
        model: ModelRoot,
        dtype: str,
        *,
        role: Role = "serve",
        store: Certificates | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            role: what the certificate must admit to.
            store: where certificates are kept for the next start; None keeps nothing.
            clock: Unix time in seconds.
        """
        self.gate = gate
        self.role = role
        self.raw = b""
        """What the node's record carries: the signed envelope, or nothing."""
        self.certificate: Certificate | None = None
        self.called_by: PeerId | None = None
        """The authority that wants this node measured again, until it was. It is asked first: it measures strictly."""
        self._signed = signed
        self._peer = peer
        self._model = model
        self._dtype = dtype
        self._store = store
        self._clock = clock

    @property
    def required(self) -> bool:
        """Whether this grid asks for certificates now."""
        return self.gate.required

    @property
    def good(self) -> bool:
        """Whether this node may serve now."""
        return self.fault() is None

    @property
    def left_s(self) -> float:
        """Seconds until the certificate expires; 0 without one, negative afterwards."""
        return self.certificate.expires - self._clock() if self.certificate is not None else 0.0

    def fault(self) -> CertificateError | None:
        """Why this node may not serve now; None: it may. Others tolerate clocks that differ; its own end is exact."""
        try:
            certificate = self._check(self.raw)
        except CertificateError as error:
            return error
        if certificate is not None and self._clock() >= certificate.expires:
            return CertificateError("expired", "The certificate of this node has expired.")
        return None

    def adopt(self, raw: bytes) -> Certificate:
        """Show this certificate from now on.

        Raises:
            CertificateError: it does not admit this node to serve this model in this dtype; the old one stays.
        """
        certificate = self._check(raw)
        if certificate is None:  # the grid became an open one while this node was measured
            raise CertificateError("missing", "This grid asks for no certificates.")
        self.raw, self.certificate, self.called_by = raw, certificate, None
        if self._store is not None:
            try:
                self._store.save(self._signed, raw, self.gate.board)
            except AdmissionError as error:
                log.warning("The next start needs a new measurement: %s", error)
        return certificate

    def recall(self) -> bool:
        """Show the certificate kept from before, if there is one that admits this node for a while yet."""
        if self._store is None:
            return False
        raw = self._store.load(self._signed, self._peer, self._model, self._dtype)
        if raw is None:
            return False
        try:
            certificate = self._check(raw)
        except CertificateError as error:
            log.info("The certificate kept from before is of no use now: %s", error)
            return False
        if certificate is None or not lasts(certificate, self._clock()):
            return False
        self.raw, self.certificate = raw, certificate
        return True

    def revoked(self) -> CertificateError | None:
        """The maintainers' word that this node may not be measured for a while; None while there is none that holds.

        A revocation that only voids its certificate is a fault like an expired one: the node steps back and is measured
        again by itself.
        """
        revocation = self.gate.board.revocation(self._peer) if self.required else None
        if revocation is None or self._clock() >= revocation.until:
            return None
        return CertificateError(
            "revoked",
            f"The grid's maintainers revoked this node's admission: {revocation.why.rstrip('.')}. It may be measured "
            f"again from {spell_time(revocation.until)} on, with: gridllm {self.role}",
        )

    def _check(self, raw: bytes) -> Certificate | None:
        """Raises CertificateError."""
        return self.gate.check(raw, self._peer, role=self.role, model=self._model, dtype=self._dtype)


def spell_time(unix_s: float) -> str:
    """Unix time → ``2026-11-21 13:05 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s))


def spell_duration(seconds: float) -> str:
    """Seconds as people read them, in the two largest units: 5 h 20 min, 3 min, 40 s."""
    rest = max(round(seconds), 0)
    if rest >= 120:
        rest = round(rest / 60) * 60
    words = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2]) or "0 s"
