"""Who is admitted, decided offline: from the charter, the maintainers' notices, and the certificate a peer shows."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from gridllm.admission.certificate import Certificate, check_certificate, verify_signatures
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Role
from gridllm.errors import CertificateError
from gridllm.ids import ModelRoot, PeerId
from gridllm.wire.helper import HelperRecord
from gridllm.wire.record import NodeRecord

T = TypeVar("T")

REMEMBERED: Final = 4096  # certificates whose signatures are not verified again; and as many forged ones


class Gatekeeper:
    """Checks certificates: time, holder and revocations each time (microseconds), signatures once (0.2 ms)."""

    def __init__(self, signed: SignedCharter, board: NoticeBoard, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix time in seconds."""
        self.board = board
        self._signed = signed
        self._clock = clock
        # Apart, so that a stranger's flood of forgeries pushes out no honest node's certificate.
        self._genuine: OrderedDict[bytes, Certificate] = OrderedDict()
        self._false: OrderedDict[bytes, CertificateError] = OrderedDict()

    @property
    def required(self) -> bool:
        """Whether this grid asks for certificates at all; an amendment may change it."""
        return self.board.admission.required

    def check(
        self,
        raw: bytes,
        peer: PeerId,
        *,
        role: Role = "serve",
        model: ModelRoot | None = None,
        dtype: str | None = None,
    ) -> Certificate | None:
        """The certificate in ``raw``, once it is known to admit ``peer`` to ``role`` now; None in an open grid.

        Args:
            model, dtype: what the certificate must be for; None: any.

        Raises:
            CertificateError: names the rule that it breaks.
        """
        if not self.required:
            return None
        now_s = self._clock()
        certificate = check_certificate(self._verified(raw), peer, now_s=now_s, role=role, model=model, dtype=dtype)
        self._check_revoked(certificate, now_s)
        return certificate

    def admit(self, record: NodeRecord) -> NodeRecord:
        """The record of an admitted node, its speed no higher than certified: nobody attracts sessions by boasting.

        Raises:
            CertificateError: the node is not admitted to serve that model in that dtype.
        """
        certificate = self.check(record.certificate, record.peer, model=record.model, dtype=record.dtype)
        if certificate is None:
            return record
        proven = certificate.figures.decode_blocks_per_s
        speed = min(record.blocks_per_s or proven, proven)  # 0: the node has not measured itself yet
        return record if speed == record.blocks_per_s else msgspec.structs.replace(record, blocks_per_s=speed)

    def admit_helper(self, record: HelperRecord) -> None:
        """Nothing, for a relay or seed that is admitted to that role, whichever model it was measured with.

        Raises:
            CertificateError: it is not.
        """
        self.check(record.certificate, record.peer, role=record.role)

    def _check_revoked(self, certificate: Certificate, now_s: float) -> None:
        revocation = self.board.revocation(PeerId(certificate.peer))
        if revocation is None:
            return
        if certificate.issued < revocation.issued or now_s < revocation.until:
            until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(revocation.until, revocation.issued)))
            raise CertificateError(
                "revoked",
                f"The maintainers revoked the admission of {certificate.peer}: {revocation.why.rstrip('.')}. It may "
                f"be measured again from {until} on.",
            )

    def _verified(self, raw: bytes) -> Certificate:
        """The certificate, whose signatures are the charter's threshold's. Raises CertificateError."""
        key = hashlib.sha256(raw).digest()
        if (known := self._genuine.get(key)) is not None:
            self._genuine.move_to_end(key)
            return known
        if (fault := self._false.get(key)) is not None:
            raise CertificateError(fault.rule, str(fault))
        try:
            certificate = verify_signatures(raw, self._signed)
        except CertificateError as error:
            _remember(self._false, key, error.with_traceback(None))
            raise CertificateError(error.rule, str(error)) from error
        _remember(self._genuine, key, certificate)
        return certificate


def _remember(known: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    known[key] = value
    if len(known) > REMEMBERED:
        known.popitem(last=False)
