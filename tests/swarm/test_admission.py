"""Admission on the real network: maintainers' processes measure candidates, sign, go down and come back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import pytest
import torch

from gridllm.admission.admit import admit
from gridllm.admission.certificate import check_certificate, verify_signatures
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.messages import ADMISSION_STREAM, CERTIFY_CALL, Started, encode
from gridllm.charter.board import NoticeBoard
from gridllm.errors import Malformed, OutOfTurn
from gridllm.ids import PeerId
from tests.swarm.authorities import Candidate, Council, Watching, candidate

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def council(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Council]:
    made = Council(tmp_path_factory.mktemp("council"), count=3, threshold=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made.start(0, 1, 2)
        yield made
    finally:
        made.close()
        torch.set_num_threads(threads)


async def admitted(one: Candidate, watching: Watching, *, wait_s: float = 200.0, certificate: bytes = b"") -> bytes:
    board = NoticeBoard(one.signed)
    raw = await admit(one.swarm, one.signed, board, one.candidacy(), watching, wait_s=wait_s, certificate=certificate)
    check_certificate(verify_signatures(raw, one.signed), one.swarm.peer, now_s=time.time())
    return raw


async def test_garbage_at_every_call_and_then_admission_by_two(council: Council) -> None:
    rng = random.Random(5)
    async with candidate(council.addresses[0]) as one:
        authority = PeerId(council.addresses[0].rsplit("/", 1)[-1])
        await one.swarm.connect(authority, (council.addresses[0],))
        for _ in range(5):
            with pytest.raises(Malformed):
                await one.swarm.call(authority, CERTIFY_CALL, rng.randbytes(rng.randrange(300)))
        for header, refusal in (
            (rng.randbytes(100), Malformed),
            (b"", Malformed),
            (encode(Started()), OutOfTurn),
        ):
            stream = await one.swarm.open_stream(authority, ADMISSION_STREAM)
            await stream.write(header)
            with pytest.raises(refusal):
                await Conversation(stream).read(timeout_s=10)
            await stream.close()

        watching = Watching()
        raw = await admitted(one, watching)
        certificate = verify_signatures(raw, one.signed)
        assert len(certificate.measured_by) == 2
        assert certificate.figures.reachable
        assert set(watching.stages) >= {"network", "memory", "decode", "batch", "prefill"}
        renewed = verify_signatures(await admitted(one, Watching(), certificate=raw), one.signed)
        assert renewed.figures.memory_bytes == certificate.figures.memory_bytes
        assert renewed.issued >= certificate.issued
    outcomes = [event["outcome"] for number in range(3) for event in council.events(number)]
    assert outcomes.count("admitted") == 4
    assert outcomes.count("certified") == 4


async def test_one_down_is_no_hindrance_and_with_two_down_a_newcomer_is_told(council: Council) -> None:
    council.kill(2)
    async with candidate(council.addresses[0], council.addresses[1]) as one:
        raw = await admitted(one, Watching())
        assert council.keys[2] not in verify_signatures(raw, one.signed).measured_by
    council.kill(1)
    async with candidate(council.addresses[0]) as late:
        watching = Watching()
        waiting = asyncio.create_task(admitted(late, watching))
        async with asyncio.timeout(60):
            while not any("1 answers" in note for note in watching.notes):  # noqa: ASYNC110 - notes are plain data
                await asyncio.sleep(0.1)
        note = next(note for note in watching.notes if "1 answers" in note)
        assert note.startswith("2 of 3 authorities must measure this machine; 1 answers, ")
        assert all(f"{council.keys[number][:8]}…" in note for number in (1, 2))
        await asyncio.to_thread(council.start, 1)
        assert len(verify_signatures(await waiting, late.signed).measured_by) == 2
