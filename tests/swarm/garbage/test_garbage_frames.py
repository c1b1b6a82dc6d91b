"""Frames that are none, and messages that do not parse, are false in time, or ask for what cannot be."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import WireError
from gridllm.swarm.stream import PREFIX
from gridllm.wire.messages import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Ack,
    Close,
    Hop,
    Leaving,
    Open,
    Output,
    Ping,
    Pong,
    Ready,
    Refused,
    Resume,
    RowSlice,
    Step,
    decode,
    encode,
)
from tests.swarm.garbage.scene import CACHE_TOKENS, NOBODY, ROW, SID, Scene, fuzz

pytestmark = pytest.mark.timeout(420)


@fuzz(60)
@given(raw=st.binary(max_size=600))
def test_random_bytes(scene: Scene, raw: bytes) -> None:
    async def send() -> None:
        link = await scene.link()
        link.raw(raw)
        await asyncio.sleep(0.002)
        await link.close()  # in the middle of whatever it takes for a frame

    scene.run(send())


@pytest.mark.parametrize(
    ("header", "body"), [(MAX_HEADER_BYTES + 1, 0), (1, MAX_BODY_BYTES + 1), (2**32 - 1, 2**32 - 1)]
)
def test_frames_beyond_the_caps(scene: Scene, header: int, body: int) -> None:
    async def send() -> list[Any]:
        link = await scene.link()
        link.raw(PREFIX.pack(header, body) + b"x" * 100)
        return await link.last_words()

    (told,) = scene.run(send())
    assert told.code == "malformed"
    assert "exceeds the caps" in told.message


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
SAMPLES = [
    Step(b"s" * 16, 1, 1, [RowSlice(0, 0, 0, 1, 1)]),
    Open(1, b"s" * 16, "a" * 64, "float32", 0, 4, 1, 1, "12D3KooWx", Hop("12D3KooWy", ["/ip4/1.2.3.4"]), [0]),
    Resume(1, b"s" * 16, 2, "12D3KooWx", None, [0], 1, [0]),
    Close(b"s" * 16),
    Ping(1),
    Refused(1, b"s" * 16, "full", "No room.", "12D3KooWsomebody"),
]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Msgpack of any shape, or a message of ours with a field or byte gone wrong."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=300))
    if kind == 1:
        return msgspec.msgpack.encode(draw(anything))
    fields = msgspec.msgpack.decode(encode(draw(st.sampled_from(SAMPLES))))
    if kind == 2:
        fields[draw(st.sampled_from(sorted(fields)))] = draw(anything)
        return msgspec.msgpack.encode(fields)
    raw = bytearray(msgspec.msgpack.encode(fields))
    raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def parses(header: bytes) -> bool:
    try:
        decode(header)
    except WireError:
        return False
    return True


@fuzz(150)
@given(header=spoilt(), body=st.binary(max_size=100))
def test_frames_that_are_no_messages(scene: Scene, header: bytes, body: bytes) -> None:
    async def send() -> list[Any]:
        link = await scene.link()
        link.raw(PREFIX.pack(len(header), len(body)) + header + body)
        try:
            return await (link.settle() if parses(header) else link.last_words())
        finally:
            await link.close()

    told = scene.run(send())
    if parses(header):
        assert all(isinstance(one, Refused) for one in told), told
    else:
        assert [one.code for one in told] == ["malformed"]
        assert "does not parse" in told[0].message


@pytest.mark.parametrize("header", [b"\x91" * 60_000 + b"\x00", b"\x81\xa1t" * 20_000, b"\xdf\xff\xff\xff\xff", b""])
def test_nests_and_bombs(scene: Scene, header: bytes) -> None:
    async def send() -> list[Any]:
        link = await scene.link()
        link.raw(PREFIX.pack(len(header), 0) + header)
        return await link.last_words()

    assert [one.code for one in scene.run(send())] == ["malformed"]


WRONG_TIME = {
    "ready": (Ready(1, SID, [0], 0, 0), ["malformed"]),
    "refused": (Refused(None, SID, "full", "No."), ["malformed"]),
    "output": (Output(SID, 1, 1, ROW), ["malformed"]),
    "ack": (Ack(SID, 1, 1, 1, 1), ["malformed"]),
    "leaving": (Leaving(1), ["malformed"]),
    "step": (Step(SID, 1, 1, ROW), ["unknown_session"]),
    "resume": (Resume(1, SID, 2, "12D3KooWx", None, [0]), ["unknown_session"]),
    "close": (Close(SID), []),
    "pong": (Pong(7), []),
}


@pytest.mark.parametrize("name", sorted(WRONG_TIME))
def test_messages_at_the_wrong_time(scene: Scene, name: str) -> None:
    message, codes = WRONG_TIME[name]

    async def send() -> list[str]:
        link = await scene.link()
        link.send(message, scene.tensor(1))
        told = await link.settle()
        if name == "resume" and not told:
            told = [await link.answer()]  # answered by a task of its own
        await link.close()
        return [one.code for one in told]

    assert scene.run(send()) == codes


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "0" * 64}, "wrong_model"),
        ({"model": "\u00e9" * 64}, "wrong_model"),
        ({"dtype": "float16"}, "wrong_model"),
        ({"dtype": ""}, "wrong_model"),
        ({"start": 4, "end": 8}, "wrong_span"),
        ({"start": 0, "end": 2**31 - 1}, "wrong_span"),
        ({"start": 2, "end": 2}, "wrong_span"),
        ({"start": 3, "end": 1}, "wrong_span"),
        ({"need": []}, "malformed"),
        ({"need": [0] * 9000}, "malformed"),
        ({"tokens": CACHE_TOKENS + 1}, "full"),
        ({"tokens": 2**31 - 1, "rows": 64}, "full"),
        ({"next": Hop(NOBODY, [])}, "next_hop_lost"),
        ({"next": Hop(NOBODY, [f"/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}"])}, "next_hop_lost"),
        ({"next": Hop(NOBODY, ["/ip4/nowhere", "\x00", ""])}, "next_hop_lost"),
        ({"next": Hop("no peer at all", ["/ip4/127.0.0.1/tcp/1"])}, "next_hop_lost"),
        ({"next": Hop("\u00e9" * 100, [])}, "next_hop_lost"),
        ({"next": "itself"}, "malformed"),
        ({"next": "the stranger"}, "next_hop_lost"),  # a client that listens nowhere and takes no links
    ],
)
def test_sessions_that_cannot_be(scene: Scene, changes: dict[str, Any], code: str) -> None:
    special = {"itself": scene.node, "the stranger": scene.stranger.peer}
    if isinstance(changes.get("next"), str):
        changes = {"next": Hop(special[changes["next"]], [])}
    message = scene.open(**changes)

    async def send() -> tuple[str, str]:
        link = await scene.link()
        found = await link.refused(message)
        # It was not created either.
        after = await link.refused(Step(message.session, 1, 1, ROW), scene.tensor(1))
        await link.close()
        return found, after

    assert scene.run(send()) == (code, "unknown_session")
