"""A candidate before a hostile or muddled authority: it answers what it offered, in turn, and names the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gridllm.admission.examination import desk
from gridllm.admission.examination import prover as provers
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.stages import Examined
from gridllm.admission.examination.turns import MAX_QUESTIONS, MAX_SEND_BYTES, Turns
from gridllm.admission.figures import Figures
from gridllm.admission.messages import (
    BULK_CHUNK_BYTES,
    Begin,
    Certify,
    Chase,
    Chunk,
    Committed,
    Compute,
    Echo,
    Fill,
    Filled,
    Hello,
    Message,
    Queued,
    Received,
    Send,
    ShowLinks,
    ShowPages,
    Stage,
    Started,
    encode,
)
from gridllm.errors import AdmissionError, CallTimeout, Malformed, OutOfTurn, PeerLost, Refusal, TooLarge
from tests.unit.examinations import GRID, MAINTAINER, MIB, Prover, authority_script, candidacy, verdict_of
from tests.unit.notes import until

NONCE = bytes(32)
BEGIN = Begin(nonce=NONCE, authority=MAINTAINER, stages=["network"], clock_s=0.0)
VERDICT = verdict_of(Examined(Figures(), "", ""))
COMPUTE = Compute(kind="decode", round=1, nonce=NONCE, steps=8)
CHASE = Chase(nonce=NONCE, steps=64)
PAGES = ShowPages(pages=[0], segments=[0])
ECHO = Echo(nonce=1)


def after(*before: Message) -> Turns:
    turns = Turns(8 * MIB)
    for message in before:
        turns.check(message, 0)  # type: ignore[arg-type]
    return turns


@pytest.mark.parametrize(
    ("before", "message"),
    [
        # nothing is measured before Begin
        *[([], one) for one in (Stage(name="x", done=0.5), ECHO, Send(nbytes=1), Chunk(last=True), Fill(nbytes=MIB))],
        *[([], one) for one in (CHASE, PAGES, COMPUTE, ShowLinks(links=[0]))],
        # what only a candidate says
        *[([BEGIN], one) for one in (Started(), Filled(root=NONCE), Committed(root=NONCE), Received(digest=NONCE))],
        # once only
        ([BEGIN], BEGIN),
        ([BEGIN], Queued(place=1, waiting=1)),
        ([BEGIN, Fill(nbytes=MIB)], Fill(nbytes=MIB)),
        ([BEGIN, COMPUTE], COMPUTE),
        # nothing is shown before it was committed to, nor twice
        ([BEGIN], CHASE),
        ([BEGIN], PAGES),
        ([BEGIN, Fill(nbytes=MIB)], PAGES),
        ([BEGIN, Fill(nbytes=MIB), CHASE, PAGES], PAGES),
        ([BEGIN], ShowLinks(links=[0])),
        ([BEGIN, COMPUTE], ShowLinks(links=[8])),
        ([BEGIN, COMPUTE, ShowLinks(links=[7])], ShowLinks(links=[0])),
        ([BEGIN, Fill(nbytes=MIB), *[CHASE] * 8], CHASE),
        # a transfer is not interrupted, a verdict is the end
        ([BEGIN, VERDICT], ECHO),
        ([VERDICT], VERDICT),
    ],
)
def test_out_of_turn(before: Sequence[Message], message: Any) -> None:
    turns = after(*before)
    with pytest.raises(OutOfTurn):
        turns.check(message, 1 if isinstance(message, Chunk) else 0)


@pytest.mark.parametrize("message", [Fill(nbytes=8 * MIB + 1), Fill(nbytes=0), Send(nbytes=MAX_SEND_BYTES + 1)])
def test_more_than_was_offered(message: Any) -> None:
    with pytest.raises(TooLarge):
        after(BEGIN).check(message, 0)


def test_transfers_are_bounded_together_too() -> None:
    turns = after(BEGIN, *[Send(nbytes=MAX_SEND_BYTES)] * 8)
    with pytest.raises(TooLarge):
        turns.check(Send(nbytes=1), 0)
    turns = after(BEGIN)
    with pytest.raises(TooLarge):
        for _ in range(MAX_SEND_BYTES // BULK_CHUNK_BYTES + 1):
            turns.check(Chunk(), BULK_CHUNK_BYTES)
    with pytest.raises(TooLarge):
        after(BEGIN).check(Chunk(), 0)


def test_a_transfer_is_not_interrupted() -> None:
    turns = after(BEGIN)
    turns.check(Chunk(), 10)
    with pytest.raises(OutOfTurn, match="middle of a transfer"):
        turns.check(ECHO, 0)
    turns.check(Chunk(last=True), 0)
    turns.check(ECHO, 0)


def test_questions_are_counted() -> None:
    turns = after(BEGIN, *[ECHO] * (MAX_QUESTIONS - 1))
    with pytest.raises(TooLarge):
        turns.check(ECHO, 0)


def test_a_body_belongs_to_chunks_alone() -> None:
    with pytest.raises(OutOfTurn, match="no body"):
        after(BEGIN).check(ECHO, 1)


HELLO = provers.hello_of(candidacy(), GRID, ("/ip4/1.2.3.4/tcp/1",) * 20)


@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ([ECHO], OutOfTurn),
        ([HELLO], OutOfTurn),
        ([BEGIN, Started()], OutOfTurn),
        ([BEGIN, BEGIN], OutOfTurn),
        ([BEGIN, PAGES], OutOfTurn),
        ([BEGIN, ShowLinks(links=[1])], OutOfTurn),
        ([BEGIN, Fill(nbytes=2**40)], TooLarge),
        ([BEGIN, Send(nbytes=2**40)], TooLarge),
        ([BEGIN, COMPUTE, ShowLinks(links=[100])], OutOfTurn),
        ([BEGIN, Fill(nbytes=MIB), CHASE, ShowPages(pages=[10**6], segments=[])], Refusal),
    ],
)
async def test_both_sides_are_told(script: Sequence[Message], refusal: type[Refusal]) -> None:
    met: list[BaseException] = []

    async def authority(talk: Conversation) -> None:
        try:
            for message in script:
                await talk.tell(message)
            while True:
                await talk.read(timeout_s=5)
        except (Refusal, PeerLost) as error:
            met.append(error)

    with pytest.raises((refusal, AdmissionError)):
        await authority_script(authority)
    await until(lambda: bool(met))
    assert [isinstance(one, refusal) for one in met] == [True]


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x81\xa1t\xa7verdict", encode(Certify(measurements=[b"x"]))])
async def test_bytes_that_do_not_parse(raw: bytes) -> None:
    async def authority(talk: Conversation) -> None:
        await talk.stream.write(raw)
        await asyncio.sleep(0.2)

    with pytest.raises(Malformed):
        await authority_script(authority)


async def test_a_chain_that_takes_for_ever_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provers, "COMPUTE_S", 0.2)
    met: list[Refusal] = []

    async def authority(talk: Conversation) -> None:
        await talk.ask(BEGIN, Started, timeout_s=5)
        try:
            question = Compute(kind="prefill", round=0, nonce=NONCE, steps=2**15)
            await talk.ask(question, Committed, timeout_s=60)
        except Refusal as refusal:
            met.append(refusal)

    with pytest.raises(TooLarge, match="gives to one question"):
        await authority_script(authority)
    await until(lambda: bool(met))
    assert isinstance(met[0], TooLarge)


async def test_an_authority_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def queue(talk: Conversation) -> None:
        await talk.tell(Queued(place=2, waiting=3))
        await asyncio.sleep(60)

    monkeypatch.setattr(desk, "QUEUE_SILENCE_S", 0.1)
    with pytest.raises(CallTimeout):
        await authority_script(queue)

    async def begin(talk: Conversation) -> None:
        await talk.ask(BEGIN, Started, timeout_s=5)
        await asyncio.sleep(60)

    monkeypatch.setattr(desk, "SILENCE_S", 0.1)
    with pytest.raises(CallTimeout):
        await authority_script(begin)


async def test_an_authority_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_S", 0.3)

    async def endless(talk: Conversation) -> None:
        await talk.ask(BEGIN, Started, timeout_s=5)
        with pytest.raises(PeerLost):
            while True:
                await talk.ask(ECHO, Echo, timeout_s=5)
                await asyncio.sleep(0.01)

    with pytest.raises(CallTimeout, match="did not end"):
        await authority_script(endless)


async def test_an_authority_that_vanishes_leaves_nothing_behind() -> None:
    filled: list[Prover] = []

    class Watched(Prover):
        def on_fill(self, question: Fill) -> Filled:
            filled.append(self)
            return super().on_fill(question)

    async def vanish(talk: Conversation) -> None:
        await talk.ask(BEGIN, Started, timeout_s=5)
        await talk.ask(Fill(nbytes=MIB), Filled, timeout_s=5)

    with pytest.raises(PeerLost):
        await authority_script(vanish, prover=Watched)
    assert filled[0].memory is None


def test_hello_says_no_more_than_fits() -> None:
    assert isinstance(HELLO, Hello)
    assert len(HELLO.addresses) == 8
    assert HELLO.certificate == b""


async def test_a_renewal_fills_no_memory() -> None:
    async def script(talk: Conversation) -> None:
        await talk.ask(BEGIN, Started, timeout_s=5)
        await talk.tell(Fill(nbytes=256 * 1024))
        await talk.read(timeout_s=5)

    with pytest.raises(TooLarge):
        await authority_script(script, certificate=b"the one that is to be renewed")
