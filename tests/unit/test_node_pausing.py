"""Sessions that are paid for, and sessions that are not, on a real node: what goes on, what waits, what ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import gridllm.node.service.pausing as pausing
from gridllm.engine.attention import RAGGED, register
from gridllm.engine.runner import Engine
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.models.span import load_span
from gridllm.node.service.service import NodeService
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Close, Open, Output, Owing, Pay, Ready, Refused, Resume, RowSlice, Step
from gridllm.wire.tensor import pack
from tests.charters import ENTRY
from tests.unit.node_paying import SID, Clock, Desk, Payer, Wire, purse_of, scribe, till_of
from tests.unit.notes import until
from tests.unit.tiny_models import LAYERS, Tiny, make_model

RICH = 10**9
SPAN = {"start": 0, "end": LAYERS}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_model("llama", tmp_path_factory.mktemp("model"))


class Bench:
    """One paid node, one paying client."""

    def __init__(self, engine: Engine, folder: Path, **economy: Any) -> None:
        self.network = MemoryNetwork()
        self.scribe = scribe(**economy)
        self.clock, self.desk = Clock(), Desk(self.scribe.signed)
        self.purse = purse_of(folder, self.clock)
        self.node = Identity.ephemeral()
        self.swarm = self.network.join(self.node)
        self.engine = engine
        till = till_of(self.scribe, self.node, self.desk, self.purse, self.clock)
        self.service = NodeService(self.swarm, engine, ModelRoot(ENTRY.root), till=till)
        self.payer = Payer(self.scribe, self.node)
        self.wire = Wire(self.network.join(self.payer.connection))
        self.step = 0
        self.length = 0

    def cost(self, prefill: int, decode: int) -> int:
        return self.scribe.price(prefill, decode, 0, LAYERS)

    async def open(self, micro: int = RICH, **changes: Any) -> Ready:
        payment = self.payer.payment(micro, **SPAN)
        self.wire.link.send(self.payer.open(payment, **SPAN | changes))
        ready = await self.wire.hears(Ready)
        assert isinstance(ready, Ready)
        return ready

    def send(self, tokens: int = 1, *, epoch: int = 0, replay: bool = False) -> None:
        self.step += 1
        slices = [RowSlice(0, 0, self.length, tokens, 1)]
        self.length += tokens
        hidden = torch.randn(tokens, self.engine.span.hidden_size)
        self.wire.link.send(Step(SID, epoch, self.step, slices, replay), pack(hidden))

    def pay(self, prefill: int = 0, decode: int = 0, **more: Any) -> None:
        voucher = self.payer.voucher(prefill, decode, **SPAN) if prefill or decode else b""
        self.wire.link.send(Pay(SID, voucher, **more))

    async def outputs(self, count: int) -> None:
        await self.wire.hears(Output, count)
        await asyncio.sleep(0.02)
        heard = sum(isinstance(m, Output) for m in self.wire.heard)
        assert heard == count, f"{heard} outputs came"

    @property
    def paused(self) -> list[int]:
        return [len(session.held) for session in self.service._sessions]


@asynccontextmanager
async def bench_of(tiny: Tiny, folder: Path, **economy: Any) -> AsyncIterator[Bench]:
    register()
    engine = Engine(load_span(tiny.folder, None, 0, LAYERS, attn=RAGGED), cache_tokens=8192)
    engine.start()
    bench = Bench(engine, folder, **economy)
    async with bench.purse:
        await bench.service.start()
        try:
            await bench.wire.join(bench.swarm)
            yield bench
            await bench.wire.close()
        finally:
            await asyncio.wait_for(bench.service.stop(), 60)
            await engine.stop()


@pytest.fixture
async def bench(tiny: Tiny, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_of(tiny, tmp_path) as bench:
        yield bench


async def test_a_window_beyond_the_voucher_then_a_pause_then_on_in_order(bench: Bench) -> None:
    ready = await bench.open()
    assert (ready.prefill, ready.decode) == (0, 0)
    for _ in range(14):
        bench.send()
    await bench.outputs(10)
    owing = await bench.wire.hears(Owing)
    assert (owing.prefill, owing.decode, owing.micro) == (0, 10, bench.cost(0, 11) - bench.cost(0, 10) - 1)
    assert bench.paused == [4]
    bench.pay(decode=2)
    await bench.outputs(12)
    owing = await bench.wire.hears(Owing, 2)
    assert owing.decode == 12 and bench.paused == [2]
    bench.pay(decode=14)
    await bench.outputs(14)
    assert bench.paused == [0]
    steps = [m.step for m in bench.wire.heard if isinstance(m, Output)]
    assert steps == sorted(steps)
    assert [m for m in bench.wire.heard if isinstance(m, Refused)] == []
    bench.wire.link.send(Close(SID))
    await until(lambda: bench.service.sessions == 0)
    (slip,) = bench.purse.slips()
    assert slip.micro == bench.cost(0, 14) and slip.closed_at is not None
    assert bench.purse.left_unpaid(bench.payer.account) == 0


async def test_a_prompt_paid_ahead_never_pauses(bench: Bench) -> None:
    await bench.open()
    bench.pay(prefill=300)
    for _ in range(3):
        bench.send(100)
    await bench.outputs(3)
    assert not any(isinstance(m, Owing) for m in bench.wire.heard)


async def test_a_raised_escrow_lets_it_go_on(bench: Bench) -> None:
    await bench.open(bench.cost(0, 12))
    bench.pay(decode=100)
    for _ in range(25):
        bench.send()
    await bench.outputs(22)
    owing = await bench.wire.hears(Owing)
    assert "escrow" in owing.text
    bench.pay(escrow=bench.payer.escrow(RICH, **SPAN))
    await bench.outputs(25)


async def test_without_a_voucher_it_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "UNPAID_S", 0.3)
    await bench.open()
    for _ in range(11):
        bench.send()
    refused = await bench.wire.hears(Refused)
    assert (refused.code, refused.session) == ("unpaid", SID)
    assert "no voucher came" in refused.message
    assert bench.service.sessions == 0 and bench.engine.budget.free == bench.engine.budget.total
    assert bench.purse.left_unpaid(bench.payer.account) == bench.cost(0, 10)
    assert bench.service._pauses._bytes == 0


async def test_nobody_else_pays_or_steps_into_it(bench: Bench) -> None:
    await bench.open()
    for _ in range(11):
        bench.send()
    await bench.wire.hears(Owing)
    other = await Wire(bench.network.join(Identity.ephemeral())).join(bench.swarm)
    other.link.send(Pay(SID, bench.payer.voucher(0, 11, **SPAN)))
    other.link.send(Step(SID, 0, 99, [RowSlice(0, 0, 11, 1, 1)]), pack(torch.randn(1, bench.engine.span.hidden_size)))
    await other.hears(Refused, code="not_upstream")
    await bench.outputs(10)
    assert bench.paused == [1]
    await other.close()


async def test_a_bad_voucher_is_named_and_changes_nothing(bench: Bench) -> None:
    await bench.open()
    for _ in range(11):
        bench.send()
    await bench.wire.hears(Owing)
    bench.wire.link.send(Pay(SID, bench.payer.voucher(0, 11, micro=bench.cost(0, 12), **SPAN)))
    refused = await bench.wire.hears(Refused)
    assert refused.code == "bad_payment"
    assert bench.paused == [1]
    bench.pay(decode=11)
    await bench.outputs(11)


async def test_what_is_good_of_a_payment_lets_it_go_on(bench: Bench) -> None:
    await bench.open()
    for _ in range(11):
        bench.send()
    await bench.wire.hears(Owing)
    bench.pay(decode=11, access=b"no pass")
    await bench.wire.hears(Refused, code="bad_payment")
    await bench.outputs(11)


async def test_a_client_that_pays_too_often_holds_up_nobody_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.open()
    till = bench.service._till
    monkeypatch.setattr(till, "affords", lambda client, pay: client != bench.wire.swarm.peer)
    bench.pay(decode=5)
    other = Payer(bench.scribe, bench.node)
    wire = await Wire(bench.network.join(other.connection)).join(bench.swarm)
    sid = bytes(16)
    wire.link.send(other.open(other.payment(RICH, session=sid.hex(), **SPAN), session=sid, **SPAN))
    await wire.hears(Ready)
    wire.link.send(Pay(sid, other.voucher(0, 9, session=sid.hex(), **SPAN)))
    mine, theirs = bench.service._sessions
    await until(lambda: theirs.terms.bill.claimed == bench.cost(0, 9))
    assert mine.terms.bill.claimed == 0
    await wire.close()
    bench.wire.link.send(Close(SID))
    await until(lambda: mine.terms.bill.claimed == bench.cost(0, 5))


async def test_a_resume_drops_what_was_held_and_the_count_says_so(bench: Bench) -> None:
    await bench.open()
    for _ in range(13):
        bench.send()
    await bench.wire.hears(Owing)
    await bench.outputs(10)
    peer = bench.wire.swarm.peer
    bench.wire.link.send(Resume(2, SID, 1, peer, None, [10], 13, [10]))
    ready = await bench.wire.hears(Ready, call=2)
    assert (ready.lengths, ready.step, ready.prefill, ready.decode) == ([10], 10, 0, 10)
    assert bench.paused == [0] and bench.service._pauses._bytes == 0
    bench.length, bench.step = 10, 20
    bench.pay(prefill=3, decode=10)
    bench.send(3, epoch=1, replay=True)
    await bench.outputs(11)
    (session,) = bench.service._sessions
    assert tuple(session.terms.bill.meter.count) == (3, 10)
    bench.send(epoch=1)
    await bench.outputs(12)


async def test_a_close_frees_what_was_held(bench: Bench) -> None:
    await bench.open()
    for _ in range(13):
        bench.send()
    await bench.wire.hears(Owing)
    bench.wire.link.send(Close(SID))
    await until(lambda: bench.service.sessions == 0)
    assert bench.service._pauses._bytes == 0


async def test_what_is_held_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "SESSION_STEPS", 5)
    await bench.open()
    for _ in range(16):
        bench.send()
    refused = await bench.wire.hears(Refused)
    assert refused.code == "unpaid" and "more of its steps" in refused.message


async def test_of_all_sessions_the_one_that_waits_longest_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.open()
    monkeypatch.setattr(pausing, "HELD_BYTES", 12 * pausing.STEP_BYTES)
    for _ in range(18):
        bench.send()
    await bench.wire.hears(Owing)
    other = Payer(bench.scribe, bench.node)
    wire = await Wire(bench.network.join(other.connection)).join(bench.swarm)
    sid = bytes(16)
    wire.link.send(other.open(other.payment(RICH, session=sid.hex(), **SPAN), session=sid, **SPAN))
    await wire.hears(Ready)
    hidden = torch.randn(100, bench.engine.span.hidden_size)
    for step in range(8):
        slices = [RowSlice(0, 0, 100 * step, 100, 1)]
        wire.link.send(Step(sid, 0, step + 1, slices), pack(hidden))
    refused = await bench.wire.hears(Refused)
    assert refused.code == "unpaid" and "too many steps" in refused.message
    await wire.close()


async def test_unmetered_sessions_are_as_before(tiny: Tiny, tmp_path: Path) -> None:
    async with bench_of(tiny, tmp_path, newcomers="lowest") as bench:
        bench.wire.link.send(bench.payer.open(None, **SPAN))
        await bench.wire.hears(Ready)
        for _ in range(40):
            bench.send()
        await bench.outputs(40)
        bench.pay(decode=1)
        bench.wire.link.send(Close(SID))
        await until(lambda: bench.service.sessions == 0)
        assert list(bench.purse.slips()) == []


async def test_an_open_that_is_not_paid_is_refused(bench: Bench) -> None:
    bench.wire.link.send(bench.payer.open(None, **SPAN))
    refused = await bench.wire.hears(Refused)
    assert refused.code == "not_entitled" and refused.call == 1
    forged: Open = bench.payer.open(bench.payer.payment(RICH, start=1, end=LAYERS), **SPAN)
    bench.wire.link.send(forged)
    refused = await bench.wire.hears(Refused, 2)
    assert refused.code == "bad_payment"
    assert bench.service.sessions == 0


async def test_a_session_opened_anew_goes_on_with_its_bill(bench: Bench) -> None:
    await bench.open()
    bench.pay(decode=7)
    for _ in range(7):
        bench.send()
    await bench.outputs(7)
    bench.wire.link.send(Close(SID))
    await until(lambda: bench.service.sessions == 0)
    bench.wire.link.send(bench.payer.open(bench.payer.payment(RICH, **SPAN), **SPAN | {"call": 2}))
    ready = await bench.wire.hears(Ready, call=2)
    assert (ready.prefill, ready.decode, ready.lengths) == (0, 7, [0])


async def test_vouchers_beyond_the_rate_wait_and_are_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.open()
    allowed = [False]
    monkeypatch.setattr(bench.service._till, "affords", lambda client, pay: allowed[0])
    bench.pay(decode=5)
    bench.pay(decode=12)
    bench.pay(escrow=bench.payer.escrow(RICH + 1, **SPAN))
    for _ in range(12):
        bench.send()
    await bench.outputs(10)
    allowed[0] = True
    await bench.outputs(12)
    (session,) = bench.service._sessions
    assert session.terms.bill.escrow == RICH + 1


async def test_the_session_s_class_reaches_the_engine(tiny: Tiny, tmp_path: Path) -> None:
    async with bench_of(tiny, tmp_path, classes=(10**6,)) as bench:
        seen: list[int] = []
        submit = bench.engine.submit

        def noting(*args: Any, priority: int = 0) -> None:
            seen.append(priority)
            submit(*args, priority=priority)

        bench.engine.submit = noting  # type: ignore[method-assign, assignment]
        gift = bench.payer.payment(RICH, gift=True, **SPAN)
        bench.wire.link.send(bench.payer.open(gift, **SPAN))
        await bench.wire.hears(Ready)
        bench.send()
        await bench.outputs(1)
        bench.pay(escrow=bench.payer.escrow(RICH, **SPAN))
        bench.send()
        await bench.outputs(2)
        bench.pay(access=bench.payer.access(10**6))
        bench.send()
        await bench.outputs(3)
        assert seen == [0, 1, 2]
