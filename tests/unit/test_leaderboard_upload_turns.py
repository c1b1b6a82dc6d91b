"""Whose turn it is to upload: strangers hold open what they like, and take no turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.errors import Full
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm_leaderboard.messages import UPLOAD_STREAM
from gridllm_leaderboard.upload import receiving
from gridllm_leaderboard.upload.wire import Begin, Declined, encode, from_leaderboard
from tests.unit.upload_hall import Hall, small_model, until


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


async def test_strangers_of_one_address_leave_room_for_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "GREETING_OF_PLACE", 3)
    monkeypatch.setattr(receiving, "GREETING", 3)
    hall = Hall(tmp_path / "vault", streams=1)
    crowd = [hall.network.join(Identity.ephemeral()) for _ in range(4)]

    async def seen_at(peer: PeerId) -> tuple[str, ...]:
        return (f"/ip4/203.0.113.{7 if peer != hall.client.peer else 8}/tcp/31337",)

    monkeypatch.setattr(hall.home, "seen_at", seen_at)
    await hall.open()
    held = [await one.open_stream(hall.home.peer, UPLOAD_STREAM) for one in crowd[:3]]
    await until(lambda: len(hall.receiving._greeting) == len(held))
    one_more = await crowd[3].open_stream(hall.home.peer, UPLOAD_STREAM)
    said = from_leaderboard((await one_more.read()).header)
    assert isinstance(said, Declined) and said.code == Full.code and "from your address" in said.text
    stream = await hall.stream()
    await stream.write(encode(Begin(hall.enter(small_model(tmp_path / "a")), hall.delegation(), 9, {})))
    await until(lambda: hall.receiving.uploads == 1)
    for silent in held:
        await silent.close()
    await until(lambda: not hall.receiving._greeting)
