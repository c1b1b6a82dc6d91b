"""What candidate and authority say to each other on one stream. docs/admission.md walks through them in order.

The authority leads: it asks, the candidate answers with exactly the message named beside the question, and the
authority's clock runs between the two. A frame is one message (msgpack, strict) and, for some, raw bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from gridllm.wire.strict import read

ADMISSION_STREAM: Final = "gridllm.admission"  # a stream of these messages
CERTIFY_CALL: Final = "gridllm.admission.certify"  # Certify → one signed envelope of the certificate
KNOCK_CALL: Final = "gridllm.admission.knock"  # dial-back: authority's second identity → candidate; answers the nonce
RECHECK_CALL: Final = "gridllm.admission.recheck"  # authority → serving node: come and be measured again
MAX_STEPS: Final = 1 << 20  # of one compute round or chase
MAX_SHOWN: Final = 64  # steps or pages opened at a time
MAX_KEPT_BYTES: Final = 512 * 1024**2  # of a chain's states, which a candidate keeps until they were shown
BULK_CHUNK_BYTES: Final = 256 * 1024  # of bulk data in one frame

Kind = Literal["decode", "batch", "prefill"]
"""decode: one session's next token; batch: the next token of eight; prefill: a prompt's tokens at once."""

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Meta(ge=0, le=2**50)]
Steps = Annotated[int, Meta(ge=1, le=MAX_STEPS)]
Index = Annotated[int, Meta(ge=0, lt=2**40)]
Text = Annotated[str, Meta(max_length=1024)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of all messages; the tag ``t`` is the lower-case class name."""


class Hello(Message, frozen=True, tag="hello"):
    """Candidate, first: who wants what. Answered by Queued or Begin, or Refused."""

    grid: Hex64
    model: Hex64  # root of the model to be served
    dtype: Annotated[str, Meta(max_length=16)]  # to be served in
    roles: Annotated[list[Annotated[str, Meta(max_length=16)]], Meta(min_length=1, max_length=3)]
    version: Annotated[str, Meta(max_length=32)]  # of gridllm
    device: Annotated[str, Meta(max_length=64)]  # for the log
    memory_bytes: Size  # it says it can hold at once for weights and caches
    disk_bytes: Size  # free
    upload_mbit_s: Annotated[float, Meta(ge=0, le=1e6)]  # it claims; 0: no claim
    download_mbit_s: Annotated[float, Meta(ge=0, le=1e6)]
    addresses: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=8)]  # to dial back
    clock_s: Annotated[float, Meta(ge=0, le=1e11)]  # Unix time here
    certificate: Annotated[bytes, Meta(max_length=4096)] = b""  # renewal: the one that runs out; b"": first admission


class Queued(Message, frozen=True, tag="queued"):
    """Authority, when others are before this one, at each change of place and every few seconds. Not answered."""

    place: Annotated[int, Meta(ge=1, le=2**20)]  # 1: next
    waiting: Annotated[int, Meta(ge=1, le=2**20)]  # in all


class Begin(Message, frozen=True, tag="begin"):
    """Authority: the measuring starts. → Started."""

    nonce: Bytes32  # with grid, authority and peer it makes the seed (seeds.challenge_seed)
    authority: Hex64  # the maintainer's key
    stages: Annotated[list[Annotated[str, Meta(max_length=16)]], Meta(max_length=16)]  # network, memory, decode, …
    clock_s: Annotated[float, Meta(ge=0, le=1e11)]  # the authority's Unix time


class Started(Message, frozen=True, tag="started"):
    """Candidate: ready."""


class Stage(Message, frozen=True, tag="stage"):
    """Authority: what is measured from now on, for a progress bar. Not answered."""

    name: Annotated[str, Meta(max_length=16)]
    done: Annotated[float, Meta(ge=0, le=1)]  # of the whole examination


class Echo(Message, frozen=True, tag="echo"):
    """Either side: answered by the same."""

    nonce: Index


class Send(Message, frozen=True, tag="send"):
    """Authority: send me that many bytes. → Chunks, the last of them marked."""

    nbytes: Size
    nonce: Bytes32 = bytes(32)  # fresh, and with the challenge's seed that of the bytes: none can be sent before


class Chunk(Message, frozen=True, tag="chunk"):
    """Bulk data; body: at most ``BULK_CHUNK_BYTES``."""

    last: bool = False


class Received(Message, frozen=True, tag="received"):
    """Candidate: SHA-256 over the bodies of the Chunks that came, up to the last one."""

    digest: Bytes32


class Fill(Message, frozen=True, tag="fill"):
    """Authority: fill so much memory from the seed (memory.py) and hold it until the end. → Filled."""

    nbytes: Size


class Filled(Message, frozen=True, tag="filled"):
    """Candidate: Merkle root over the pages' chunks."""

    root: Bytes32


class Chase(Message, frozen=True, tag="chase"):
    """Authority: follow a path through all of the memory, each step where the last one's word says. → Chased."""

    nonce: Bytes32
    steps: Steps


class Chased(Message, frozen=True, tag="chased"):
    """Candidate. Body: the state at every checkpoint, 8 bytes each, little-endian."""


class ShowPages(Message, frozen=True, tag="showpages"):
    """Authority: open these pages (and what each was made from) and these checkpoint segments of the last chase.

    → Chunks, the last of them marked; together one msgpack document of memory.py.
    """

    pages: Annotated[list[Index], Meta(max_length=MAX_SHOWN)]
    segments: Annotated[list[Index], Meta(max_length=MAX_SHOWN)]


class Compute(Message, frozen=True, tag="compute"):
    """Authority: run a chain of so many steps through the seeded blocks (chain.py). → Committed."""

    kind: Kind
    round: Annotated[int, Meta(ge=0, le=1000)]  # part of the chain's seed: no round's work fits another
    nonce: Bytes32  # fresh, and part of it, too: no round can be computed before it is asked for
    steps: Steps


class Committed(Message, frozen=True, tag="committed"):
    """Candidate: Merkle root over the states 0 … steps."""

    root: Bytes32


class ShowLinks(Message, frozen=True, tag="showlinks"):
    """Authority: open these links (state i and i + 1) of the last chain. → Chunks, as for ShowPages."""

    links: Annotated[list[Index], Meta(max_length=MAX_SHOWN)]


class Verdict(Message, frozen=True, tag="verdict"):
    """Authority, last: the outcome. The candidate closes the stream."""

    admitted: bool  # some role's minimums are reached, and nothing was found false
    reason: Annotated[str, Meta(max_length=32)]  # "" or a word of judge.Reason: work_invented, memory_not_held, …
    text: Text  # one sentence for people
    figures: Annotated[bytes, Meta(max_length=4096)]  # figures.Figures as JSON, as far as measured
    measurement: Annotated[bytes, Meta(max_length=16384)]  # signed (certificate.Measurement); b"" when not admitted


class Refused(Message, frozen=True, tag="refused"):
    """Either side, last: this conversation cannot go on."""

    code: Annotated[str, Meta(max_length=32)]  # Refusal.code
    text: Text


class Certify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Request of ``CERTIFY_CALL``: enough measurements, and (afterwards, on renewal) nothing else."""

    measurements: Annotated[
        list[Annotated[bytes, Meta(max_length=16384)]], Meta(min_length=1, max_length=16)
    ]  # signed, of different authorities


AnyMessage = (
    Hello
    | Queued
    | Begin
    | Started
    | Stage
    | Echo
    | Send
    | Chunk
    | Received
    | Fill
    | Filled
    | Chase
    | Chased
    | ShowPages
    | Compute
    | Committed
    | ShowLinks
    | Verdict
    | Refused
)

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_certify = msgspec.msgpack.Decoder(Certify)


def encode(message: Message | Certify) -> bytes:
    """Message → msgpack bytes."""
    return _encoder.encode(message)


def decode(raw: bytes) -> AnyMessage:
    """Msgpack bytes → message, strictly.

    Raises:
        WireError: not msgpack, an unknown tag or field, or a value outside its bounds.
    """
    return read(_decoder, raw, "An admission message")


def decode_certify(raw: bytes) -> Certify:
    """The request of ``CERTIFY_CALL``.

    Raises:
        WireError: it does not parse.
    """
    return read(_certify, raw, "An admission message")
