"""One client of a grid in a process of its own, which waits for others before it generates.

Run as ``python -m tests.swarm.client_process PROMPT TOKENS GO``; all begin once there is a file GO.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from gridllm_client import Grid

PROGRAM = (sys.executable, "-m", "tests.swarm.client_process")
READY, ANSWER = "ready", "answer "


def main(prompt: str, tokens: str, go: str) -> None:
    torch.set_num_threads(1)
    with Grid() as grid:
        model = grid.model("demo")
        print(READY, flush=True)  # noqa: T201 - what the test reads
        while not Path(go).exists():
            time.sleep(0.005)
        began = time.perf_counter()
        made = model.complete(prompt, max_new_tokens=int(tokens), temperature=0)
        told = {"tokens": made.ids, "nodes": len(made.chain), "seconds": time.perf_counter() - began}
        print(ANSWER + json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
