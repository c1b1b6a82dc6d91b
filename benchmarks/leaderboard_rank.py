"""How fast the ranking answers: a leaderboard with 10,000 graded submissions on disk, asked over real libp2p.

    python -m benchmarks.leaderboard_rank [--submissions 10000] [--times 50]

Prints JSON: seconds until the leaderboard is ready with them, and milliseconds of one question (a page of 50 rows, a
page of 1,000, a ranking by one task asked for the first time), from the asker's side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from gridllm.identity.keys import Identity
from gridllm.swarm.interface import Swarm
from gridllm.swarm.libp2p import open_swarm
from gridllm_leaderboard.desk.desk import RULES_KEY
from gridllm_leaderboard.desk.start import Office, open_leaderboard
from gridllm_leaderboard.messages import RANK_CALL, AskRank, Rank, pack, unpack
from gridllm_leaderboard.records import Mark
from gridllm_leaderboard.store.engine import open_engine
from gridllm_leaderboard.store.store import LeaderboardStore
from tests.leaderboard_seasons import drawn, grade_all, judged, locked, reign, submitted
from tests.unit.leaderboard_house import House

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
ROUND = 64  # submissions, the most that one holds


def fill(url: str, grid: str, rules: bytes, count: int, tasks: list[str]) -> None:
    """Rounds of signed submissions and grades, as a board has them after years. ``rules``: the notice."""
    store, rng, champion = LeaderboardStore(open_engine(url)), random.Random(0), None
    for number, first in enumerate(range(0, count, ROUND), start=1):
        entries = [submitted(one, Identity.ephemeral(), grid=grid) for one in range(first, min(count, first + ROUND))]
        with store.writing() as batch:
            for entry in entries:
                batch.enter(entry)
            raw, lock = locked(number, [entry.id for entry in entries], champion)
            batch.keep(RULES_KEY + lock.rules, rules.decode("ascii"))
            batch.lock(number, raw, lock.submissions)
            raw, draw = drawn(lock)
            batch.draw(number, raw)
            ids = [entry.id for entry in entries] + ([champion] if champion else [])
            grade_all(batch, draw, ids)
            first_one = champion is None
            champion = champion or entries[0].id
            raw, verdict = judged(draw, champion, changed=first_one)
            marks = [mark(one, number, tasks, rng) for one in ids]
            batch.judge(number, raw, verdict, marks, reign(champion, 1) if first_one else None)
    store.close()


def mark(submission: str, number: int, tasks: list[str], rng: random.Random) -> Mark:
    """A score between 10 and 60, with an interval."""
    score, share = rng.uniform(10, 60), rng.random()
    return Mark(
        submission, number, score, score - 2, score + 2, dict.fromkeys(tasks, (share, share - 0.1, share + 0.1))
    )


async def timed(client: Swarm, peer: Any, asked: AskRank, times: int) -> dict[str, float]:
    """Milliseconds of one question."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        rank = unpack(await client.call(peer, RANK_CALL, pack(asked), timeout_s=30), Rank)
        spent.append((time.perf_counter() - started) * 1000)
    spent.sort()
    return {"p50_ms": spent[len(spent) // 2], "worst_ms": spent[-1], "rows": len(rank.rows), "total": rank.total}


async def measure(folder: Path, count: int, times: int) -> dict[str, Any]:
    """Fill, start, ask."""
    house = House(folder, {}, {})
    url, tasks = f"sqlite:///{folder / 'leaderboard.sqlite'}", list(house.tasks)
    started = time.perf_counter()
    (rules,) = house.board.raws()
    await asyncio.to_thread(fill, url, house.signed.grid, rules, count, tasks)
    filled_s = time.perf_counter() - started
    server = await open_swarm(house.identity, host_maddrs=LOOPBACK)
    client = await open_swarm(Identity.ephemeral(), initial_peers=server.addresses, client_only=True)
    try:
        office = Office(house.identity, house.maintainer, url, folder / "vault", folder, house.tasks)
        started = time.perf_counter()
        async with open_leaderboard(office, server, house.signed, house.board, lambda *_: None):
            ready_s = time.perf_counter() - started
            await client.connect(server.peer, server.addresses)
            return {
                "submissions": count,
                "filled_s": filled_s,
                "ready_s": ready_s,
                "first": await timed(client, server.peer, AskRank(), 1),
                "page of 50": await timed(client, server.peer, AskRank(), times),
                "page of 1,000": await timed(client, server.peer, AskRank(limit=1000), times),
                "last page": await timed(client, server.peer, AskRank(offset=count - 50), times),
                "by a task, first": await timed(client, server.peer, AskRank(task=tasks[0]), 1),
                "by a task": await timed(client, server.peer, AskRank(task=tasks[0]), times),
                "load": os.getloadavg()[0],
            }
    finally:
        await client.close()
        await server.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="How fast the ranking answers.")
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridllm-rank-") as folder:
        told = uvloop.run(measure(Path(folder), options.submissions, options.times))
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
