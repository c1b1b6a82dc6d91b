"""What a link costs: round trips of link frames between two processes, beside the bare libp2p stream they run on.

    python benchmarks/transport.py [--sizes 1000 16000 1000000] [--rounds 300] [--uvloop]

Prints JSON: per size and kind, round trip p50 and p99 in milliseconds and CPU per message and side in microseconds
(this process's Python; one message sent and one received make two). ``raw`` is a length-prefixed echo over hivemind's
reader and writer, ``link`` is ``gridllm.swarm.link.Link``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.interface import Stream
from gridllm.swarm.libp2p import Libp2pSwarm, open_swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import Output, RowSlice

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
RAW_STREAM = "benchmark.raw"
MESSAGE = Output(b"s" * 16, 0, 1, [RowSlice(0, 0, 100, 1, 1)])
WARM_UP = 20


async def serve() -> None:
    """The other process: echoes links and raw streams until its input ends."""
    swarm = await open_swarm(Identity.ephemeral(), host_maddrs=LOOPBACK)

    async def echo_link(stream: Stream) -> None:
        link = Link(stream, on_message=lambda k, m, b: k.send(m, b), opener=False)
        try:
            await link.run()
        except GridError:
            await link.close()

    async def echo_raw(_info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = await reader.readexactly(4)
                writer.write(size + await reader.readexactly(struct.unpack("!I", size)[0]))
                await writer.drain()
        except (EOFError, OSError):
            writer.close()

    await swarm.serve_streams(LINK_STREAM, echo_link)
    await swarm._daemon.p2p._client.stream_handler(RAW_STREAM, echo_raw)
    print(json.dumps({"peer": swarm.peer, "address": swarm.addresses[0]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await swarm.close()


async def measure(exchange: Callable[[], Awaitable[None]], rounds: int) -> dict[str, float]:
    """Time ``rounds`` exchanges of one message each way."""
    for _ in range(WARM_UP):
        await exchange()
    took_ms = []
    cpu = time.process_time()
    for _ in range(rounds):
        started = time.perf_counter()
        await exchange()
        took_ms.append((time.perf_counter() - started) * 1e3)
    cpu_us = (time.process_time() - cpu) / rounds / 2 * 1e6
    p99 = statistics.quantiles(took_ms, n=100)[98]
    return {
        "p50_ms": round(statistics.median(took_ms), 3),
        "p99_ms": round(p99, 3),
        "cpu_us_per_message": round(cpu_us, 1),
    }


async def bench_link(swarm: Libp2pSwarm, peer: PeerId, size: int, rounds: int) -> dict[str, float]:
    """Link frames with a body of ``size`` bytes."""
    arrived: asyncio.Queue[int] = asyncio.Queue()
    stream = await swarm.open_stream(peer, LINK_STREAM)
    link = Link(stream, on_message=lambda _, m, b: arrived.put_nowait(len(b)), opener=True)
    run = asyncio.create_task(link.run())
    body = bytes(size)

    async def exchange() -> None:
        link.send(MESSAGE, body)
        await arrived.get()

    result = await measure(exchange, rounds)
    await link.close()
    await run
    return result


async def bench_raw(swarm: Libp2pSwarm, peer: PeerId, size: int, rounds: int) -> dict[str, float]:
    """The same bytes over hivemind's own reader and writer."""
    from gridllm.swarm.hivemind_parts import PeerID

    reader, writer = await swarm._daemon.open_stream(PeerID.from_base58(peer), RAW_STREAM)
    data = struct.pack("!I", size) + bytes(size)

    async def exchange() -> None:
        writer.write(data)
        await writer.drain()
        await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0])

    result = await measure(exchange, rounds)
    writer.close()
    return result


async def compare(sizes: list[int], rounds: int, uvloop: bool) -> dict[str, Any]:
    """Both kinds, in turn, for each size."""
    command = [sys.executable, __file__, "--serve", *(["--uvloop"] if uvloop else [])]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    output: Any = other.stdout
    told = json.loads(await asyncio.to_thread(output.readline))
    started = time.perf_counter()
    swarm = await open_swarm(Identity.ephemeral(), client_only=True, initial_peers=[told["address"]])
    results: dict[str, Any] = {"open_swarm_s": round(time.perf_counter() - started, 3), "uvloop": uvloop}
    try:
        for size in sizes:
            count = rounds if size < 500_000 else max(20, rounds // 5)
            results[str(size)] = {
                "raw": await bench_raw(swarm, told["peer"], size, count),
                "link": await bench_link(swarm, told["peer"], size, count),
            }
    finally:
        await swarm.close()
        other.communicate("")
    return results


def main() -> None:
    """Parse flags, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 16_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = serve() if options.serve else compare(options.sizes, options.rounds, options.uvloop)
    if options.uvloop:
        import uvloop

        results = uvloop.run(work)
    else:
        results = asyncio.run(work)
    if results:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
