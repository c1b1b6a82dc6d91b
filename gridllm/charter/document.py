"""The charter: what a grid is, signed by its own maintainers. Its digest is the grid's id.

The charter proves itself: it names its maintainers' keys and must be signed by their threshold. So a charter cannot be
altered, but anyone can found a grid; which grid is meant is settled by the id, pinned when joining.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from gridllm.charter.address import split_address
from gridllm.charter.economy import Economy
from gridllm.charter.minimums import Admission
from gridllm.errors import AddressError, CharterError, StatementError
from gridllm.identity.fields import HexDigest, HexKey, Strict
from gridllm.identity.keys import Identity
from gridllm.identity.statement import read_unverified, sign_statement, verify_statement
from gridllm.ids import GridId, ModelRoot

CHARTER_TYPE: Final = "application/vnd.gridllm.charter+json"
NAME_PATTERN: Final = r"^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?$"  # also a safe file name

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class ModelEntry(Strict):
    """One model the grid serves."""

    name: Name  # what people type after --model
    root: HexDigest  # ModelRoot: peers with another never serve in one chain
    source: Annotated[str, Field(min_length=1, max_length=200)]  # Hub id, "demo" (ships with GridLLM) or "local"
    revision: Annotated[str, Field(max_length=64)] | None = None  # Hub commit, when the source is a Hub id
    blocks: Annotated[int, Field(ge=1, le=4096)]  # transformer blocks in the whole model
    parameters: Annotated[int, Field(ge=1)]  # in the whole model
    hidden_size: Annotated[int, Field(ge=1, le=2**20)]  # width of what travels between nodes
    dtype: Literal["float32", "bfloat16", "float16"]  # of weights and hidden states, the same on every node

    @property
    def model_root(self) -> ModelRoot:
        """``root`` with its own type."""
        return ModelRoot(self.root)


class Charter(Strict):
    """What the maintainers sign. Every field is public and fixed: a change makes another grid."""

    name: Name  # for people; the id is what tells grids apart
    maintainers: Annotated[list[HexKey], Field(min_length=1, max_length=16)]  # Ed25519 public keys
    threshold: Annotated[int, Field(ge=1, le=16)]  # how many maintainers must sign
    first_peers: Annotated[list[str], Field(max_length=32)]  # multiaddrs a newcomer dials first
    models: Annotated[list[ModelEntry], Field(min_length=1, max_length=64)]
    created: Annotated[str, Field(max_length=32)]  # ISO 8601 with time zone
    admission: Admission = Admission()  # as founded; later changes travel as notices (notices.py)
    economy: Economy = Economy()  # what credit costs and opens

    @field_validator("created")
    @classmethod
    def _created_has_a_zone(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("needs a time zone")
        return value

    @field_validator("first_peers")
    @classmethod
    def _first_peers_can_be_dialled(cls, value: list[str]) -> list[str]:
        for address in value:
            try:
                split_address(address)
            except AddressError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.maintainers)) != len(self.maintainers):
            raise ValueError("a maintainer is listed twice")
        if self.threshold > len(self.maintainers):
            raise ValueError(f"threshold {self.threshold} exceeds {len(self.maintainers)} maintainers")
        if len({entry.name for entry in self.models}) != len(self.models):
            raise ValueError("two models have one name")
        if strangers := set(self.economy.keepers) - set(self.maintainers):
            raise ValueError(f"the keeper {min(strangers)} is no maintainer")
        if unknown := {tier.model for tier in self.economy.tiers} - {entry.root for entry in self.models}:
            raise ValueError(f"a tier names the model {min(unknown)}, which the grid does not serve")
        return self

    @property
    def keepers(self) -> list[str]:
        """Public keys of the maintainers that keep the books."""
        return list(self.economy.keepers) or self.maintainers

    def model(self, name: str | None = None) -> ModelEntry:
        """The entry called ``name`` (or of that root); without a name, the first.

        Raises:
            CharterError: the grid serves no such model.
        """
        for entry in self.models:
            if name is None or name in (entry.name, entry.root):
                return entry
        known = ", ".join(entry.name for entry in self.models)
        raise CharterError(f"The grid {self.name!r} serves no model {name!r}; it serves: {known}.")


@dataclass(frozen=True, slots=True)
class SignedCharter:
    """A charter whose signatures were verified."""

    charter: Charter
    grid: GridId
    raw: bytes  # the DSSE envelope, as it is passed on


def grid_id(payload: bytes) -> GridId:
    """The grid's id: hex SHA-256 of the charter's exact signed bytes."""
    return GridId(hashlib.sha256(payload).hexdigest())


def sign_charter(charter: Charter, identities: Iterable[Identity]) -> SignedCharter:
    """Sign with the maintainers' keys.

    Raises:
        CharterError: the identities do not meet the charter's own threshold.
    """
    return verify_charter(sign_statement(charter, CHARTER_TYPE, identities))


def verify_charter(raw: bytes) -> SignedCharter:
    """The charter in ``raw``, once its own maintainers' threshold is known to have signed it.

    Raises:
        CharterError: not a charter, or forged.
    """
    try:
        claimed, payload = read_unverified(raw, Charter, CHARTER_TYPE)
    except StatementError as error:
        raise CharterError(f"This is not a charter: {error}") from error
    keys = [bytes.fromhex(key) for key in claimed.maintainers]
    try:
        charter = verify_statement(raw, Charter, CHARTER_TYPE, keys, claimed.threshold)
    except StatementError as error:
        raise CharterError(
            f"The charter of {claimed.name!r} is forged: it lacks valid signatures by {claimed.threshold} of its "
            f"{len(keys)} maintainers. Ask whoever gave you the address for another one."
        ) from error
    return SignedCharter(charter, grid_id(payload), raw)
