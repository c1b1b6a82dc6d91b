"""Frames over byte transports: whatever the pieces they arrive in, whatever a stranger sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import PeerLost, WireError
from gridllm.ids import PeerId
from gridllm.swarm.stream import FIRST_BODY_BYTES, FRAME_COST_BYTES, PREFIX, READ_HIGH_BYTES, FrameStream
from gridllm.wire.messages import MAX_BODY_BYTES, MAX_HEADER_BYTES

PEER = PeerId("12D3KooWtest")


class Ends(NamedTuple):
    ours: FrameStream
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    """Our stream, and the raw other end of its connection."""
    accepted: asyncio.Future[FrameStream] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)  # as hivemind does: part of the connection is read before we take it over
        accepted.set_result(FrameStream.adopt(PEER, reader, writer))

    server = await asyncio.start_unix_server(accept, path=str(tmp_path / "s"))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"!" + PREFIX.pack(5, 3) + b"early" + b"bo")  # a frame that comes along with the handshake, torn
    await asyncio.sleep(0.01)
    writer.write(b"y")
    ours = await accepted
    assert await ours.read() == (b"early", b"boy")
    yield Ends(ours, writer, reader)
    writer.close()
    await ours.close()
    server.close()


def frame(header: bytes, body: bytes = b"") -> bytes:
    return PREFIX.pack(len(header), len(body)) + header + body


async def test_frames_arrive_in_order_and_bodies_are_writable(ends: Ends) -> None:
    sizes = [0, 1, 7, 65_536, 81_920, 1_000_000, MAX_BODY_BYTES, 3]
    sending = asyncio.create_task(_send(ends.writer, b"".join(frame(b"h%d" % n, b"%c" % (n % 251) * n) for n in sizes)))
    for size in sizes:
        header, body = await ends.ours.read()
        assert header == b"h%d" % size
        assert body == b"%c" % (size % 251) * size
        assert isinstance(body, bytearray)
    await sending


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@given(
    parts=st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=3000)), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 700), min_size=1, max_size=40),
)
def test_any_cutting_gives_the_same_frames(parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    async def feed() -> list[tuple[bytes, bytes]]:
        stream = FrameStream(PEER)
        data = b"".join(frame(*part) for part in parts)
        position = turn = 0
        while position < len(data):
            step = cuts[turn % len(cuts)]
            stream._feed(data[position : position + step])
            position, turn = position + step, turn + 1
        return [await stream.read() for _ in parts]

    assert [(h, bytes(b)) for h, b in asyncio.run(feed())] == parts


@pytest.mark.parametrize(
    ("header", "body"), [(MAX_HEADER_BYTES + 1, 0), (1, MAX_BODY_BYTES + 1), (2**32 - 1, 2**32 - 1)]
)
async def test_caps_are_checked_before_anything_is_read(ends: Ends, header: int, body: int) -> None:
    ends.writer.write(frame(b"fine") + PREFIX.pack(header, body) + b"x")
    assert (await ends.ours.read()).header == b"fine"
    with pytest.raises(WireError, match="exceeds the caps"):
        await ends.ours.read()
    ends.ours.send(b"that was too large")  # its sender may be told
    await ends.ours.close()
    assert await ends.reader.read() == frame(b"that was too large")


async def test_announcing_a_large_body_costs_its_sender_nothing_and_us_little(ends: Ends) -> None:
    ends.writer.write(PREFIX.pack(1, MAX_BODY_BYTES) + b"h" + bytes(1000))
    await asyncio.sleep(0.05)
    assert ends.ours._body is not None
    assert len(ends.ours._body) <= FIRST_BODY_BYTES


async def test_small_frames_that_nobody_reads_pause_reading(ends: Ends) -> None:
    count = READ_HIGH_BYTES // FRAME_COST_BYTES
    sending = asyncio.create_task(_send(ends.writer, frame(b"x") * (4 * count)))
    while ends.ours._reading:  # noqa: ASYNC110  # the stream tells nobody that it paused
        await asyncio.sleep(0.01)
    assert len(ends.ours._frames) <= 2 * count
    sending.cancel()


async def test_what_is_too_large_is_not_sent(ends: Ends) -> None:
    for header, body in ((bytes(MAX_HEADER_BYTES + 1), b""), (b"h", bytes(MAX_BODY_BYTES + 1))):
        with pytest.raises(WireError, match="smaller pieces"):
            ends.ours.send(header, body)
    ends.ours.send(b"still", b"works")
    assert await ends.reader.readexactly(8 + 10) == frame(b"still", b"works")


async def test_the_end_of_the_stream_comes_after_the_last_frame(ends: Ends) -> None:
    ends.writer.write(frame(b"last", b"words") + PREFIX.pack(4, 100) + b"torn")
    ends.writer.close()
    assert (await ends.ours.read()).header == b"last"
    with pytest.raises(PeerLost, match="closed"):
        await ends.ours.read()
    with pytest.raises(PeerLost):
        await ends.ours.write(b"gone")


async def test_closing_flushes_and_ends_a_pending_read(ends: Ends) -> None:
    reading = asyncio.create_task(ends.ours.read())
    await asyncio.sleep(0)
    ends.ours.send(b"h", bytes(3_000_000))
    taken = asyncio.create_task(ends.reader.readexactly(8 + 1 + 3_000_000))
    await ends.ours.close()
    await ends.ours.close()
    assert len(await taken) == 3_000_009
    with pytest.raises(PeerLost):
        await reading


async def test_closing_does_not_wait_for_a_reader_that_never_reads(ends: Ends) -> None:
    ends.ours.send(b"h", bytes(MAX_BODY_BYTES))
    async with asyncio.timeout(60):
        await ends.ours.close()


async def test_write_waits_for_a_slow_reader_and_send_tells_how_much_waits(ends: Ends) -> None:
    assert ends.ours.send(b"h", bytes(MAX_BODY_BYTES)) > MAX_BODY_BYTES // 2
    writing = asyncio.create_task(ends.ours.write(b"h"))
    await asyncio.sleep(0.05)
    assert not writing.done()
    draining = asyncio.create_task(ends.reader.readexactly(2 * 8 + 2 + MAX_BODY_BYTES))
    async with asyncio.timeout(60):
        await writing
        await draining


async def test_a_broken_stream_ends_a_waiting_write(ends: Ends) -> None:
    ends.ours.send(b"h", bytes(MAX_BODY_BYTES))
    writing = asyncio.create_task(ends.ours.write(b"h"))
    await asyncio.sleep(0.05)
    ends.ours.abort()
    with pytest.raises(PeerLost):
        await writing


async def test_reading_pauses_while_nobody_takes_the_frames(ends: Ends) -> None:
    body = bytes(MAX_BODY_BYTES)
    sending = asyncio.create_task(_send_all(ends.writer, [frame(b"h", body)] * 6))
    await asyncio.sleep(0.5)
    assert ends.ours._queued <= READ_HIGH_BYTES + MAX_BODY_BYTES
    assert not sending.done()
    for _ in range(6):
        assert len((await ends.ours.read()).body) == MAX_BODY_BYTES
    await sending


async def _send_all(writer: asyncio.StreamWriter, frames: list[bytes]) -> None:
    for one in frames:
        await _send(writer, one)


async def test_bytes_of_an_unfinished_frame_count_as_heard(ends: Ends) -> None:
    before = ends.ours.heard_at
    await asyncio.sleep(0.02)
    ends.writer.write(PREFIX.pack(1, 1000) + b"hx")
    async with asyncio.timeout(60):
        while ends.ours.heard_at <= before:  # noqa: ASYNC110 - plain data
            await asyncio.sleep(0.01)
