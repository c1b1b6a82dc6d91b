"""An authority before candidates that answer anything but what was asked: at every question, a named error."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gridllm.admission.examination.prover import Prover
from gridllm.admission.messages import Chased, Echo, Filled, Send, Started
from gridllm.charter.minimums import Admission
from gridllm.errors import Malformed, OutOfTurn, PeerLost, TooLarge
from tests.unit.examinations import Room

QUESTIONS = ("on_begin", "on_echo", "on_chunks", "on_fill", "on_compute")
ALL = (*QUESTIONS, "on_chase")
BULK = ("on_show_pages", "on_show_links")


def prover_with(**methods: Any) -> type[Prover]:
    return type("Muddled", (Prover,), methods)


def wrong_for(question: str) -> Any:
    """A message that belongs to another question."""
    wrong = Started() if question != "on_begin" else Filled(root=bytes(32))
    return (wrong, b"") if question == "on_chase" else wrong


@pytest.mark.parametrize("question", ALL)
async def test_the_wrong_answer_to_each_question(question: str) -> None:
    room = await Room().open()
    with pytest.raises(OutOfTurn, match="belong"):
        await room.visit(prover_with(**{question: lambda self, asked: wrong_for(question)}))
    assert isinstance(room.outcomes[-1], OutOfTurn)
    assert (await room.visit()).reason == ""  # the next one is not held up


class Raw:
    """Stands for a message, and encodes to garbage: put in place of the codec's own."""


@pytest.mark.parametrize("question", ALL)
async def test_garbage_in_place_of_each_answer(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gridllm.admission.examination import conversation

    honest = conversation.encode
    raw = Raw()
    monkeypatch.setattr(conversation, "encode", lambda message: b"\xc1" * 9 if message is raw else honest(message))
    answer = (raw, b"") if question == "on_chase" else raw
    room = await Room().open()
    with pytest.raises(Malformed):
        await room.visit(prover_with(**{question: lambda self, asked: answer}))
    assert isinstance(room.outcomes[-1], Malformed)


@pytest.mark.parametrize("question", BULK)
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa5links\x90", secrets.token_bytes(1000)])
async def test_garbage_in_place_of_what_is_opened(question: str, data: bytes) -> None:
    examined = await (await Room().open()).visit(prover_with(**{question: lambda self, asked: data}))
    assert examined.reason == {"on_show_pages": "memory_invented", "on_show_links": "work_invented"}[question]


@pytest.mark.parametrize("question", BULK)
async def test_more_than_can_belong_to_what_is_opened(question: str) -> None:
    room = await Room().open()
    with pytest.raises(TooLarge):
        await room.visit(prover_with(**{question: lambda self, asked: bytes(8 * 2**20)}))


async def test_more_bytes_than_asked_for() -> None:
    async def flood(self: Prover, question: Send) -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**16)

    with pytest.raises((TooLarge, PeerLost)):
        await (await Room().open()).visit(prover_with(on_send=flood))


async def test_checkpoints_of_another_length() -> None:
    def cut(self: Prover, question: Any) -> tuple[Chased, bytes]:
        message, checkpoints = Prover.on_chase(self, question)
        return message, checkpoints[:-8]

    assert (await (await Room().open()).visit(prover_with(on_chase=cut))).reason == "memory_invented"


async def test_late_echoes_buy_little() -> None:
    """Only a tenth of a round's time can be taken for the way there and back."""
    import time

    def late(self: Prover, question: Echo) -> Echo:
        time.sleep(0.2)  # longer than any round
        return question

    room = await Room(admission=Admission()).open()
    slow = (await room.visit(prover_with(on_echo=late))).figures
    assert slow.rtt_ms > 150
    fastest = 0.0  # of a machine that may have other work just now
    for _ in range(6):
        fastest = max(fastest, (await room.visit()).figures.decode_blocks_per_s)
        if slow.decode_blocks_per_s < 3 * fastest:
            return
    pytest.fail(f"{slow.decode_blocks_per_s} with late echoes, {fastest} without")
