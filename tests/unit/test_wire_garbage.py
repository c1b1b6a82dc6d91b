"""Whatever a stranger sends, the wire's decoders answer with WireError or with a valid value."""

from __future__ import annotations

import contextlib
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import WireError
from gridllm.ids import ModelRoot, PeerId
from gridllm.wire.messages import Hop, Open, Ping, Refused, RowSlice, Step, decode, encode
from gridllm.wire.record import NodeRecord, decode_record, encode_record

SOUND = [
    encode(Ping(1)),
    encode(Refused(1, b"s" * 16, "full", "No room.", "12D3KooWsomebody")),
    encode(Step(b"s" * 16, 1, 2, [RowSlice(0, 0, 0, 1, 1)])),
    encode(Open(1, b"s" * 16, "a" * 64, "float32", 0, 4, 1, 0, "12D3KooWx", Hop("12D3KooWy", ["/ip4/1.2.3.4"]), [0])),
]


@given(st.binary(max_size=300))
def test_random_bytes(raw: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(raw)
    with contextlib.suppress(WireError):
        decode_record(raw)


@given(sound=st.sampled_from(SOUND), position=st.integers(0, 10_000), patch=st.binary(min_size=1, max_size=4))
def test_damaged_messages(sound: bytes, position: int, patch: bytes) -> None:
    raw = bytearray(sound)
    start = position % len(raw)
    raw[start : start + len(patch)] = patch
    with contextlib.suppress(WireError):
        decode(bytes(raw))


def test_text_that_is_no_utf8() -> None:
    with pytest.raises(WireError, match="utf-8"):
        decode(encode(Refused(None, None, "full", "hey")).replace(b"hey", b"\xff\x80y"))


def test_deep_nesting() -> None:
    with pytest.raises(WireError):
        decode(b"\x91" * 60_000 + b"\x00")


@pytest.mark.parametrize(
    "fields",
    [
        {"next_hop_ms": {"a": -1.0}},  # a negative leg would send every route that way
        {"next_hop_ms": {"a": math.nan}},
        {"blocks_per_s": math.inf},
        {"since": math.nan},
        {"end": 0},
        {"extra": 1},
    ],
)
def test_numbers_that_would_mislead_the_planner(fields: dict[str, object]) -> None:
    sound = NodeRecord(
        peer=PeerId("12D3KooWx"),
        version="0",
        model=ModelRoot("a" * 64),
        start=0,
        end=4,
        state="serving",
        dtype="float32",
        blocks_per_s=1.0,
        free_tokens=1,
        total_tokens=1,
        next_hop_ms={"a": 1.0},
        addresses=[],
        since=0.0,
    )
    assert decode_record(encode_record(sound)) == sound
    with pytest.raises(WireError):
        decode_record(msgspec.msgpack.encode(msgspec.to_builtins(sound, builtin_types=(bytes,)) | fields))
