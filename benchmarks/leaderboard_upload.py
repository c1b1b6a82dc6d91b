"""How fast a model comes to the leaderboard: upload of 200 MB on loopback, over real libp2p, between two processes.

    python -m benchmarks.leaderboard_upload [--megabytes 200] [--times 3] [--folder DIR]

Prints JSON: MB/s of each upload from the first frame to "whole" (digests checked, files synced and linked), and the CPU
seconds of both processes. Each upload brings other weights, so that nothing is there already.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from safetensors.numpy import save_file

from benchmarks.process import cpu_seconds
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot, PeerId
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Delegation
from gridllm.models.manifest import Manifest, TensorEntry, root
from gridllm.models.weights import Checkpoint
from gridllm.swarm.libp2p import open_swarm
from gridllm_leaderboard.checking.facts import Facts, facts_of
from gridllm_leaderboard.upload.interface import Expected
from gridllm_leaderboard.upload.receiving import Receiving
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from gridllm_leaderboard.vault.vault import Vault

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
GRID = "9" * 64
LAYERS = 24
MB = 10**6


class Desk:
    """Awaits whatever it is told of on stdin: one JSON line for each submission."""

    def __init__(self) -> None:
        self.awaited: dict[str, Expected] = {}

    async def expected(self, submission: str, account: str) -> Expected:
        """As it was told."""
        return self.awaited[submission]

    async def arrived(self, submission: str) -> None:
        """Nothing follows."""

    async def refused(self, submission: str, why: str) -> None:
        """Nothing follows."""


async def serve(folder: Path) -> None:
    """The leaderboard's process, until its input ends."""
    swarm = await open_swarm(Identity.ephemeral(), host_maddrs=LOOPBACK)
    desk = Desk()
    await Receiving(Vault(folder), GRID, desk).serve(swarm)
    print(json.dumps({"peer": swarm.peer, "address": swarm.addresses[0], "pid": os.getpid()}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = json.loads(line)
        submission = told.pop("submission")
        desk.awaited[submission] = Expected(**told)
        print(json.dumps({"cpu_s": spent_s()}), flush=True)
    await swarm.close()


def spent_s(other: int | None = None) -> float:
    """CPU seconds of this process and of its libp2p daemon so far; ``other``: a child that counts by itself."""
    own = psutil.Process()
    return cpu_seconds([own.pid, *(child.pid for child in own.children() if child.pid != other)])


def make_model(folder: Path, size: int, seed: int) -> Manifest:
    """``size`` bytes in tensors such as a model of that size has: large ones, and small norms."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    block = size // (LAYERS + 4)
    tensors = {"embed": chance.integers(0, 2**16, 4 * block // 2, dtype=np.uint16).view(np.float16)}
    for layer in range(LAYERS):
        for part in range(4):
            values = chance.integers(0, 2**16, block // 8, dtype=np.uint16)
            tensors[f"layers.{layer}.{part}.weight"] = values.view(np.float16)
        tensors[f"layers.{layer}.norm"] = chance.integers(0, 2**16, 1024, dtype=np.uint16).view(np.float16)
    save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(f'{{"seed": {seed}}}')
    checkpoint = Checkpoint.open(folder)
    entries = {
        name: TensorEntry(slot.dtype, list(slot.shape), slot.size, checkpoint.digest(name))
        for name, slot in checkpoint.slots.items()
    }
    tokenizer = {"tokenizer.json": hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()}
    return Manifest(1, "llama", {"model_type": "llama"}, None, tokenizer, entries)


async def measure(megabytes: int, times: int, folder: Path) -> dict[str, Any]:
    """Upload ``times`` models, one after the other."""
    command = [sys.executable, "-m", "benchmarks.leaderboard_upload", "--serve", str(folder / "vault")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    says: Any = other.stdout
    hears: Any = other.stdin
    told = json.loads(await asyncio.to_thread(says.readline))
    swarm = await open_swarm(Identity.ephemeral(), client_only=True, initial_peers=[told["address"]])
    author = Identity.ephemeral()
    rates: list[float] = []
    ours, theirs = 0.0, 0.0  # CPU seconds of uploads

    async def find() -> tuple[PeerId, tuple[str, ...]]:
        return PeerId(told["peer"]), (told["address"],)

    def delegation() -> bytes:
        now = int(time.time())
        account = author.public_key.hex()
        said = Delegation(grid=GRID, account=account, client=swarm.peer, issued=now, expires=now + 600)
        return sign(said, author)

    async def tell(submission: str, name: ModelRoot, facts: Facts) -> float:
        line = {"submission": submission, "root": name, "weights": facts.weights, "size": facts.size}
        hears.write(json.dumps(line | {"parameters": facts.parameters}) + "\n")
        hears.flush()
        return float(json.loads(await asyncio.to_thread(says.readline))["cpu_s"])

    try:
        for number in range(times):
            model = folder / f"model-{number}"
            manifest = await asyncio.to_thread(make_model, model, megabytes * MB, number)
            facts, submission = facts_of(manifest), f"{number:064x}"
            bundle = await asyncio.to_thread(Bundle, model, manifest)
            theirs -= await tell(submission, root(manifest), facts)
            ours -= spent_s(other.pid)
            began = time.perf_counter()
            await send_bundle(swarm, find, submission, delegation, bundle)
            rates.append(facts.size / MB / (time.perf_counter() - began))
            ours += spent_s(other.pid)
            theirs += await tell(submission, root(manifest), facts)
            await asyncio.to_thread(shutil.rmtree, model)
    finally:
        await swarm.close()
        await asyncio.to_thread(other.communicate, "")
    return {
        "megabytes": megabytes,
        "mb_per_s": [round(rate, 1) for rate in rates],
        "best_mb_per_s": round(max(rates), 1),
        "author_cpu_s_per_upload": round(ours / times, 2),
        "leaderboard_cpu_s_per_upload": round(theirs / times, 2),
    }


def main() -> None:
    """Parse flags, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where the files lie; default: a temporary folder")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        uvloop.run(serve(options.serve))
        return
    folder = Path(tempfile.mkdtemp(prefix="leaderboard-upload-", dir=options.folder))
    try:
        print(json.dumps(uvloop.run(measure(options.megabytes, options.times, folder)), indent=2))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
