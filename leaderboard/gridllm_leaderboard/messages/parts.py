"""What all messages are made of, and how they are packed."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from gridllm.errors import WireError
from gridllm.wire.strict import UNPARSABLE

MAX_PAGE: Final = 1000
PIECE_BYTES: Final = 512 * 1024

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Envelope = Annotated[bytes, Meta(max_length=64 * 1024)]
Amount = Annotated[int, Meta(ge=0, lt=2**62)]  # micro-credits
Text = Annotated[str, Meta(max_length=1024)]
When = Annotated[int, Meta(ge=0, le=10**11)]  # Unix time, seconds
Offset = Annotated[int, Meta(ge=0, lt=2**40)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]

State = Literal["uploading", "checking", "unpaid", "queued", "locked", "graded", "failed", "refused", "withdrawn"]
"""uploading: files are lacking; checking: they are looked at; unpaid: the fee is due; queued: waits for a round;
locked: is graded now; graded: has a place; failed: no grader could run it; refused: the check found what is not taken;
withdrawn: taken down."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all have in common."""


_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Message → msgpack."""
    return _encoder.encode(message)


def unpack(raw: bytes, kind: type[M]) -> M:
    """msgpack → message, strictly. Raises WireError."""
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except UNPARSABLE as error:
        raise WireError(f"A message about the leaderboard does not parse: {error}.") from error
