"""A node's announcement: what it serves, how well, and where to reach it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gridllm.errors import WireError
from gridllm.ids import ModelRoot, PeerId
from gridllm.wire.strict import capped, read

MAX_RECORD_BYTES: Final = 8 * 1024

State = Literal["joining", "serving", "draining"]


class NodeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node's entry in the directory. Signed by the node's key, owner-bound, expires unless refreshed."""

    peer: PeerId  # must equal the peer the record is signed by; readers check
    version: Annotated[str, Meta(max_length=32)]  # gridllm version the node runs
    model: ModelRoot  # root of the model it serves
    start: Annotated[int, Meta(ge=0, le=4096)]  # first block served
    end: Annotated[int, Meta(ge=0, le=4096)]  # one past the last
    state: State  # joining: loading; serving: takes sessions; draining: finishes what it has
    dtype: Annotated[str, Meta(max_length=16)]  # of weights and hidden states: float32 | bfloat16 | float16
    quantization: Annotated[str, Meta(max_length=16)] = "none"  # how weights are stored
    blocks_per_s: Annotated[float, Meta(ge=0, le=1e9)]  # measured: one token through one block, batch 1, per second
    free_tokens: Annotated[int, Meta(ge=0)]  # room left in the KV cache
    total_tokens: Annotated[int, Meta(ge=0)]  # size of the KV cache
    next_hop_ms: Annotated[
        dict[Annotated[str, Meta(max_length=128)], Annotated[float, Meta(ge=0, le=1e9)]], Meta(max_length=64)
    ]  # measured round trip to peers that continue the chain
    addresses: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=16)]  # multiaddrs to dial
    since: Annotated[float, Meta(ge=0, le=1e11)]  # Unix time the node started serving, seconds
    certificate: Annotated[bytes, Meta(max_length=4096)] = (
        b""  # admission certificate (DSSE, gridllm.admission.certificate); readers verify it; b"" in an open grid
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NodeRecord)


def encode_record(record: NodeRecord) -> bytes:
    """Record → msgpack bytes, at most ``MAX_RECORD_BYTES``.

    Raises:
        WireError: the record is larger than the directory accepts.
    """
    return capped(_encoder.encode(record), MAX_RECORD_BYTES, "A node record")


def decode_record(raw: bytes) -> NodeRecord:
    """Msgpack bytes → record, strictly.

    Raises:
        WireError: oversized, not a record, a value outside its bounds, or an empty span.
    """
    record = read(_decoder, capped(raw, MAX_RECORD_BYTES, "A node record"), "A node record")
    if record.start >= record.end:
        raise WireError(f"A node record names an empty span {record.start}:{record.end}.")
    return record
