"""Questions and answers: what belongs together, what ends a conversation, and how both sides are told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gridllm.admission.examination import conversation as conversations
from gridllm.admission.examination.conversation import Conversation, one_by_one, pieces_of, send_chunks
from gridllm.admission.messages import (
    BULK_CHUNK_BYTES,
    Chunk,
    Echo,
    Filled,
    Message,
    Received,
    Send,
    Started,
)
from gridllm.errors import CallTimeout, Full, Malformed, OutOfTurn, PeerLost, Refusal, TooLarge
from gridllm.identity.keys import Identity
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork
from tests.unit.notes import until

Script = Callable[[Conversation], Awaitable[None]]


@asynccontextmanager
async def talking_to(script: Script, latency_s: float = 0.0) -> AsyncIterator[tuple[Conversation, asyncio.Task[None]]]:
    """One side of a conversation, and the task of the other, which follows ``script``."""
    network = MemoryNetwork(latency_s=latency_s)
    a, b = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    other: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()

    async def serve(stream: Stream) -> None:
        async def follow() -> None:
            await script(Conversation(stream))

        task = asyncio.create_task(follow())
        other.set_result(task)
        await asyncio.wait([task])
        with suppress(PeerLost):
            while True:  # the opener closes
                await stream.read()

    await b.serve_streams("talk", serve)
    stream = await a.open_stream(b.peer, "talk")
    try:
        yield Conversation(stream), await other
    finally:
        await a.close()
        await b.close()


def answering(*answers: Message, body: bytes = b"") -> Script:
    """Reads a message, then says ``answers``."""

    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        for answer in answers:
            await talk.tell(answer, body)

    return script


async def listen(talk: Conversation) -> None:
    """Take in whatever comes, until the other side refuses."""
    while True:
        await talk.read(timeout_s=5)


async def test_an_answer_comes_with_its_time() -> None:
    async with talking_to(answering(Echo(nonce=7), body=b"xy"), latency_s=0.05) as (talk, _):
        answer = await talk.ask(Echo(nonce=7), Echo, timeout_s=5)
        assert (answer.message.nonce, bytes(answer.body)) == (7, b"xy")
        assert answer.elapsed_s >= 0.09


async def test_time_in_our_own_queue_is_not_the_other_sides() -> None:
    async with talking_to(answering(Echo(nonce=7))) as (talk, _):
        asking = asyncio.create_task(talk.ask(Echo(nonce=7), Echo, timeout_s=5))
        while not talk.stream._frames:  # type: ignore[attr-defined]  # the answer is here …
            await asyncio.sleep(0)
            if asking.done():
                break
        answer = await asking
        assert answer.elapsed_s < 0.5


async def test_the_wrong_answer_is_out_of_turn_for_both_sides() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        await talk.tell(Started())
        await listen(talk)

    async with talking_to(script) as (talk, other):
        with pytest.raises(OutOfTurn, match="To Echo belongs Echo, and not Started"):
            await talk.ask(Echo(nonce=7), Echo, timeout_s=5)
        with pytest.raises(OutOfTurn, match="and not Started"):
            await other


async def test_an_answer_before_its_question_is_out_of_turn() -> None:
    async def script(talk: Conversation) -> None:
        await talk.tell(Filled(root=bytes(32)))
        await listen(talk)

    async with talking_to(script) as (talk, other):
        await until(lambda: bool(talk.stream._frames))  # type: ignore[attr-defined]
        with pytest.raises(OutOfTurn, match="before the question"):
            await talk.ask(Echo(nonce=7), Filled, timeout_s=5)
        with pytest.raises(OutOfTurn):
            await other


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 40, b"\x80", b"\x81\xa1t\xa4nope"])
async def test_garbage_is_malformed_for_both_sides(garbage: bytes) -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        await talk.stream.write(garbage)
        await listen(talk)

    async with talking_to(script) as (talk, other):
        with pytest.raises(Malformed, match="no admission message"):
            await talk.ask(Echo(nonce=7), Echo, timeout_s=5)
        with pytest.raises(Malformed):
            await other


async def test_an_oversized_body_is_refused() -> None:
    big = answering(Echo(nonce=1), body=bytes(conversations.MAX_ANSWER_BYTES + 1))
    async with talking_to(big) as (talk, _):
        with pytest.raises(TooLarge):
            await talk.ask(Echo(nonce=1), Echo, timeout_s=5)


async def test_a_refusal_comes_back_as_its_class() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        with pytest.raises(Full):
            await talk.end(Full("No room. " * 1000))

    async with talking_to(script) as (talk, other):
        with pytest.raises(Full, match="No room"):
            await talk.ask(Echo(nonce=7), Echo, timeout_s=5)
        await other


async def test_silence_and_loss_are_named() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        await asyncio.sleep(0.3)
        await talk.stream.close()

    async with talking_to(script) as (talk, _):
        with pytest.raises(CallTimeout, match="said nothing"):
            await talk.ask(Echo(nonce=7), Echo, timeout_s=0.05)
        with pytest.raises(PeerLost):
            await talk.read(timeout_s=5)


async def test_telling_one_who_takes_nothing_in_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "WRITE_TIMEOUT_S", 0.05)

    async def script(talk: Conversation) -> None:
        await asyncio.sleep(5)

    async with talking_to(script) as (talk, other):
        with pytest.raises(CallTimeout, match="took nothing in"):
            for _ in range(20):
                await talk.tell(Chunk(), bytes(BULK_CHUNK_BYTES))
        other.cancel()


DATA = bytes(range(256)) * 3000  # three chunks


async def test_bulk_data_is_collected_whole() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        await send_chunks(talk, pieces_of(DATA))

    for keep in (True, False):
        async with talking_to(script) as (talk, _):
            bulk = await talk.collect(Send(nbytes=len(DATA)), most_bytes=len(DATA), timeout_s=5, keep=keep)
            assert bulk.data == (DATA if keep else b"")
            assert (bulk.nbytes, bulk.digest) == (len(DATA), hashlib.sha256(DATA).digest())
            assert bulk.elapsed_s > 0


async def test_nothing_is_one_empty_last_chunk() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        await send_chunks(talk, pieces_of(b""))

    async with talking_to(script) as (talk, _):
        assert (await talk.collect(Send(nbytes=0), most_bytes=0, timeout_s=5)).data == b""


@pytest.mark.parametrize(
    ("chunks", "refusal"),
    [
        ([(Chunk(), bytes(600)), (Chunk(last=True), bytes(600))], TooLarge),  # together too many
        ([(Chunk(last=True), bytes(BULK_CHUNK_BYTES + 1))], TooLarge),
        ([(Chunk(), b"")], TooLarge),  # or it would never end
        ([(Chunk(), b"x"), (Started(), b"")], OutOfTurn),
    ],
)
async def test_bulk_data_keeps_its_bounds(chunks: list[tuple[Message, bytes]], refusal: type[Refusal]) -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        for message, body in chunks:
            await talk.tell(message, body)
        await listen(talk)

    async with talking_to(script) as (talk, other):
        with pytest.raises(refusal):
            await talk.collect(Send(nbytes=1000), most_bytes=1000, timeout_s=5)
        with pytest.raises(refusal):
            await other


async def test_bulk_data_has_one_time_out_for_all_of_it() -> None:
    async def script(talk: Conversation) -> None:
        await talk.read(timeout_s=5)
        while True:
            await talk.tell(Chunk(), b"x")
            await asyncio.sleep(0.02)

    async with talking_to(script) as (talk, other):
        with pytest.raises(CallTimeout):
            await talk.collect(Send(nbytes=1000), most_bytes=1000, timeout_s=0.2)
        other.cancel()


async def test_deliveries_are_answered_by_a_receipt() -> None:
    async def script(talk: Conversation) -> None:
        digest = hashlib.sha256()
        while True:
            chunk, body = await talk.read(timeout_s=5)
            assert isinstance(chunk, Chunk)
            digest.update(body)
            if chunk.last:
                await talk.tell(Received(digest=digest.digest()))
                return

    async with talking_to(script) as (talk, _):
        answer = await talk.deliver(one_by_one([b"ab", b"c"]), Received, timeout_s=5)
        assert answer.message.digest == hashlib.sha256(b"abc").digest()
        assert answer.elapsed_s > 0


async def test_a_delivery_answered_by_something_else_is_out_of_turn() -> None:
    async with talking_to(answering(Started())) as (talk, _):
        with pytest.raises(OutOfTurn, match="To Chunks belongs Received"):
            await talk.deliver(one_by_one([b"ab"]), Received, timeout_s=5)


async def test_what_cannot_be_told_does_not_hide_the_reason() -> None:
    async def script(talk: Conversation) -> None:
        await talk.stream.close()

    async with talking_to(script) as (talk, other):
        await other
        await asyncio.sleep(0.01)
        with pytest.raises(OutOfTurn, match="mine"):
            await talk.end(OutOfTurn("mine"))
