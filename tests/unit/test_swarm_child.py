"""The stand-in for asyncio's own way to start a process: what hivemind needs of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import uvloop

from gridllm.swarm import hivemind_parts
from gridllm.swarm.child import Child, spawn


async def start(code: str) -> Child:
    """A Python that runs ``code``."""
    return await spawn(
        sys.executable, "-I", "-c", code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ)
    )


async def said_and_ended() -> tuple[list[bytes], int]:
    """Lines of both its outputs, and the exit status."""
    child = await start("import sys; print('ready', flush=True); print('oops', file=sys.stderr); sys.exit(3)")
    lines = [await child.stdout.readline() for _ in range(3)]
    return lines, await child.wait()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_is_heard_and_its_end_is_told(factory: object) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]
        lines, status = runner.run(said_and_ended())
    assert (lines, status) == ([b"ready\n", b"oops\n", b""], 3)


async def test_it_is_ended_and_may_be_waited_for_twice() -> None:
    child = await start("import time; time.sleep(60)")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.wait()
    assert child.returncode is None
    child.terminate()
    assert [await child.wait(), await child.wait(), child.returncode] == [-signal.SIGTERM] * 3
    child.kill()  # too late, and no error


async def test_a_missing_program_is_told_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        await spawn("/nowhere/p2pd", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={})


def test_hivemind_starts_its_daemon_so() -> None:
    daemon_module = sys.modules["hivemind.p2p.p2p_daemon"]
    assert daemon_module.asyncio.subprocess.create_subprocess_exec is spawn
    assert asyncio.subprocess.create_subprocess_exec is not spawn, "only hivemind's"
    assert hivemind_parts.P2P.__module__ == "hivemind.p2p.p2p_daemon"
