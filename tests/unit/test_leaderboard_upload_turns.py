"""Whose turn it is to upload: strangers hold open what they like, and take no turn."""

from __future__ import annotations

from pathlib import Path

from gridllm.errors import Full
from gridllm.identity.keys import Identity
from gridllm_leaderboard.messages import UPLOAD_STREAM
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
