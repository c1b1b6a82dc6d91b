"""Vouchers per second through a whole keeper: ``gridllm bootstrap run``, and nodes that hand in over libp2p.

The nodes share its processors, as everything here does; so it is what a machine takes in beside them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import psutil

from benchmarks.ledger_books import Books
from benchmarks.ledger_speed import EACH, TABS
from benchmarks.ledger_verify import running
from gridllm.admission.cards import AuthorityCard
from gridllm.charter.document import SignedCharter
from gridllm.errors import TooSoon
from gridllm.identity.keys import Identity
from gridllm.ledger.keepers import Keepers
from gridllm.swarm.interface import Swarm
from gridllm.swarm.libp2p import open_swarm

NODES: Final = 4  # each with a libp2p daemon of its own: one alone would use up the keeper's patience
CALLS: Final = 4  # of each node at a time


def over_the_network(books: Books, raws: Sequence[bytes]) -> dict[str, Any]:
    """Hand in all of ``raws``, which a keeper will accept."""
    load = os.getloadavg()[0]
    with running(books) as (keeper, _):
        process = psutil.Process(keeper.pid)
        family = [process, *process.children(recursive=True)]
        before = [_used(one) for one in family]
        seconds, waits = asyncio.run(_hand_in(books, raws))
        used = [_used(one) - was for one, was in zip(family, before, strict=True)]
    return {
        "vouchers": len(raws),
        "vouchers_per_s": len(raws) / seconds,
        "keeper_processors": used[0] / seconds,
        "keeper_daemon_processors": sum(used[1:]) / seconds,
        "told_to_wait": waits,
        "load_before": load,
    }


async def _hand_in(books: Books, raws: Sequence[bytes]) -> tuple[float, int]:
    waits = 0
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(NODES):
            addresses = books.signed.charter.first_peers
            swarm = await open_swarm(
                Identity.ephemeral(), initial_peers=addresses, client_only=True, namespace=books.signed.grid
            )
            stack.push_async_callback(swarm.close)
            nodes.append(Keepers(swarm, books.signed, find=_found(books)))
            await nodes[-1].heads(books.log)

        async def caller(node: Keepers, mine: Sequence[bytes]) -> None:
            nonlocal waits
            for start in range(0, len(mine), EACH):
                while True:
                    try:
                        outcomes = await node.submit(books.log, mine[start : start + EACH])
                    except TooSoon:
                        waits += 1
                        await asyncio.sleep(0.2)
                        continue
                    break
                if {outcome.code for outcome in outcomes} != {"accepted"}:
                    raise RuntimeError(str(outcomes[:3]))

        count = NODES * CALLS
        piles = [[raw for at, raw in enumerate(raws) if at % TABS % count == number] for number in range(count)]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, pile in enumerate(piles):
                group.create_task(caller(nodes[number % NODES], pile))
        return time.perf_counter() - began, waits


def _found(books: Books) -> Any:
    """The keeper's card, at once: a keeper alone in its grid takes ten seconds to publish it."""
    address, now = books.signed.charter.first_peers[0], int(time.time())
    peer = address.rsplit("/", 1)[-1]
    fields = {"grid": books.signed.grid, "maintainer": books.log, "peer": peer, "addresses": [address]}
    card = AuthorityCard(issued=now, expires=now + 900, **fields)

    async def find(_swarm: Swarm, _signed: SignedCharter) -> list[AuthorityCard]:
        return [card]

    return find


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
