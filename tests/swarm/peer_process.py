"""A participant in a process of its own, for tests that kill or freeze one: answers calls and echoes links.

Prints its address, then runs until its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.interface import Stream
from gridllm.swarm.link import LINK_STREAM, Link

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


class PeerProcess:
    """Handle on the process, from the test's side."""

    def __init__(self, process: asyncio.subprocess.Process, peer: PeerId, address: str) -> None:
        self.process = process
        self.peer = peer
        self.address = address

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the Python process alone; its p2pd runs on."""
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def peer_process(*initial_peers: str) -> AsyncIterator[PeerProcess]:
    """Start a participant on loopback; ends it however the test left it."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *initial_peers,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        yield PeerProcess(process, PeerId(told["peer"]), told["address"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def answer(peer: PeerId, payload: bytes) -> bytes:
    """Who asked, and what."""
    return peer.encode() + payload


async def echo_link(stream: Stream) -> None:
    """Sends every message back."""
    link = Link(stream, on_message=lambda k, message, body: k.send(message, body), opener=False)
    with contextlib.suppress(GridError):
        await link.run()


async def main(initial_peers: list[str]) -> None:
    """The participant."""
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(Identity.ephemeral(), host_maddrs=LOOPBACK, initial_peers=initial_peers)
    await swarm.serve_calls("test", answer)
    await swarm.serve_streams(LINK_STREAM, echo_link)
    sys.stdout.write(json.dumps({"peer": swarm.peer, "address": swarm.addresses[0]}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await swarm.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
