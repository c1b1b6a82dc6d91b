"""Certificates on disk: what is kept, and what is not handed out again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gridllm.admission.certificate import (
    CERTIFICATE_TYPE,
    Certificate,
    join_certificate,
    sign_certificate,
)
from gridllm.admission.store import Certificates
from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import Role
from gridllm.errors import AdmissionError, CertificateError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import ModelRoot, PeerId
from tests.charters import ENTRY, MAINTAINERS
from tests.unit.authority_hall import GOOD, revoke, signed_charter

SIGNED = signed_charter()
PEER = Identity.ephemeral().peer
ROOT = ENTRY.model_root


def certificate(
    *, issued: float | None = None, life_s: int = 3600, peer: PeerId = PEER, roles: tuple[Role, ...] = ("serve",)
) -> Certificate:
    began = int(time.time() if issued is None else issued)
    return Certificate(
        grid=SIGNED.grid,
        peer=peer,
        model=ROOT,
        dtype="float32",
        roles=list(roles),
        figures=GOOD,
        issued=began,
        expires=began + life_s,
        measured_by=sorted(one.public_key.hex() for one in MAINTAINERS[:2]),
    )


def envelope(made: Certificate) -> bytes:
    return join_certificate([sign_certificate(made, one) for one in MAINTAINERS[:2]], SIGNED)


def test_it_comes_back(tmp_path: Path) -> None:
    store = Certificates(tmp_path)
    assert store.load(SIGNED, PEER, ROOT, "float32") is None
    made = certificate()
    first, second = envelope(certificate(issued=time.time() - 10)), envelope(made)
    store.save(SIGNED, first)
    assert store.save(SIGNED, second) == made
    assert store.load(SIGNED, PEER, ROOT, "float32") == second
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_each_peer_model_and_dtype_has_its_own(tmp_path: Path) -> None:
    store = Certificates(tmp_path)
    store.save(SIGNED, envelope(certificate()))
    assert store.load(SIGNED, Identity.ephemeral().peer, ROOT, "float32") is None
    assert store.load(SIGNED, PEER, ModelRoot("cd" * 32), "float32") is None
    assert store.load(SIGNED, PEER, ROOT, "bfloat16") is None
    assert store.load(signed_charter(name="other"), PEER, ROOT, "float32") is None


def test_one_for_a_lesser_role_does_not_replace_one_that_is_good(tmp_path: Path) -> None:
    ahead_s = 0.0
    store = Certificates(tmp_path, clock=lambda: time.time() + ahead_s)
    relay_only = envelope(certificate(roles=("relay",)))

    def kept() -> bytes | None:
        return store.load(SIGNED, PEER, ROOT, "float32")

    serves = envelope(certificate(issued=time.time() - 10, roles=("serve", "relay")))
    store.save(SIGNED, serves)
    assert store.save(SIGNED, relay_only).roles == ["relay"]
    assert kept() == serves
    seed_only = envelope(certificate(roles=("seed",)))  # what the other does not admit to
    store.save(SIGNED, seed_only)
    assert kept() == seed_only
    only_serves = envelope(certificate(issued=time.time() - 10))  # renewed without a role
    store.save(SIGNED, serves)
    store.save(SIGNED, only_serves)
    assert kept() == only_serves
    soon_over = envelope(certificate(issued=time.time() - 3600 + 300, roles=("serve", "relay")))
    store.save(SIGNED, soon_over)
    ahead_s = 600.0
    store.save(SIGNED, relay_only)
    assert kept() == relay_only


def test_one_that_was_revoked_is_replaced_by_any(tmp_path: Path) -> None:
    store, board = Certificates(tmp_path), NoticeBoard(SIGNED)
    store.save(SIGNED, envelope(certificate(issued=time.time() - 10, roles=("serve", "relay"))))
    board.add(revoke(SIGNED, PEER, ago_s=5.0))
    relay_only = envelope(certificate(roles=("relay",)))
    store.save(SIGNED, relay_only, board)
    assert store.load(SIGNED, PEER, ROOT, "float32") == relay_only


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"rubbish",
        b"{" * 10_000,
        sign_statement(certificate(), CERTIFICATE_TYPE, MAINTAINERS[:1]),  # too few
        sign_statement(certificate(), CERTIFICATE_TYPE, [Identity.ephemeral() for _ in range(2)]),
        envelope(certificate(peer=Identity.ephemeral().peer)),  # put into this one's place
        envelope(certificate(issued=time.time() - 3601)),  # expired a moment ago
        envelope(certificate(issued=time.time() + 3600)),
    ],
)
def test_what_cannot_be_used_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    store = Certificates(tmp_path)
    store.save(SIGNED, envelope(certificate()))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(damage)
    assert store.load(SIGNED, PEER, ROOT, "float32") is None
    store.save(SIGNED, envelope(certificate()))
    assert store.load(SIGNED, PEER, ROOT, "float32") is not None


def test_nothing_forged_is_kept(tmp_path: Path) -> None:
    with pytest.raises(CertificateError):
        Certificates(tmp_path).save(SIGNED, sign_certificate(certificate(), MAINTAINERS[0]))
    assert not list(tmp_path.iterdir())


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(AdmissionError, match="file's name"):
        Certificates(tmp_path).load(SIGNED, PeerId("../../etc/passwd"), ROOT, "float32")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "certificates").write_bytes(b"in the way")
    with pytest.raises(AdmissionError, match="cannot be written"):
        Certificates(tmp_path).save(SIGNED, envelope(certificate()))
