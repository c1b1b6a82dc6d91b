"""Certificates and notices of the test charter, to alter in tests."""

from __future__ import annotations

import time
from typing import Any

from gridllm.admission.certificate import Certificate, join_certificate, sign_certificate
from gridllm.admission.figures import Figures
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Admission
from gridllm.charter.notices import AMENDMENT_TYPE, REVOCATION_TYPE, Amendment, Revocation
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from tests.charters import MAINTAINERS


def certificate_raw(
    signed: SignedCharter,
    peer: PeerId,
    *,
    life_s: float = 3600,
    age_s: float = 0,
    now_s: float | None = None,
    **changes: Any,
) -> bytes:
    """A certificate issued ``age_s`` ago that lasts ``life_s`` in all, joined from a threshold of signatures."""
    now = time.time() if now_s is None else now_s
    entry = signed.charter.models[0]
    fields: dict[str, Any] = {
        "grid": signed.grid,
        "peer": peer,
        "model": entry.root,
        "dtype": entry.dtype,
        "roles": ["serve"],
        "figures": Figures(decode_blocks_per_s=1000.0),
        "issued": int(now - age_s),
        "expires": int(now - age_s + life_s),
        "measured_by": sorted(m.public_key.hex() for m in MAINTAINERS[: signed.charter.threshold]),
    }
    certificate = Certificate.model_validate(fields | changes)
    signers = MAINTAINERS[: signed.charter.threshold]
    return join_certificate([sign_certificate(certificate, one) for one in signers], signed)


def revocation_raw(
    signed: SignedCharter,
    peer: PeerId,
    *,
    why: str = "It sent wrong numbers.",
    bar_s: float = 0,
    now_s: float | None = None,
) -> bytes:
    """A revocation of now; the peer is barred for ``bar_s``."""
    now = int(time.time() if now_s is None else now_s)
    notice = Revocation(grid=signed.grid, peer=peer, why=why, issued=now, until=now + int(bar_s))
    return sign_statement(notice, REVOCATION_TYPE, MAINTAINERS[: signed.charter.threshold])


def amendment_raw(signed: SignedCharter, admission: Admission, serial: int = 1) -> bytes:
    """An amendment of the minimums."""
    notice = Amendment(grid=signed.grid, serial=serial, issued=int(time.time()), admission=admission)
    return sign_statement(notice, AMENDMENT_TYPE, MAINTAINERS[: signed.charter.threshold])
