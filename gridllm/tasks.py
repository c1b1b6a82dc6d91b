"""Tasks beside each other: started together, the first that ends decides, and none is left behind."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


async def end(*tasks: Future[Any]) -> None:
    """Cancel them, and return once they ended. What they raise in their end concerns nobody any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@overload
def racing(one: Awaitable[A], two: Awaitable[B], /) -> AbstractAsyncContextManager[tuple[Future[A], Future[B]]]: ...
@overload
def racing(
    one: Awaitable[A], two: Awaitable[B], three: Awaitable[C], /
) -> AbstractAsyncContextManager[tuple[Future[A], Future[B], Future[C]]]: ...
@overload
def racing(*works: Awaitable[Any]) -> AbstractAsyncContextManager[tuple[Future[Any], ...]]: ...


def racing(*works: Awaitable[Any]) -> AbstractAsyncContextManager[tuple[Future[Any], ...]]:
    """Start all, and enter the block when the first has ended; the others are ended when the block is left.

    ``async with racing(work(), stop.wait()) as (working, stopping): …``. More than one may be done by then; a result is
    looked at with ``done()`` and ``result()``, which raises what its task raised.
    """
    return _racing(*works)


@asynccontextmanager
async def _racing(*works: Awaitable[Any]) -> AsyncGenerator[tuple[Future[Any], ...], None]:
    tasks = tuple(asyncio.ensure_future(work) for work in works)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        yield tasks
    finally:
        await end(*tasks)
