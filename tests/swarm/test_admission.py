"""Admission on the real network: maintainers' processes measure candidates, sign, go down and come back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from gridllm.admission.admit import admit
from gridllm.admission.certificate import check_certificate, verify_signatures
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.messages import ADMISSION_STREAM, CERTIFY_CALL, Started, encode
from gridllm.charter.board import NoticeBoard
from gridllm.errors import Malformed, OutOfTurn
from gridllm.ids import PeerId
from tests.swarm.authorities import Candidate, Council, Watching, candidate
from tests.swarm.grid import BUSY_S
from tests.unit.keeper_stations import until

pytestmark = pytest.mark.timeout(400)

REPEATED = ("The authorities do not agree yet", "did not measure this machine", "did not sign the certificate")
"""Why a candidate is measured again."""


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


def said(council: Council, outcome: str) -> Counter[str]:
    """How often each maintainer's process told of such an end, by the maintainer's key."""
    events = {council.keys[number]: council.events(number) for number in council.running}
    return Counter(key for key, each in events.items() for event in each if event["outcome"] == outcome)


async def test_garbage_at_every_call_and_then_admission_by_two(council: Council) -> None:
    rng = random.Random(5)
    async with candidate(council.addresses[0]) as one:
        authority = PeerId(council.addresses[0].rsplit("/", 1)[-1])
        await one.swarm.connect(authority, (council.addresses[0],), timeout_s=BUSY_S)
        for _ in range(5):
            with pytest.raises(Malformed):
                await one.swarm.call(authority, CERTIFY_CALL, rng.randbytes(rng.randrange(300)), timeout_s=BUSY_S)
        for header, refusal in (
            (rng.randbytes(100), Malformed),
            (b"", Malformed),
            (encode(Started()), OutOfTurn),
        ):
            stream = await one.swarm.open_stream(authority, ADMISSION_STREAM, timeout_s=BUSY_S)
            await stream.write(header)
            with pytest.raises(refusal):
                await Conversation(stream).read(timeout_s=60)
            await stream.close()

        watching = Watching()
        raw = await admitted(one, watching)
        certificate = verify_signatures(raw, one.signed)
        assert len(certificate.measured_by) == 2
        assert certificate.figures.reachable
        assert set(watching.stages) >= {"network", "memory", "decode", "batch", "prefill"}
        renewed = verify_signatures(await admitted(one, watching, certificate=raw), one.signed)
        assert len(renewed.measured_by) == 2
        assert renewed.figures.memory_bytes == certificate.figures.memory_bytes
        assert renewed.issued >= certificate.issued
    # Each certificate stands on what its two authorities measured and signed for it. On a machine that is busy with
    # other work two figures may be too far apart: both measure again then, and the candidate is told why.
    needed = Counter(key for one in (certificate, renewed) for key in one.measured_by)
    await until(lambda: said(council, "certified") >= needed, within_s=60)  # its words come after its answer
    told = [note for note in watching.notes if any(why in note for why in REPEATED)]
    for outcome in ("admitted", "certified"):
        assert said(council, outcome) >= needed
        assert said(council, outcome).total() <= needed.total() + 2 * len(told), (outcome, watching.notes)


async def test_one_down_is_no_hindrance_and_with_two_down_a_newcomer_is_told(council: Council) -> None:
    council.kill(2)
    async with candidate(council.addresses[0], council.addresses[1]) as one:
        raw = await admitted(one, Watching())
        assert council.keys[2] not in verify_signatures(raw, one.signed).measured_by
    council.kill(1)
    async with candidate(council.addresses[0]) as late:
        watching = Watching()
        waiting = asyncio.create_task(admitted(late, watching))
        async with asyncio.timeout(120):
            while not any("1 answers" in note for note in watching.notes):  # noqa: ASYNC110 - notes are plain data
                await asyncio.sleep(0.1)
        note = next(note for note in watching.notes if "1 answers" in note)
        assert note.startswith("2 of 3 authorities must measure this machine; 1 answers, ")
        assert all(f"{council.keys[number][:8]}…" in note for number in (1, 2))
        await asyncio.to_thread(council.start, 1)
        assert len(verify_signatures(await waiting, late.signed).measured_by) == 2
