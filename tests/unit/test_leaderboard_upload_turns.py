"""Whose turn it is to upload: strangers hold open what they like, and take no turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gridllm.errors import Full, GaveWay
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.tasks import end
from gridllm_leaderboard.messages import UPLOAD_STREAM
from gridllm_leaderboard.upload import receiving, sending
from gridllm_leaderboard.upload.wire import Begin, Declined, Want, encode, from_leaderboard
from tests.unit.upload_hall import Hall, manifest_of, small_model, until


async def test_strangers_who_say_nothing_take_no_authors_turn(tmp_path: Path) -> None:
    hall = Hall(tmp_path / "vault", streams=1)
    await hall.open()
    for _ in range(3):
        stranger = hall.network.join(Identity.ephemeral())
        await stranger.connect(hall.home.peer, hall.home.addresses)
        await stranger.open_stream(hall.home.peer, UPLOAD_STREAM)
    manifest = small_model(tmp_path / "a")
    stream = await hall.stream()
    await stream.write(encode(Begin(hall.enter(manifest), hall.delegation(), 9, {})))
    await until(lambda: hall.receiving.uploads == 1)
    second = await hall.stream()  # of an author: there is one turn
    await second.write(encode(Begin(hall.enter(small_model(tmp_path / "b", 2)), hall.delegation(), 9, {})))
    said = from_leaderboard((await second.read()).header)
    assert isinstance(said, Declined) and said.code == Full.code and "as many uploads" in said.text


async def test_strangers_who_say_nothing_leave_their_places_to_whoever_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one address at once; those of many once they were silent for two seconds."""
    monkeypatch.setattr(receiving, "GREETING", 3)
    hall, hosts = Hall(tmp_path / "vault", streams=1, ticks=lambda: 0.0), dict[PeerId, int]()

    async def seen_at(peer: PeerId) -> tuple[str, ...]:
        return (f"/ip4/203.0.113.{hosts.get(peer, 7)}/tcp/31337",)

    monkeypatch.setattr(hall.home, "seen_at", seen_at)
    hosts[hall.client.peer] = 8
    await hall.open()
    crowd = [hall.network.join(Identity.ephemeral()) for _ in range(3)]
    held = [await one.open_stream(hall.home.peer, UPLOAD_STREAM) for one in crowd]
    await until(lambda: len(hall.receiving._greeting) == len(held))
    stream = await hall.stream()
    await stream.write(encode(Begin(hall.enter(small_model(tmp_path / "a")), hall.delegation(), 9, {})))
    await until(lambda: hall.receiving.uploads == 1)
    reads = [asyncio.create_task(one.read()) for one in held]
    (told,), others = await asyncio.wait(reads, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    said = from_leaderboard(told.result().header)
    assert isinstance(said, Declined) and said.code == GaveWay.code
    await end(*others)


async def test_an_upload_that_stands_still_gives_way_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    hall = Hall(tmp_path / "vault", streams=1, ticks=lambda: now[0])
    monkeypatch.setattr(sending, "PAUSE_S", 0.01)
    await hall.open()
    slow = await hall.stream()
    await slow.write(encode(Begin(hall.enter(small_model(tmp_path / "a")), hall.delegation(), 9, {})))
    assert isinstance(from_leaderboard((await slow.read()).header), Want)
    manifest = small_model(tmp_path / "b", 2)
    another = asyncio.create_task(hall.send(tmp_path / "b", manifest))
    await asyncio.sleep(0.1)
    assert not another.done() and not hall.desk.whole, "the first one is not overdue"
    while not another.done():
        now[0] += 1.0
        await asyncio.sleep(0.01)
    another.result()
    said = from_leaderboard((await slow.read()).header)
    assert isinstance(said, Declined) and said.code == GaveWay.code
    await hall.send(tmp_path / "a", manifest_of(tmp_path / "a"))
    assert len(hall.desk.whole) == 2
