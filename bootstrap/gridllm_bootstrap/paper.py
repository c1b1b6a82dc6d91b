"""A statement on its way from maintainer to maintainer, as a file: it gathers signatures until the threshold is met.

The file of a charter holds the manifests of its models, too. They are named by their digests in the charter, so that
whoever has the file has all that a first peer needs, and nobody needs to be trusted for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from gridllm.charter.document import CHARTER_TYPE, Charter, SignedCharter, grid_id
from gridllm.charter.notices import KINDS, Notice
from gridllm.disk import write_atomically
from gridllm.errors import StatementError, UsageError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import add_signature, read_unverified, type_of, verify_statement
from gridllm.ids import ModelRoot
from gridllm.ledger.statements import GRANT_TYPE, Grant

MAX_FILE_BYTES: Final = 512 * 1024 * 1024

Content = Charter | Notice | Grant

_KINDS: Final[Mapping[str, type[Content]]] = {
    CHARTER_TYPE: Charter,
    GRANT_TYPE: Grant,
    **KINDS,
}


@dataclass(frozen=True, slots=True)
class Paper:
    """What is to be signed, and by whom it is signed already."""

    raw: bytes  # DSSE envelope
    content: Content
    manifests: Mapping[ModelRoot, bytes] = field(default_factory=dict)  # of a charter's models

    @property
    def content_digest(self) -> str:
        """Hex SHA-256 of what it says."""
        return hashlib.sha256(self.content.model_dump_json().encode("utf-8")).hexdigest()

    @property
    def unsigned(self) -> SignedCharter:
        """A charter as if enough had signed it: to be shown only.

        Raises:
            UsageError: this is no charter.
        """
        if not isinstance(self.content, Charter):
            raise UsageError("This file holds a notice, not a charter.")
        _, payload = read_unverified(self.raw, Charter, CHARTER_TYPE)
        return SignedCharter(self.content, grid_id(payload), self.raw)

    def signers(self, keys: Sequence[str]) -> list[str]:
        """Those of ``keys`` (hex) whose signature is valid."""
        kind = type_of(self.raw)
        model: type[BaseModel] = _KINDS[kind]
        valid = []
        for key in keys:
            try:
                verify_statement(self.raw, model, kind, [bytes.fromhex(key)], 1)
            except StatementError:
                continue
            valid.append(key)
        return valid

    def signed_by(self, maintainer: Identity) -> Paper:
        """The same with one signature more."""
        return replace(self, raw=add_signature(self.raw, maintainer))


def paper_of(raw: bytes, manifests: Mapping[ModelRoot, bytes] | None = None) -> Paper:
    """A paper from a statement.

    Raises:
        StatementError: malformed, or nothing that maintainers sign together.
    """
    kind = type_of(raw)
    if kind not in _KINDS:
        raise StatementError(f"A statement of type {kind!r} is not for maintainers to sign together.")
    content, _ = read_unverified(raw, _KINDS[kind], kind)
    return Paper(raw, content, manifests or {})


def read_paper(path: Path) -> Paper:
    """The paper in a file.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is too large to be a charter or notice; check the path.")
        stored = json.loads(path.read_bytes())
        manifests = {str(root): str(text).encode("utf-8") for root, text in stored["manifests"].items()}
        paper = paper_of(str(stored["statement"]).encode("utf-8"), _checked(path, manifests))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, KeyError, TypeError, AttributeError, StatementError) as error:
        raise UsageError(
            f"{path} holds no charter or notice to be signed ({str(error)[:200]}); use the file that gridllm bootstrap "
            "init, minimums or revoke wrote."
        ) from error
    return paper


def write_paper(path: Path, paper: Paper) -> None:
    """Keep the paper in a file.

    Raises:
        UsageError: it cannot be written.
    """
    document = {
        "statement": paper.raw.decode("ascii"),
        "manifests": {root: raw.decode("utf-8") for root, raw in paper.manifests.items()},
    }
    try:
        write_atomically(path, json.dumps(document, indent=1).encode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); copy it to a folder of yours first.") from error


def _checked(path: Path, manifests: Mapping[str, bytes]) -> dict[ModelRoot, bytes]:
    for root, raw in manifests.items():
        if hashlib.sha256(raw).hexdigest() != root:
            raise UsageError(f"In {path} the manifest of the model {root[:16]}… was altered; ask for the file again.")
    return {ModelRoot(root): raw for root, raw in manifests.items()}
