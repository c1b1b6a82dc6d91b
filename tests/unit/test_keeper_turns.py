"""Who is written when: many escrows hold up neither vouchers nor copies, nor the other way round."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from gridllm.errors import Full
from gridllm.identity.keys import Identity
from gridllm.ledger.store.batch import Batch
from gridllm_bootstrap.keeping import desk as desks
from gridllm_bootstrap.keeping.turns import MOST_TOGETHER, Job, Turns
from gridllm_bootstrap.keeping.writing import Task
from tests.ledgers import Scribe, hex_of, homed
from tests.unit.keeper_desk import IDENTITY, desk, wish

HALF = MOST_TOGETHER // 2


async def job(name: str, weight: int = 1, log: str | None = None) -> Job:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_result(name)
    return Job(Task(lambda batch, now_s: None, log=log), answer, weight)


def names(jobs: list[Job]) -> list[str]:
    return [one.answer.result() for one in jobs]


async def test_escrows_have_half_of_a_transaction_and_keep_their_order() -> None:
    turns = Turns()
    for number in range(20):
        turns.add(await job(f"escrow {number}", 64), escrows=True)
        turns.add(await job(f"voucher {number}"))
    assert turns.escrows_waiting == 20 * 64
    taken = names(turns.take())
    most = HALF // 64
    assert taken[:most] == [f"escrow {number}" for number in range(most)]
    assert taken[most:] == [f"voucher {number}" for number in range(20)]
    assert turns.escrows_waiting == (20 - most) * 64
    assert names(turns.take()) == [f"escrow {number}" for number in range(most, 2 * most)]


async def test_vouchers_leave_escrows_their_half() -> None:
    turns = Turns()
    for number in range(2 * MOST_TOGETHER):
        turns.add(await job(f"voucher {number}"))
    turns.add(await job("escrow", 64), escrows=True)
    taken = names(turns.take())
    assert taken[0] == "escrow"
    assert len(taken) == 1 + MOST_TOGETHER - 64


async def test_a_copy_goes_alone_after_one_transaction_of_escrows() -> None:
    turns = Turns()
    turns.add(await job("copy 1", log="other"))
    turns.add(await job("copy 2", log="other"))
    turns.add(await job("voucher"))
    went = []
    for _ in range(6):
        for _ in range(20):
            turns.add(await job("escrow", 64), escrows=True)  # they come faster than they are written
        went.append(names(turns.take()))
    few = ["escrow"] * (HALF // 64)
    assert went == [few, ["copy 1"], few, ["copy 2"], [*few, "voucher"], few]


async def test_what_is_too_heavy_for_half_goes_all_the_same() -> None:
    turns = Turns()
    turns.add(await job("escrow", MOST_TOGETHER), escrows=True)
    turns.add(await job("voucher"))
    assert [names(turns.take()), names(turns.take()), bool(turns)] == [["escrow"], ["voucher"], False]


async def test_a_crowd_that_asks_for_escrows_leaves_room_for_vouchers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MOST_WAITING", 10)
    scribe, node = Scribe(), Identity.ephemeral()
    payer = homed(scribe.signed, hex_of(IDENTITY))
    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        await keeper.submit([scribe.enrolment(node).raw, scribe.grant(payer, 1000).raw])
        wishes = [[wish(node, 1, f"{10 * n + k:032x}") for k in range(3)] for n in range(3)]
        asked = asyncio.gather(*(keeper.escrows(hex_of(payer), some) for some in wishes), return_exceptions=True)
        submitted = asyncio.create_task(keeper.submit([scribe.grant(payer, n).raw for n in range(1, 6)]))
        answers = await asked
        assert [isinstance(one, Full) for one in answers] == [False, True, True]
        assert {one.code for one in await submitted} == {"accepted"}
        assert keeper._waiting == 0


async def test_nobody_complains_of_an_answer_that_its_caller_did_not_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scribe = Scribe()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    def fails(self: Batch, entry: object) -> bool:
        raise RuntimeError("the disk is gone")

    async with desk(tmp_path / "ledger.sqlite", scribe) as keeper:
        monkeypatch.setattr(Batch, "append", fails)
        asking = asyncio.create_task(keeper.submit([scribe.grant(Identity.ephemeral(), n).raw for n in range(1, 6)]))
        async with asyncio.timeout(60):
            while not keeper._turns:  # noqa: ASYNC110 - plain data
                await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            while keeper._waiting:  # noqa: ASYNC110 - plain data
                await asyncio.sleep(0.01)
        monkeypatch.undo()
    del asking
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
