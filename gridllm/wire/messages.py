"""The data plane's messages. A frame is one of these (msgpack, strict) and, for some, raw tensor bytes.

A client keeps one link (a long-lived stream) to each node of its chain; a node keeps one link to each node it pushes
to. Every link carries many sessions. docs/protocol.md tells the order of messages and what each side checks.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gridllm.wire.strict import read

MAX_ROWS: Final = 64  # rows (prompts × beams) in one session
MAX_HEADER_BYTES: Final = 64 * 1024  # msgpack part of a frame
MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # tensor part of a frame; senders cut longer prompts into chunks

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Row = Annotated[int, Meta(ge=0, lt=MAX_ROWS)]
Sid = Annotated[bytes, Meta(min_length=16, max_length=16)]
Peer = Annotated[str, Meta(min_length=8, max_length=128)]
Text = Annotated[str, Meta(max_length=1024)]
Certificate = Annotated[bytes, Meta(max_length=4096)]  # admission certificate (DSSE); b"" in a grid that asks for none
Document = Annotated[bytes, Meta(max_length=4096)]  # a signed statement of the ledger (DSSE)
Total = Annotated[int, Meta(ge=0, lt=2**62)]  # tokens of a session, or micro-credits


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of all messages; the tag ``t`` is the lower-case class name."""


class Hop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a node pushes its output."""

    peer: Peer  # authenticated by the libp2p handshake when the link opens
    addresses: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=16)]  # multiaddrs to dial
    certificate: Certificate = b""  # of ``peer``, from its record; the node verifies it before it pushes there


class Payment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who pays for a session, and with what. Signed statements of ``gridllm.ledger``; the node verifies each.

    What is as by default is not written: nodes of before ``pays`` take all that does not need it.
    """

    delegation: Document  # the account lets this connection act for it
    access: Document  # Pass: what the account may use
    escrow: Document = b""  # set aside for this node in this session; b"": nothing is
    pays: bool = False  # vouchers will come, though nothing is set aside: the account's keeper is silent


class Open(Message, frozen=True, tag="open"):
    """Client → node: start a session on blocks [start, end). Answered by Ready or Refused with the same ``call``."""

    call: Count  # client's number for this request on this link
    session: Sid  # chosen at random by the client
    model: Annotated[str, Meta(min_length=64, max_length=64)]  # model root; the node refuses another
    dtype: Annotated[str, Meta(max_length=16)]  # of hidden states and weights: float32 | bfloat16 | float16
    start: Count  # first block, as numbered in the whole model
    end: Count  # one past the last block
    rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)]  # sequences that advance together (batch × beams)
    epoch: Count  # number of this shape of the chain; each repair raises it
    upstream: Peer  # steps are accepted from this peer alone: the client itself for the first hop
    next: Hop | None  # where outputs go; None: back to the client on this link
    need: list[Count]  # per row: outputs before this position are computed but not passed on (they exist downstream)
    tokens: Count = 0  # the client's guess of tokens per row; the node refuses early when it cannot hold them
    upstream_certificate: Certificate = b""  # of ``upstream``, unless that is the client; the node verifies it
    payment: Payment | None = None  # None: the client has no account, or the grid keeps no books


class Resume(Message, frozen=True, tag="resume"):
    """Client → node: the chain around a living session changed. Answered by Ready or Refused.

    The node finishes queued work of the session without passing its results on, takes over the fields, cuts its rows to
    ``valid`` unless it has taken step ``step`` in, passes on again from its replay buffer every position from ``need``
    on, and reports how far its own cache reaches. A node that lacks the buffer for that cuts those rows to length 0 and
    reports 0, so that its upstream replays them through it. From then on each row is a prefix of the client's.
    """

    call: Count
    session: Sid
    epoch: Count  # steps of older epochs are dropped from now on
    upstream: Peer
    next: Hop | None
    need: list[Count]
    step: Count = 0  # number of the client's latest call
    valid: list[Count] = []  # per row: what of it that call leaves in place (0 where it continues from another row)
    upstream_certificate: Certificate = b""  # as in Open


class Ready(Message, frozen=True, tag="ready"):
    """Node → client: the session stands."""

    call: Count
    session: Sid
    lengths: list[Count]  # per row: tokens in this node's cache
    step: Count  # number of the last step this node took in; 0 before the first
    free_tokens: Count  # room left in the node's KV cache, all sessions together
    prefill: Total = 0  # tokens metered in this session so far (gridllm.ledger.metering); 0 where nothing is
    decode: Total = 0


class Refused(Message, frozen=True, tag="refused"):
    """Node → client: an Open, Resume or step was declined; the session's state is as before unless ``fatal``."""

    call: Count | None  # of the Open or Resume; None when a step is meant
    session: Sid | None
    code: Annotated[str, Meta(max_length=32)]  # Refusal.code
    message: Text  # one sentence for people
    peer: Peer | None = None  # the neighbour at fault, when the node blames one (next_hop_lost, not_admitted)


class RowSlice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a step does to one row: cut to ``position``, append ``tokens``."""

    row: Row
    source: Row  # the cache row to continue from; differs from ``row`` when beams are reordered
    position: Count  # tokens of ``source`` kept before appending
    tokens: Annotated[int, Meta(ge=1, le=2**20)]  # tokens appended; the body holds them in row order
    keep: Count  # how many trailing positions return to the client; 0: none of them


class Step(Message, frozen=True, tag="step"):
    """Client → node or node → node: advance rows. Body: hidden states [sum(tokens), hidden_size], C order.

    All ``source`` rows are read before any row is written, so rows may swap. Each row occurs at most once. The first
    frame of a call is of at most 128 tokens when it is one of several, and holds every row that the call cuts or
    continues from another one.
    """

    session: Sid
    epoch: Count
    step: Count  # number of the client's forward call; chunks of a long prompt share it
    rows: Annotated[list[RowSlice], Meta(min_length=1, max_length=MAX_ROWS)]
    replay: bool = False  # resent after a repair: the tail returns every position from its ``need`` on


class Output(Message, frozen=True, tag="output"):
    """Tail → client: hidden states after the last block. Body: [sum(tokens), hidden_size], C order."""

    session: Sid
    epoch: Count
    step: Count
    rows: Annotated[list[RowSlice], Meta(min_length=1, max_length=MAX_ROWS)]  # keep == tokens


class Ack(Message, frozen=True, tag="ack"):
    """Node → client, about once a second while a session is active: what was served since the last Ack."""

    session: Sid
    tokens: Count  # tokens taken through the span
    passes: Count  # forward passes they took part in
    compute_us: Count  # share of the engine's time, microseconds
    queued_us: Count  # time steps waited for the engine, microseconds


class Pay(Message, frozen=True, tag="pay"):
    """Client → node: a higher voucher, a raised escrow, a fresh pass; what is empty stays as it is. Not answered,
    unless the node refuses it."""

    session: Sid
    voucher: Document = b""
    escrow: Document = b""
    access: Document = b""


class Owing(Message, frozen=True, tag="owing"):
    """Node → client: the session is paused until a voucher for at least ``micro`` comes."""

    session: Sid
    prefill: Total  # tokens the node metered so far
    decode: Total
    micro: Total  # micro-credits that let the session go on
    text: Text  # one sentence for people


class Close(Message, frozen=True, tag="close"):
    """Client → node: free the session's cache. Not answered."""

    session: Sid


class Leaving(Message, frozen=True, tag="leaving"):
    """Node → client: this node drains; move the session to another within ``grace_s``."""

    grace_s: Count  # seconds until the node stops


class Ping(Message, frozen=True, tag="ping"):
    """Opener of a link → other side, every heartbeat. Answered by Pong."""

    nonce: Count


class Pong(Message, frozen=True, tag="pong"):
    """Answer to Ping; also the proof that the other side's event loop is alive."""

    nonce: Count


AnyMessage = Open | Resume | Ready | Refused | Step | Output | Ack | Pay | Owing | Close | Leaving | Ping | Pong

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Message → msgpack header bytes."""
    return _encoder.encode(message)


def decode(header: bytes) -> AnyMessage:
    """Msgpack header bytes → message, checked against the types above.

    Raises:
        WireError: not msgpack, an unknown tag or field, or a value outside its bounds.
    """
    return read(_decoder, header, "A message from a peer")
