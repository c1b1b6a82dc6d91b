"""Starts p2pd without a copy of this process: that takes 50 ms where torch is loaded, and all its tasks wait meanwhile.

uvloop copies (fork), and waits until the copy has become p2pd: half a second where twenty others want the processor.
The standard library's Popen does without the copy on Linux (vfork): about a millisecond, however busy the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Mapping


class Child:
    """What hivemind uses of ``asyncio.subprocess.Process``. Made by ``spawn``."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdout: asyncio.StreamReader, pipe: asyncio.ReadTransport
    ) -> None:
        self.pid = process.pid
        self.stdout = stdout
        self._process = process
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        threading.Thread(target=self._await_end, daemon=True, name=f"child-{self.pid}").start()

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    async def wait(self) -> int:
        """Its exit status, once it has ended. What it wrote and nobody has read is dropped then."""
        status: int = await asyncio.shield(self._ended)
        self._pipe.close()
        return status

    def _await_end(self) -> None:
        status = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended.set_result, status)


async def spawn(*args: str, stdout: int, stderr: int, env: Mapping[str, str]) -> Child:
    """Stands in for ``asyncio.create_subprocess_exec``; ``stdout`` must be a pipe.

    Raises:
        OSError: there is no such program, or it cannot be run.
    """
    process = subprocess.Popen(args, stdout=stdout, stderr=stderr, env=env)  # noqa: ASYNC220, S603  # see above
    reader = asyncio.StreamReader()
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        return Child(process, reader, pipe)
    except BaseException:
        process.kill()
        raise
