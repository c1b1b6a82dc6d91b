"""Steps of any kind, Resumes that make no sense, and other people's sessions."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import Refusal
from gridllm.node.service.steps import lengths_after
from gridllm.wire.messages import Hop, Output, Ready, Refused, Resume, RowSlice, Step
from tests.swarm.garbage.scene import NOBODY, ROW, Scene, fuzz
from tests.swarm.garbage.stranger import RawLink, Stranger

pytestmark = pytest.mark.timeout(420)

counts = st.sampled_from([0, 1, 2, 3, 5, 127, 129, 2**20, 2**31 - 1]) | st.integers(0, 12)
slices = st.builds(
    RowSlice,
    st.integers(0, 3) | st.just(63),
    st.integers(0, 3) | st.just(63),
    counts,
    st.sampled_from([1, 1, 2, 5, 130, 2**20]),
    counts,
)
epochs = st.sampled_from([1, 1, 1, 0, 2])
bodies = st.sampled_from(["right", "right", "right", "short", "long", "none", "nan", "inf", "huge"])


def body_for(scene: Scene, kind: str, tokens: int) -> bytes:
    """Hidden states for so many tokens, or not quite."""
    if tokens > 4096:
        return b""
    right = scene.tensor(tokens)
    last = {"nan": math.nan, "inf": -math.inf, "huge": 3e38}.get(kind)
    if last is not None:
        return right[:-4] + struct.pack("<f", last)
    return {"short": right[:-1], "long": right + b"\0", "none": b""}.get(kind, right)


def verdict(scene: Scene, step: Step, body: bytes, kind: str, lengths: list[int]) -> str | list[int]:
    """By the protocol's own rules: the refusal's code, or the new lengths."""
    tokens = sum(s.tokens for s in step.rows)
    if len(body) != len(scene.tensor(1)) * tokens or kind in ("nan", "inf"):
        return "bad_tensor"
    try:
        return lengths_after(step.rows, lengths)
    except Refusal as refusal:
        return refusal.code


@fuzz(40)
@given(
    steps=st.lists(
        st.tuples(st.lists(slices, min_size=1, max_size=4), bodies, st.sampled_from([1, 1, 1, 0, 2])), max_size=6
    )
)
def test_steps_of_any_kind(scene: Scene, steps: list[tuple[list[RowSlice], str, int]]) -> None:
    """What the rules allow is computed, what they forbid is refused, and a refusal changes nothing."""
    opened = scene.open(rows=3)

    async def play() -> None:
        link = await scene.link()
        assert isinstance(await link.ask(opened), Ready)
        lengths = [0, 0, 0]
        for number, (rows, kind, epoch) in enumerate(steps, 1):
            step = Step(opened.session, epoch, number, rows)
            body = body_for(scene, kind, sum(s.tokens for s in rows))
            expect = verdict(scene, step, body, kind, lengths)
            if epoch != 1 and expect != "bad_tensor":
                link.send(step, body)
                assert await link.settle() == []  # of another shape of the chain
            elif isinstance(expect, str):
                assert await link.refused(step, body) == expect
            else:
                lengths = expect
                link.send(step, body)
                for s in rows:
                    wanted = s.keep
                    while wanted:  # long ones come back in pieces
                        output = await link.answer()
                        assert isinstance(output, Output), output
                        wanted = 0 if kind == "huge" else wanted - sum(o.tokens for o in output.rows if o.row == s.row)
                        if len(rows) > 1:
                            wanted = 0
        ready = await link.ask(Resume(2, opened.session, 3, scene.stranger.peer, None, lengths))
        while not isinstance(ready, Ready):
            ready = await link.answer()
        assert ready.lengths == lengths
        await link.close(opened.session)

    scene.run(play())


def test_other_people_s_sessions(scene: Scene) -> None:
    with Stranger([scene.running.address], scene.signed.grid) as thief:
        thief.run(scene.introduce(thief))
        opened = scene.open()

        async def owner_opens() -> RawLink:
            link = await scene.link()
            assert isinstance(await link.ask(opened), Ready)
            link.send(Step(opened.session, 1, 1, [RowSlice(0, 0, 0, 3, 1)]), scene.tensor(3))
            assert isinstance(await link.answer(), Output)
            return link

        async def steal() -> list[str]:
            link = await thief.link(scene.node)
            found = [
                await link.refused(Step(opened.session, 1, 2, [RowSlice(0, 0, 3, 1, 1)]), scene.tensor(1)),
                await link.refused(Step(opened.session, 1, 2, [RowSlice(0, 0, 0, 1, 1)], replay=True), scene.tensor(1)),
                await link.refused(Resume(1, opened.session, 9, thief.peer, None, [0])),
                await link.refused(scene.open(session=opened.session, upstream=thief.peer)),
            ]
            await link.close(opened.session)
            return found

        async def owner_goes_on(link: RawLink) -> list[Any]:
            heard = await link.settle()
            link.send(Step(opened.session, 1, 2, [RowSlice(0, 0, 3, 1, 1)]), scene.tensor(1))
            heard.append(await link.answer())
            await link.close(opened.session)
            return heard

        link = scene.run(owner_opens())
        assert thief.run(steal()) == ["not_upstream", "not_upstream", "unknown_session", "session_exists"]
        assert [type(one) for one in scene.run(owner_goes_on(link))] == [Output]  # and no word of the thief


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"need": []}, "malformed"),
        ({"need": [0, 0]}, "malformed"),
        ({"valid": [0, 0]}, "malformed"),
        ({"epoch": 1}, "stale_epoch"),
        ({"epoch": 0}, "stale_epoch"),
        ({"next": Hop(NOBODY, ["/ip4/127.0.0.1/tcp/1"])}, "next_hop_lost"),
        ({"upstream": NOBODY, "epoch": 5}, None),
        ({"need": [2**31 - 1], "step": 2**31 - 1, "valid": [2**31 - 1]}, None),
    ],
)
def test_resumes_that_make_no_sense(scene: Scene, changes: dict[str, Any], code: str | None) -> None:
    opened = scene.open()
    fields: dict[str, Any] = {
        "call": 2,
        "session": opened.session,
        "epoch": 2,
        "upstream": scene.stranger.peer,
        "next": None,
        "need": [0],
    }

    async def play() -> None:
        link = await scene.link()
        assert isinstance(await link.ask(opened), Ready)
        link.send(Step(opened.session, 1, 1, [RowSlice(0, 0, 0, 3, 1)]), scene.tensor(3))
        assert isinstance(await link.answer(), Output)
        link.send(Resume(**fields | changes))
        heard = [one for one in [await link.answer(), *await link.settle()] if not isinstance(one, Output)]
        assert [getattr(one, "code", None) for one in heard] == [code]
        if changes.get("upstream") == NOBODY:
            assert await link.refused(Step(opened.session, 5, 2, ROW), scene.tensor(1)) == "not_upstream"
        await link.close(opened.session)

    scene.run(play())


def test_pushes_that_the_next_node_does_not_take(scene: Scene) -> None:
    """The second node knows nothing of the session: the client hears who refused."""
    opened = scene.open(next=Hop(scene.second, []))

    async def play() -> Refused:
        link = await scene.link()
        assert isinstance(await link.ask(opened), Ready)
        link.send(Step(opened.session, 1, 1, [RowSlice(0, 0, 0, 3, 1)]), scene.tensor(3))
        told = await link.answer()
        await link.close(opened.session)
        assert isinstance(told, Refused)
        return told

    told = scene.run(play())
    assert (told.code, told.peer) == ("next_hop_lost", scene.second)
