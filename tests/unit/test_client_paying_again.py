"""Nodes that have a client pay for the same prompt again and again: what is paid ahead is lost, but not without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gridllm.errors import Refusal, SessionExists, UnknownSession
from gridllm.identity.statement import read_unverified
from gridllm.ledger.statements import VOUCHER_TYPE, Voucher
from gridllm.node.service.replies import refused, send
from gridllm.swarm.link import Link
from gridllm.wire.messages import AnyMessage, Close, Open, Owing, Pay, Ready, Resume
from gridllm_client.paying import MOST_FED
from tests.unit.memory_grid import MemoryNode
from tests.unit.paid_grid import PaidGrid, generate, paid
from tests.unit.tiny_models import LAYERS, Tiny, make_model

PROMPT = 300

Answer = Callable[[Link, AnyMessage, bytearray], None]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
async def grid(tiny: Tiny, tmp_path: Path) -> AsyncIterator[PaidGrid]:
    """Its tail is chosen first, and there is another."""
    async with paid(tiny.folder, LAYERS, (0, 4, 5), tmp_path, window_tokens=8) as grid:
        await grid.add(4, 5, blocks_per_s=1.0)
        yield grid


class Forgetful:
    """Counts whatever it was paid for, holds nothing, and has something odd to say of each step."""

    def __init__(self) -> None:
        self.paid = 0  # tokens
        self._client: Link | None = None

    def __call__(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        if isinstance(message, Open | Resume):
            self._client = link
            send(link, Ready(message.call, message.session, [0], 0, 10**6, self.paid, 0))
        elif isinstance(message, Pay) and message.voucher:
            self.paid = read_unverified(message.voucher, Voucher, VOUCHER_TYPE)[0].prefill
        elif not isinstance(message, Pay | Close) and self._client is not None:
            send(self._client, refused(UnknownSession("Once more."), message.session))  # type: ignore[union-attr]


def contrary(link: Link, message: AnyMessage, body: bytearray) -> None:
    """Neither opens nor resumes a session."""
    if isinstance(message, Open | Resume):
        refusal: Refusal = SessionExists("It is here.") if isinstance(message, Open) else UnknownSession("Where?")
        send(link, refused(refusal, message.session, message.call))


class Nagging:
    """Asks for a voucher that it has, and goes on asking."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def __call__(self, link: Link, message: AnyMessage, body: bytearray) -> None:
        if isinstance(message, Open | Resume):
            send(link, Ready(message.call, message.session, [0], 0, 10**6, 0, 0))
            if self._task is None:
                self._task = asyncio.create_task(self._ask(link, message.session))

    async def _ask(self, link: Link, session: bytes) -> None:
        while True:
            send(link, Owing(session, 0, 0, 0, "Pay."))
            await asyncio.sleep(self._every_s)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


def turn(node: MemoryNode, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.service, "take", answer)


async def test_a_node_that_is_fed_the_prompt_again_and_again_is_left(
    grid: PaidGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar, answer = grid.listed[1], Forgetful()
    turn(liar, answer, monkeypatch)
    session = grid.session(tokens=PROMPT + 5)
    await generate(session, PROMPT, 3)
    session.close()
    assert liar.record.peer not in {peer for peer, _, _ in session.chain}
    assert PROMPT < answer.paid <= MOST_FED * PROMPT


async def test_a_node_that_neither_opens_nor_resumes_costs_one_new_beginning(
    grid: PaidGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = grid.listed[1]
    turn(liar, contrary, monkeypatch)
    session = grid.session(tokens=PROMPT + 5)
    await generate(session, PROMPT, 3)
    session.close()
    assert liar.record.peer not in {peer for peer, _, _ in session.chain}
    assert len({key.session for key in session._payer._tabs}) == 2  # type: ignore[union-attr]


async def test_a_node_that_asks_again_and_again_for_what_it_has_is_left(
    grid: PaidGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar, answer = grid.listed[1], Nagging(0.02)
    turn(liar, answer, monkeypatch)
    session = grid.session(tokens=PROMPT + 5)
    await asyncio.wait_for(generate(session, PROMPT, 3), 30)
    session.close()
    answer.stop()
    assert liar.record.peer not in {peer for peer, _, _ in session.chain}
    (event,) = [event for event in grid.events if event.kind == "repaired"]
    assert "again and again for a voucher" in event.text


async def test_asking_for_what_was_signed_is_no_sign_of_work(grid: PaidGrid) -> None:
    """Or a node that asks now and then holds a session up for ever."""
    session = grid.session(tokens=PROMPT + 5)
    await generate(session, PROMPT, 3)
    tail = session._chain.hops[-1]
    assert tail.tab is not None
    session._last_sign = 1.0
    session.on_owing(tail.peer, Owing(session._chain.id, 0, 0, tail.tab.signed, "Pay."))
    assert session._last_sign == 1.0
    session.on_owing(tail.peer, Owing(session._chain.id, 0, 0, tail.tab.signed + 1, "Pay."))
    assert session._last_sign > 1.0 and tail.tab.signed == tail.tab.owed, "a new voucher may let it go on"
    session.close()
