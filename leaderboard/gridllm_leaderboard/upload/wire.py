"""What crosses on an upload stream. The leaderboard asks, piece by piece; the author answers in the same order.

::

    author                                   leaderboard
    Begin (submission, delegation, sizes) →
                                           ← Want (manifest, offset) …
    Piece + bytes …                        →
                                           ← Plan (bytes in all, bytes that are here)
                                           ← Want (digest, offset) …, a window of them ahead
    Piece + bytes …                        →
                                           ← Whole, or at any time Declined; either ends the stream

Tensors and files go by the SHA-256 of their bytes as stored; the manifest by the model's root, which is its SHA-256.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gridllm.charter.fetch import MAX_MANIFEST_BYTES
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES
from gridllm.wire.messages import Message
from gridllm.wire.strict import read
from gridllm_leaderboard.messages import Key

PIECE_BYTES: Final = 256 * 1024  # of one answer; streams are fastest with 64 to 256 KB
MAX_FILES: Final = 64

FileSize = Annotated[int, Meta(ge=0, le=MAX_SMALL_FILE_BYTES)]
Bytes = Annotated[int, Meta(ge=0, lt=2**48)]


class Begin(Message, frozen=True, tag="begin"):
    """Author → leaderboard, the first frame: I bring the files of this submission."""

    submission: Key
    delegation: Annotated[bytes, Meta(max_length=8192)]  # ledger.statements.Delegation of the author to this peer
    manifest: Annotated[int, Meta(ge=1, le=MAX_MANIFEST_BYTES)]  # bytes
    files: Annotated[dict[Key, FileSize], Meta(max_length=MAX_FILES)]  # digest of each tokenizer file → bytes


class Plan(Message, frozen=True, tag="plan"):
    """Leaderboard → author: how much there is to do."""

    total: Bytes  # of weights and tokenizer files, each digest once
    here: Bytes  # of these: need not be sent


class Want(Message, frozen=True, tag="want"):
    """Leaderboard → author: the next piece of what has that digest; ``PIECE_BYTES`` of it, or what is left."""

    digest: Key
    offset: Bytes


class Piece(Message, frozen=True, tag="piece"):
    """Author → leaderboard: here it is, in the frame's body."""

    digest: Key
    offset: Bytes


class Whole(Message, frozen=True, tag="whole"):
    """Leaderboard → author: everything is here, checked by its digests and on disk."""


class Declined(Message, frozen=True, tag="declined"):
    """Either side: it does not go on, and why. The stream ends."""

    code: Annotated[str, Meta(max_length=32)]  # Refusal.code
    text: Annotated[str, Meta(max_length=1024)]  # one sentence for people


FromAuthor = Begin | Piece | Declined
FromLeaderboard = Plan | Want | Whole | Declined

_encoder = msgspec.msgpack.Encoder()
_from_author: msgspec.msgpack.Decoder[FromAuthor] = msgspec.msgpack.Decoder(FromAuthor)
_from_leaderboard: msgspec.msgpack.Decoder[FromLeaderboard] = msgspec.msgpack.Decoder(FromLeaderboard)


def encode(message: FromAuthor | FromLeaderboard) -> bytes:
    """Message → msgpack."""
    return _encoder.encode(message)


def from_author(header: bytes) -> FromAuthor:
    """msgpack → message, strictly. Raises WireError."""
    return read(_from_author, header, "A message on an upload")


def from_leaderboard(header: bytes) -> FromLeaderboard:
    """msgpack → message, strictly. Raises WireError."""
    return read(_from_leaderboard, header, "The leaderboard's word on an upload")
