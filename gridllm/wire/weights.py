"""What crosses between a seed and whoever fetches a model's weights from it: a stream of questions and pieces.

The reader asks for pieces, several at a time; the seed answers in the same order, each time with ``Piece`` (the bytes
are the frame's body) or ``Declined``. The reader closes.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gridllm.wire.messages import Message
from gridllm.wire.strict import read

WEIGHTS_STREAM: Final = "gridllm.weights"
PIECE_BYTES: Final = 256 * 1024  # of one answer; streams are fastest with 64 to 256 KB


class Want(Message, frozen=True, tag="want"):
    """Reader → seed: the next piece of one tensor's bytes as stored, or of one tokenizer file."""

    root: Annotated[str, Meta(min_length=64, max_length=64)]  # of the model; the seed refuses one it does not hold
    name: Annotated[str, Meta(min_length=1, max_length=512)]  # of the tensor or file, as the manifest has it
    offset: Annotated[int, Meta(ge=0, lt=2**48)]  # bytes before the piece
    file: bool = False  # a tokenizer file, not a tensor


class Piece(Message, frozen=True, tag="piece"):
    """Seed → reader: up to ``PIECE_BYTES`` from the offset asked for; shorter only at the end."""

    size: Annotated[int, Meta(ge=0, lt=2**48)]  # bytes of the whole tensor or file


class Declined(Message, frozen=True, tag="declined"):
    """Seed → reader: no piece, and why. The stream goes on."""

    code: Annotated[str, Meta(max_length=32)]  # Refusal.code
    text: Annotated[str, Meta(max_length=1024)]  # one sentence for people


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Want)
_answers: msgspec.msgpack.Decoder[Piece | Declined] = msgspec.msgpack.Decoder(Piece | Declined)


def encode(message: Want | Piece | Declined) -> bytes:
    """Message → msgpack bytes."""
    return _encoder.encode(message)


def decode_want(header: bytes) -> Want:
    """Raises WireError: not a question for a piece."""
    return read(_questions, header, "A question for weights")


def decode_answer(header: bytes) -> Piece | Declined:
    """Raises WireError: neither a piece nor a refusal."""
    return read(_answers, header, "A seed's answer")
