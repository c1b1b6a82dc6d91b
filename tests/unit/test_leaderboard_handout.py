"""Whoever grades gets the weights, though strangers hold all streams that there are for anyone."""

from __future__ import annotations

from pathlib import Path

from gridllm.errors import Full
from gridllm.identity.keys import Identity
from gridllm.models.seeding import STREAMS, STREAMS_PER_PEER
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemorySwarm
from gridllm.wire.weights import WEIGHTS_STREAM, Declined, Piece, Want, decode_answer, encode
from gridllm_leaderboard.statements import Submission, verify_document
from tests.unit.leaderboard_house import House, hex_of, house


async def opened(made: House, who: Identity) -> Stream:
    swarm: MemorySwarm = made.network.peek(who.peer) or made.network.join(who)
    return await swarm.open_stream(made.peer, WEIGHTS_STREAM)


async def answer(stream: Stream, root: str) -> Piece | Declined:
    await stream.write(encode(Want(root, "embed", 0)))
    return decode_answer((await stream.read()).header)


async def test_strangers_that_hold_all_streams_keep_no_grader_from_its_models(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.submit(1)
        work = await made.until_work(made.grader)
        root = verify_document(work.tasks[0].submission, Submission, made.signed.grid, hex_of(made.identity)).root
        crowd = [Identity.ephemeral() for _ in range(STREAMS // STREAMS_PER_PEER)]
        held = [await opened(made, who) for who in crowd for _ in range(STREAMS_PER_PEER)]
        for stream in held:
            assert isinstance(await answer(stream, root), Declined)  # they ask now and then, and keep it
        one_more = await (await opened(made, Identity.ephemeral())).read()
        declined = decode_answer(one_more.header)
        assert isinstance(declined, Declined) and declined.code == Full.code
        assert isinstance(await answer(await opened(made, made.grader), root), Piece)
