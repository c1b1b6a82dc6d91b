"""Admission certificates of this machine, on disk, so that a restart needs no new measurement.

::

    data_dir/certificates/<grid>/<peer>.<model>.<dtype>.json
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gridllm.admission.certificate import (
    MAX_CERTIFICATE_BYTES,
    Certificate,
    check_certificate,
    verify_signatures,
)
from gridllm.charter.document import SignedCharter
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import AdmissionError, CertificateError
from gridllm.ids import GridId, ModelRoot, PeerId

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard

log = logging.getLogger(__name__)

SAFE_NAME: Final = re.compile(r"^[A-Za-z0-9]{1,128}$")  # peer ids, hex digests and dtypes all are


class Certificates:
    """What is kept below one data folder. Reads and verifies afresh on each call; writes are atomic."""

    def __init__(self, data_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = data_dir / "certificates"
        self._clock = clock

    def load(self, signed: SignedCharter, peer: PeerId, model: ModelRoot, dtype: str) -> bytes | None:
        """The certificate stored last; None when there is none that can be used now, for any role.

        Revocations are not looked at: notices may arrive later.
        """
        path = self._path(signed.grid, peer, model, dtype)
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_CERTIFICATE_BYTES + 1)
        except OSError:
            return None
        try:
            certificate = verify_signatures(raw, signed)
            check_certificate(
                certificate, peer, now_s=self._clock(), role=certificate.roles[0], model=model, dtype=dtype
            )
        except CertificateError as error:
            log.info("The certificate in %s cannot be used: %s", path, error)
            return None
        if self._clock() >= certificate.expires:  # others would still tolerate it, for minutes
            return None
        return raw

    def save(self, signed: SignedCharter, raw: bytes, board: NoticeBoard | None = None) -> Certificate:
        """Keep a certificate in place of the last one of the same peer, model and dtype; returns what it says.

        One that admits to less than serving does not replace one that is still good, admits to the same and to serving:
        a machine that was measured as a relay only would have to be measured anew before it serves.

        Args:
            board: knows whether the last one was revoked; None: it was not.

        Raises:
            CertificateError: it is forged or of another grid.
            AdmissionError: the folder cannot be written.
        """
        certificate = verify_signatures(raw, signed)
        path = self._path(signed.grid, PeerId(certificate.peer), ModelRoot(certificate.model), certificate.dtype)
        if self._kept_says_more(signed, certificate, board):
            return certificate
        try:
            make_private_dir(path.parent)
            write_atomically(path, raw)
        except OSError as error:
            raise AdmissionError(f"The certificate cannot be written to {path} ({error.strerror}).") from error
        return certificate

    def _kept_says_more(self, signed: SignedCharter, new: Certificate, board: NoticeBoard | None) -> bool:
        peer = PeerId(new.peer)
        raw = self.load(signed, peer, ModelRoot(new.model), new.dtype)
        if raw is None or "serve" in new.roles:
            return False
        kept = verify_signatures(raw, signed)
        revocation = None if board is None else board.revocation(peer)
        if revocation is not None and kept.issued < revocation.issued:
            return False
        return set(kept.roles) >= {"serve", *new.roles}

    def _path(self, grid: GridId, peer: PeerId, model: ModelRoot, dtype: str) -> Path:
        for part in (grid, peer, model, dtype):
            if not SAFE_NAME.match(part):
                raise AdmissionError(
                    f"{part[:64]!r} cannot be part of a file's name; a certificate is not kept for it."
                )
        return self._folder / grid / f"{peer}.{model}.{dtype}.json"
