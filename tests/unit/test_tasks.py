"""Tasks beside each other: the first that ends decides, and none outlives the block."""

from __future__ import annotations

import asyncio

import pytest

from gridllm.tasks import end, racing


class Work:
    """Waits for ever, and knows what became of it."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # an end takes a while: it is waited for
            self.ended = True


async def told(answer: str) -> str:
    await asyncio.sleep(0)
    return answer


async def broken() -> None:
    await asyncio.sleep(0)
    raise LookupError("broken")


async def test_the_first_that_ends_decides_and_the_other_ends_with_the_block() -> None:
    work = Work()
    async with racing(told("won"), work.run()) as (first, second):
        assert first.result() == "won"
        assert not second.done()
        assert not work.ended
    assert work.ended


async def test_what_a_task_raised_is_raised_where_its_result_is_looked_at() -> None:
    work = Work()
    with pytest.raises(LookupError, match="broken"):
        async with racing(broken(), work.run()) as (first, _):
            first.result()
    assert work.ended


async def test_whoever_is_cancelled_while_waiting_leaves_nothing_behind() -> None:
    one, two = Work(), Work()

    async def wait() -> None:
        async with racing(one.run(), two.run()):
            raise AssertionError("neither ends")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await end(waiting)
    assert one.ended
    assert two.ended


async def test_ending_tells_nothing_of_what_the_tasks_raised() -> None:
    failed, running = asyncio.create_task(broken()), asyncio.create_task(Work().run())
    await asyncio.wait([failed])
    await end(failed, running)
    assert running.cancelled()
    await end()
