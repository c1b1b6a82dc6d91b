"""A stream of weights under attack: bytes that are no frames, frames that are no questions, questions without sense."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import GridError
from gridllm.swarm.stream import FrameStream
from gridllm.wire.weights import PIECE_BYTES, WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, encode
from tests.swarm.garbage.scene import Scene, fuzz
from tests.swarm.garbage.stranger import ANSWER_S

pytestmark = pytest.mark.timeout(420)


async def ask(scene: Scene, header: bytes, body: bytes = b"") -> Piece | Declined | None:
    """The node's answer; None when it ended the stream without one."""
    stream = await scene.stranger.swarm.open_stream(
        scene.node, WEIGHTS_STREAM, timeout_s=ANSWER_S, max_body_bytes=PIECE_BYTES
    )
    try:
        await stream.write(header, body)
        async with asyncio.timeout(60):
            return decode_answer((await stream.read()).header)
    except GridError:
        return None
    finally:
        await stream.close()


async def eventually(scene: Scene, want: Want) -> Piece | Declined:
    """As ``ask``, once the node noticed that streams before this one are gone: a peer has two."""
    async with asyncio.timeout(120):
        while True:
            answer = await ask(scene, encode(want))
            if answer is not None and not (isinstance(answer, Declined) and answer.code == "full"):
                return answer
            await asyncio.sleep(0.05)


@fuzz(40)
@given(raw=st.binary(max_size=600))
def test_random_bytes(scene: Scene, raw: bytes) -> None:
    async def send() -> None:
        stream = await scene.stranger.swarm.open_stream(scene.node, WEIGHTS_STREAM, timeout_s=ANSWER_S)
        assert isinstance(stream, FrameStream)
        assert stream._transport is not None
        stream._transport.write(raw)
        await asyncio.sleep(0.002)
        stream.abort()

    scene.run(send())


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=70), st.binary(max_size=70)
)


@fuzz(40)
@given(fields=st.dictionaries(st.sampled_from(["t", "root", "name", "offset", "file", "x"]), values))
def test_questions_of_any_shape_get_a_refusal(scene: Scene, fields: dict[str, object]) -> None:
    answer = scene.run(ask(scene, msgspec.msgpack.encode(fields | {"t": "want"})))
    assert answer is None or isinstance(answer, Declined)


def test_a_question_with_a_large_body_ends_the_stream(scene: Scene) -> None:
    want = Want(scene.entry.root, "model.norm.weight", 0)
    assert scene.run(ask(scene, encode(want), bytes(1024 * 1024))) is None


@pytest.mark.parametrize(
    ("want", "code"),
    [
        (Want("0" * 64, "model.norm.weight", 0), "wrong_model"),
        (Want("", "../config.json", 0, file=True), "not_held"),
        (Want("", "/etc/passwd", 0, file=True), "not_held"),
        (Want("", "model.norm.weight", 2**40), "bad_position"),
    ],
)
def test_refusals_have_names(scene: Scene, want: Want, code: str) -> None:
    asked = msgspec.structs.replace(want, root=want.root or scene.entry.root)
    answer = scene.run(eventually(scene, asked))
    assert isinstance(answer, Declined)
    assert answer.code == code


def test_afterwards_a_sound_question_is_answered(scene: Scene) -> None:
    answer = scene.run(eventually(scene, Want(scene.entry.root, "model.norm.weight", 0)))
    assert isinstance(answer, Piece)
    assert answer.size > 0
