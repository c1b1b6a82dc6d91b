"""What the auditor keeps beside the pinned charter: manifests, the heads seen last, evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gridllm.admission.manifests import Manifests
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import SignedCharter
from gridllm.charter.news import hear_news
from gridllm.charter.pin import Pins
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import LedgerError, ModelError
from gridllm.ledger.log.heads import verify_head

if TYPE_CHECKING:
    from gridllm.swarm.interface import Swarm

MAX_FILE_BYTES: Final = 256 * 1024


async def manifests_of(signed: SignedCharter, pins: Pins, swarm: Swarm) -> Manifests:
    """Those of the charter's models, as kept from before, else from whoever has them; others can be found by root.

    Raises:
        ModelError: nobody has one of the charter's.
    """
    board = NoticeBoard(signed, pins.notices_path(signed))
    await hear_news(swarm, board, pins.peers(signed))
    known = Manifests(signed, board, pins)
    for entry in signed.charter.models:
        if not await known.find(swarm, entry.root):
            raise ModelError(
                f"No peer could send the manifest of {entry.name!r}; try again when the first peer or a node is up."
            )
    return known


def unlisted(known: Manifests, signed: SignedCharter, pins: Pins) -> list[str]:
    """Roots of models that entries named, and that neither charter nor board names."""
    names = Catalogue(signed, NoticeBoard(signed, pins.notices_path(signed))).names
    return sorted(known.models.keys() - names.keys())


def always_admitted(signed: SignedCharter, pins: Pins) -> bool:
    """Whether admission was asked of all nodes since founding, as far as the notices that are kept here tell.

    Of amendments only the latest is kept: what held before a second one is not known, and nobody is blamed for it.
    """
    asked = signed.charter.admission.required
    if not asked or signed.grid not in {one.grid for one in pins.all()}:
        return asked
    amendment = NoticeBoard(signed, pins.notices_path(signed)).amendment
    return amendment is None or (amendment.serial == 1 and amendment.admission.required)


class SeenHeads:
    """The newest head of each log that an audit here found sound: what comes later must continue it."""

    def __init__(self, signed: SignedCharter, pins: Pins) -> None:
        self._signed = signed
        self._path = pins.notices_path(signed).with_name("ledger_heads.json")

    def load(self) -> dict[str, bytes]:
        """By keeper. A damaged file counts as none."""
        try:
            stored = json.loads(self._path.read_bytes()[:MAX_FILE_BYTES])
            raws = [str(raw).encode() for raw in stored["heads"]]
            return {verify_head(raw, self._signed).keeper: raw for raw in raws}
        except (OSError, ValueError, KeyError, TypeError, LedgerError):
            return {}

    def save(self, heads: Mapping[str, bytes]) -> None:
        """Keep them; those of other keepers stay.

        Raises:
            LedgerError: the folder cannot be written.
        """
        raws = [raw.decode("ascii") for raw in (self.load() | dict(heads)).values()]
        try:
            make_private_dir(self._path.parent)
            write_atomically(self._path, json.dumps({"heads": raws}).encode())
        except OSError as error:
            raise LedgerError(f"The heads seen cannot be kept in {self._path} ({error.strerror}).") from error


def keep_evidence(fault: Exception, signed: SignedCharter, pins: Pins) -> Path | None:
    """Where evidence against a keeper was written; None: there is none, or it cannot be kept."""
    evidence, keeper = getattr(fault, "evidence", b""), getattr(fault, "keeper", "")
    if not evidence:
        return None
    path = pins.notices_path(signed).with_name(f"evidence-{keeper[:16]}.json")
    try:
        make_private_dir(path.parent)
        write_atomically(path, evidence)
    except OSError:
        return None
    return path
