"""Too much of everything."""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
import pytest

from gridllm.node.service.callers import MAX_LINKS_PER_PEER
from gridllm.node.service.sessions import MAX_SESSIONS_PER_CLIENT
from gridllm.swarm.stream import PREFIX
from gridllm.wire.messages import MAX_BODY_BYTES, Close, Output, Ping, Resume, RowSlice, Step, encode
from tests.swarm.garbage.scene import CACHE_TOKENS, SID, Scene
from tests.swarm.garbage.stranger import RawLink

pytestmark = pytest.mark.timeout(420)


def test_a_step_beyond_the_cache(scene: Scene) -> None:
    """The budget is refused, the session stays what it was, and its room is free again when it is closed."""
    opened = scene.open()

    async def play() -> tuple[str, list[int], int, int]:
        link = await scene.link()
        ready = await link.ask(opened)
        tokens = CACHE_TOKENS // 2
        link.send(Step(opened.session, 1, 1, [RowSlice(0, 0, 0, tokens, 1)]), scene.tensor(tokens))
        assert isinstance(await link.answer(), Output)
        many = [RowSlice(0, 0, tokens, CACHE_TOKENS, 1)]
        code = await link.refused(Step(opened.session, 1, 2, many), scene.tensor(CACHE_TOKENS))
        again = await link.ask(Resume(2, opened.session, 2, scene.stranger.peer, None, [tokens]))
        link.send(Close(opened.session))
        await link.settle()
        fresh = await link.ask(scene.open(session=SID))
        await link.close(SID)
        return code, again.lengths, ready.free_tokens, fresh.free_tokens

    code, lengths, before, after = scene.run(play())
    assert code == "full"
    assert lengths == [CACHE_TOKENS // 2]
    assert after >= before - 256  # the other client's session may have grown meanwhile


def test_sessions_without_end(scene: Scene) -> None:
    async def play() -> tuple[list[str], str]:
        link = await scene.link()
        sessions = [os.urandom(16) for _ in range(MAX_SESSIONS_PER_CLIENT + 5)]
        for call, session in enumerate(sessions):
            link.send(scene.open(call=call, session=session, rows=64))
        answers = [await link.answer() for _ in sessions]
        for session in sessions:
            link.send(Close(session))
        await link.settle()
        again = await link.ask(scene.open(session=SID))
        await link.close(SID)
        return [getattr(one, "code", "") for one in answers], type(again).__name__

    codes, again = scene.run(play())
    assert codes == [""] * MAX_SESSIONS_PER_CLIENT + ["full"] * 5
    assert again == "Ready"


def test_links_without_end(scene: Scene) -> None:
    async def play() -> tuple[int, list[Any]]:
        links = [await scene.link() for _ in range(MAX_LINKS_PER_PEER)]
        alive = [await link.settle() for link in links]
        one_more = await scene.link()
        words = await one_more.last_words()
        for link in links:
            await link.close()
        return len(alive), words

    alive, words = scene.run(play())
    assert alive == MAX_LINKS_PER_PEER
    assert [one.code for one in words] == ["full"]


def pss_bytes(scene: Scene) -> int:
    """Memory of the node's processes."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in scene.running.nodes[0].pids)


def test_memory_stays_bounded(scene: Scene) -> None:
    """Bodies announced and never sent, and pings whose answers nobody reads."""
    before = pss_bytes(scene)

    async def stuff() -> float:
        links = []
        for _ in range(MAX_LINKS_PER_PEER - 1):
            half = await scene.link()
            half.raw(PREFIX.pack(1, MAX_BODY_BYTES) + b"h" + bytes(1000))
            links.append(half)
        deaf = await scene.link()
        assert deaf.stream._transport is not None
        deaf.stream._transport.pause_reading()
        ping = encode(Ping(1))
        flood = (PREFIX.pack(len(ping), 0) + ping) * 20_000
        lag_s = 0.0
        for _ in range(4):
            deaf.raw(flood)
            asked = time.perf_counter()
            await scene.lives()
            lag_s = max(lag_s, time.perf_counter() - asked)
        links.append(deaf)
        held.extend(links)
        return lag_s

    held: list[RawLink] = []
    lag_s = scene.run(stuff())
    time.sleep(1.0)
    grown = pss_bytes(scene) - before
    print(f"grown by {grown >> 20} MiB; slowest answer beside the flood {lag_s * 1e3:.0f} ms")  # noqa: T201
    for link in held:
        scene.run(link.close())
    assert grown < 64 * 2**20  # the bodies alone would be 112
