"""``gridllm id``: who this machine is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.admission.certificate import Certificate
    from gridllm.charter.notices import Revocation
    from gridllm.ids import PeerId


def show_id(
    identity: Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print this machine's peer id, public key and admission certificates; the key is made on first use.

    Example: gridllm id --json
    """
    from gridllm.cli.show import facts_text, print_json, room, stdout
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings

    settings = load_settings(identity=identity)
    mine = load_or_create(settings.identity_path)
    facts = {"peer": mine.peer, "public_key": mine.public_key.hex(), "key_file": str(mine.path)}
    held = _certificates(settings.data_dir, mine.peer)
    admitted = {name for name, _ in held}
    revoked = [(name, one) for name, one in _revocations(settings.data_dir, mine.peer) if name not in admitted]
    if as_json:
        certificates, revocations = (
            [{"name": name, **one.model_dump(mode="json")} for name, one in named] for named in (held, revoked)
        )
        print_json({**facts, "certificates": certificates, "revocations": revocations})
    else:
        named: dict[str, str | list[str]] = {
            "Peer id": facts["peer"],
            "Public key": facts["public_key"],
            "Key file": facts["key_file"],
        }
        if held:
            named["Admitted"] = [_line(name, one) for name, one in held]
        if revoked:
            named["Revoked"] = [_revoked_line(name, one) for name, one in revoked]
        stdout().print(facts_text(named, room()))


def _certificates(data_dir: Path, peer: PeerId) -> list[tuple[str, Certificate]]:
    """Certificates of this key that can be used now, as far as is known here: (name of the grid, certificate)."""
    from gridllm.admission.certificate import verify_signatures
    from gridllm.admission.gate import Gatekeeper
    from gridllm.admission.store import Certificates
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.catalogue import Catalogue
    from gridllm.charter.pin import Pins
    from gridllm.cli.compute import DTYPES
    from gridllm.errors import CertificateError, CharterError

    store, pins, found = Certificates(data_dir), Pins(data_dir), []
    try:
        joined = pins.all()
    except CharterError:  # who this machine is can be said all the same
        joined = []
    for signed in joined:
        board = NoticeBoard(signed, pins.notices_path(signed))
        gate, entries = Gatekeeper(signed, board), Catalogue(signed, board).entries
        for model, dtype in ((entry.model_root, dtype) for entry in entries for dtype in DTYPES):
            raw = store.load(signed, peer, model, dtype)
            if raw is None:
                continue
            certificate = verify_signatures(raw, signed)
            with contextlib.suppress(CertificateError):  # revoked since
                gate.check(raw, peer, role=certificate.roles[0], model=model, dtype=dtype)
                found.append((signed.charter.name, certificate))
    return found


def _revocations(data_dir: Path, peer: PeerId) -> list[tuple[str, Revocation]]:
    """Revocations of this key that are known here: (name of the grid, revocation)."""
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.pin import Pins
    from gridllm.errors import CharterError

    pins, found = Pins(data_dir), []
    with contextlib.suppress(CharterError):
        for signed in pins.all():
            board = NoticeBoard(signed, pins.notices_path(signed))
            revocation = board.revocation(peer) if board.admission.required else None
            if revocation is not None:
                found.append((signed.charter.name, revocation))
    return found


def _revoked_line(name: str, revocation: Revocation) -> str:
    from gridllm.node.standing import spell_time

    again = spell_time(max(revocation.until, revocation.issued))
    return f"{name}: {revocation.why.rstrip('.')}. It may be measured again from {again} on."


def _line(name: str, certificate: Certificate) -> str:
    from gridllm.node.standing import spell_time

    roles, until = ", ".join(certificate.roles), spell_time(certificate.expires)
    return f"{name}: to {roles} (model {certificate.model[:16]}…, {certificate.dtype}) until {until}"
