"""Many candidates in one process: ``python -m tests.swarm.crowd <address> <how many>``; a line of JSON for each."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import torch

from gridllm.admission.admit import admit
from gridllm.charter.board import NoticeBoard
from gridllm.errors import GridError
from tests.swarm.authorities import Watching, candidate


async def _one(address: str) -> None:
    began, watching, error = time.monotonic(), Watching(), ""
    async with candidate(address) as made:
        try:
            await admit(made.swarm, made.signed, NoticeBoard(made.signed), made.candidacy(), watching, wait_s=1500)
        except GridError as refused:
            error = str(refused)
    told = {"error": error, "places": watching.places, "seconds": round(time.monotonic() - began, 1)}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def _all(address: str, count: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(_one(address))
            await asyncio.sleep(0.2)  # each starts a libp2p daemon


if __name__ == "__main__":
    torch.set_num_threads(1)
    asyncio.run(_all(sys.argv[1], int(sys.argv[2])))
