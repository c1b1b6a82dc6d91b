"""A line of so many bytes a second, shared by all streams that a reader opens: for the in-memory swarm."""

from __future__ import annotations

import asyncio
from collections import deque

from gridllm.errors import GridError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Frame, Stream
from gridllm.swarm.memory import MemorySwarm
from gridllm.wire.messages import MAX_BODY_BYTES

CHUNK_BYTES = 8 * 1024  # streams take turns by so much


class SlowLine:
    """A swarm whose streams bring their bytes over one line. What is not overridden is the swarm's own."""

    def __init__(self, swarm: MemorySwarm, bytes_per_s: float) -> None:
        self.peer = swarm.peer
        self.connect = swarm.connect
        self.chunk_s = CHUNK_BYTES / bytes_per_s
        self.turn = asyncio.Lock()  # is fair
        self._swarm = swarm

    async def open_stream(
        self, peer: PeerId, name: str, *, timeout_s: float = 5.0, max_body_bytes: int = MAX_BODY_BYTES
    ) -> Stream:
        return _Slow(await self._swarm.open_stream(peer, name, max_body_bytes=max_body_bytes), self)


class _Slow:
    """A stream's near end."""

    def __init__(self, inner: Stream, line: SlowLine) -> None:
        self.peer = inner.peer
        self.heard_at = inner.heard_at
        self.write, self.send = inner.write, inner.send
        self._inner = inner
        self._line = line
        self._here: deque[Frame] = deque()
        self._end: GridError | None = None
        self._news = asyncio.Event()
        self._sent: asyncio.Queue[Frame | GridError] = asyncio.Queue()  # what buffers on the way hold
        self._tasks = [asyncio.create_task(work) for work in (self._take(), self._bring())]

    @property
    def waiting_bytes(self) -> int:
        return self._inner.waiting_bytes

    async def read(self) -> Frame:
        while not self._here:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()
        return self._here.popleft()

    def abort(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._inner.abort()

    async def close(self) -> None:
        self.abort()

    async def _take(self) -> None:
        try:
            while True:
                self._sent.put_nowait(await self._inner.read())
        except GridError as error:
            self._sent.put_nowait(error)

    async def _bring(self) -> None:
        """Over the line come the bytes of one frame after the other."""
        while not isinstance(frame := await self._sent.get(), GridError):
            for _ in range(0, len(frame.header) + len(frame.body), CHUNK_BYTES):
                async with self._line.turn:
                    await asyncio.sleep(self._line.chunk_s)
                self.heard_at = asyncio.get_running_loop().time()
            self._here.append(frame)
            self._news.set()
        self._end = frame
        self._news.set()
