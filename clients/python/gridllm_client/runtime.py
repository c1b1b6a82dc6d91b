"""The event loop of a Grid, in a thread of its own, and the ways in and out of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar

from gridllm.errors import UsageError

T = TypeVar("T")

JOIN_TIMEOUT_S: Final = 5.0
_END: Final = object()


class Runtime:
    """One loop, one thread, owned by one Grid. Nothing here waits for itself, so it may be dropped anywhere."""

    def __init__(self) -> None:
        import uvloop

        self._loop = uvloop.new_event_loop()
        self._ended = asyncio.Event()  # set once or twice; stopping the loop twice would break off its last clean-up
        self._thread = threading.Thread(target=self._serve, name="gridllm-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and wait for it; an interrupted wait cancels it.

        Raises:
            UsageError: called from the loop itself, where waiting would wait for ever.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise UsageError("A blocking call was made from the grid's own event loop; use its async twin there.")
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop, awaited from any loop."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(self.start(work))

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin ``work`` on the loop.

        Raises:
            UsageError: the grid is closed.
        """
        if self._loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise UsageError("The grid is closed; open a new one with Grid().")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Hand out what ``items`` gives on the loop, in the caller's thread; leaving early ends it."""
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        future = self.start(_drain(items, waiting.put))
        try:
            while (item := waiting.get()) is not _END:
                yield item
            future.result()
        finally:
            future.cancel()

    async def aiterate(self, items: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        """Hand out what ``items`` gives on the loop, awaited from any loop; leaving early ends it."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            async for item in items:
                yield item
            return
        waiting: asyncio.Queue[Any] = asyncio.Queue()
        future = self.start(_drain(items, lambda item: loop.call_soon_threadsafe(waiting.put_nowait, item)))
        try:
            while (item := await waiting.get()) is not _END:
                yield item
            await asyncio.wrap_future(future)
        finally:
            future.cancel()

    def soon(self, action: Any, *args: Any) -> None:
        """Call ``action`` on the loop some time; for finalizers: never waits, never raises."""
        try:
            self._loop.call_soon_threadsafe(action, *args)
        except RuntimeError:
            return  # the loop is closed, and what was to be cleaned up with it

    def close(self, goodbye: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Run ``goodbye``, then end the loop and its thread. Called from the loop's thread, it only starts that."""
        if self._loop.is_closed() or not self._thread.is_alive():
            goodbye.close()
            return
        future = asyncio.run_coroutine_threadsafe(goodbye, self._loop)
        future.add_done_callback(lambda _: self.soon(self._ended.set))
        if threading.current_thread() is self._thread:
            return
        try:
            future.result(timeout_s)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
        finally:
            self.soon(self._ended.set)
            self._thread.join(JOIN_TIMEOUT_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._ended.wait())
            leftover = asyncio.all_tasks(self._loop)
            for task in leftover:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


async def _drain(items: AsyncGenerator[T, None], put: Any) -> None:
    try:
        async for item in items:
            put(item)
    finally:
        await items.aclose()
        put(_END)
