"""What signed statements are made of: a strict model, and the fields that many of them hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

HexDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hex: a grid's id, a model's root."""

Peer = Annotated[str, Field(min_length=8, max_length=128)]
"""A libp2p peer id, spelled."""

HexKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A 32-byte Ed25519 public key in lower-case hex; also the key id of its signatures, and a ledger account."""

UnixSeconds = Annotated[int, Field(ge=0, le=10**11)]


class Strict(BaseModel):
    """Takes exactly its fields, each of exactly its type: what strangers sent is never bent into shape."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
