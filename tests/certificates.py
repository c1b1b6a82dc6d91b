"""Grids that ask for certificates, and maintainers who sign whatever a test needs."""

from __future__ import annotations

import time
from typing import Any

from gridllm.admission.certificate import CERTIFICATE_TYPE, Certificate
from gridllm.admission.figures import Figures
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.minimums import Admission
from gridllm.charter.notices import AMENDMENT_TYPE, REVOCATION_TYPE, Amendment, Revocation
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from tests.charters import ENTRY, MAINTAINERS, charter

SIGNERS = MAINTAINERS[:2]  # the charter's threshold is 2


def closed_grid(**changes: Any) -> SignedCharter:
    """A grid that admits nobody without a certificate."""
    return sign_charter(charter(**{"admission": Admission(required=True)} | changes), SIGNERS)


def certificate(signed: SignedCharter, peer: PeerId, **changes: Any) -> Certificate:
    """A sound one, issued now for the tests' model; 100 blocks/s."""
    now = int(time.time())
    fields: dict[str, Any] = {
        "grid": signed.grid,
        "peer": peer,
        "model": ENTRY.root,
        "dtype": "float32",
        "roles": ["serve"],
        "figures": Figures(decode_blocks_per_s=100.0),
        "issued": now,
        "expires": now + signed.charter.admission.certificate_s,
        "measured_by": sorted(one.public_key.hex() for one in SIGNERS),
    }
    return Certificate(**(fields | changes))


def certified(signed: SignedCharter, peer: PeerId, **changes: Any) -> bytes:
    """``certificate``, signed by the threshold."""
    return sign_statement(certificate(signed, peer, **changes), CERTIFICATE_TYPE, SIGNERS)


def altered(raw: bytes) -> bytes:
    """One byte of one signature is another."""
    at = raw.index(b'"sig":"') + 20
    return raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]


def revocation(signed: SignedCharter, peer: PeerId, *, issued: float | None = None, until: float = 0.0) -> bytes:
    """The maintainers' word against ``peer``, as of now."""
    issued = time.time() + 1 if issued is None else issued
    notice = Revocation(grid=signed.grid, peer=peer, why="It lied", issued=int(issued), until=int(until))
    return sign_statement(notice, REVOCATION_TYPE, SIGNERS)


def amendment(signed: SignedCharter, admission: Admission, serial: int = 1) -> bytes:
    """New minimums."""
    notice = Amendment(grid=signed.grid, serial=serial, issued=int(time.time()), admission=admission)
    return sign_statement(notice, AMENDMENT_TYPE, SIGNERS)


def gate_of(signed: SignedCharter, *notices: bytes) -> Gatekeeper:
    """A member's gate, which has heard of these notices."""
    board = NoticeBoard(signed)
    for raw in notices:
        board.add(raw)
    return Gatekeeper(signed, board)
