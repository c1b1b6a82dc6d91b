"""The announcement of a member that serves no blocks but helps: a relay, or a seed that hands out weights."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gridllm.ids import ModelRoot, PeerId
from gridllm.wire.record import MAX_RECORD_BYTES
from gridllm.wire.strict import capped, read

HelperRole = Literal["relay", "seed"]
Root = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class HelperRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One helper's entry in the directory. Signed by its key, owner-bound, expires unless refreshed."""

    peer: PeerId  # must equal the peer the record is signed by; readers check
    role: HelperRole  # a seed relays, too
    models: Annotated[list[Root], Meta(max_length=16)]  # roots of the models whose weights it hands out
    addresses: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=8)]  # multiaddrs to dial
    version: Annotated[str, Meta(max_length=32)]  # gridllm version it runs
    since: Annotated[float, Meta(ge=0, le=1e11)]  # Unix time it began to help, seconds
    certificate: Annotated[bytes, Meta(max_length=4096)] = b""  # admits it to its role; b"" in an open grid

    def seeds(self, root: ModelRoot) -> bool:
        """Whether it hands out the weights of that model."""
        return self.role == "seed" and root in self.models


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(HelperRecord)


def encode_helper(record: HelperRecord) -> bytes:
    """Record → msgpack bytes, at most ``MAX_RECORD_BYTES``.

    Raises:
        WireError: the record is larger than the directory accepts.
    """
    return capped(_encoder.encode(record), MAX_RECORD_BYTES, "A helper's record")


def decode_helper(raw: bytes) -> HelperRecord:
    """Msgpack bytes → record, strictly.

    Raises:
        WireError: oversized, not a record, or a value outside its bounds.
    """
    return read(_decoder, capped(raw, MAX_RECORD_BYTES, "A helper's record"), "A helper's record")
