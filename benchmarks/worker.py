"""One client of the grid, in a process of its own with one thread.

Run as ``python -m benchmarks.worker MODEL FOLDER`` in a home that has joined; answers as ``benchmarks.local`` does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import psutil
import torch

from gridllm_client import Grid, GridModel


def cpu_s() -> float:
    """CPU seconds of this process and its libp2p daemon so far."""
    itself = psutil.Process(os.getpid())
    times = [process.cpu_times() for process in (itself, *itself.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def answer(model: GridModel, request: dict[str, object]) -> dict[str, object]:
    """Wall and CPU seconds of one greedy generation, opening the session included."""
    wall, cpu = time.perf_counter(), cpu_s()
    made = asyncio.run(model.acomplete(request["prompt"], max_new_tokens=request["new_tokens"], temperature=0))
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_s": cpu_s() - cpu,
        "first_token_s": time.perf_counter() - wall - (made.seconds - made.first_token_s),
        "tokens": made.ids,
        "nodes": len(made.chain),
    }


def main(name: str, folder: str) -> None:
    """Serve requests from standard input."""
    torch.set_num_threads(1)
    with Grid() as grid:
        model = grid.model(name, path=folder)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(model, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
