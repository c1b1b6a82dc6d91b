"""What metering costs: the same processes decode with pay and without, by turns, beside the local transformers model.

``python -m benchmarks.metering [--models demo small medium] [--seconds 60] [--out FILE] [--docs docs/performance.md]``

One grid with a ledger that serves newcomers unmetered; a chain of two nodes. First one client has two sessions, one
that pays and one that does not, which grow by turns, 32 tokens at a time. Then clients pay and do not pay by turns: on,
off, off, on. Every stretch is followed by a pause in which nodes hand in their vouchers, so that this work of the
metered ones does not fall into the others. Two neighbours are a pair; a figure is the median of the pairs' ratios, with
the interval that holds it in 95 % of resamplings of the pairs. Drift of a busy machine cancels, its jumps do not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.chain import LONG_PROMPT, SHORT_PROMPT, machine, prompt
from benchmarks.metering_cost import direct_cost
from benchmarks.metering_grid import MODELS, metered_grid
from benchmarks.metering_report import write_report
from benchmarks.metering_worker import BLOCK
from benchmarks.pairs import Load, Pairs
from benchmarks.process import Worker, cpu_seconds, family
from tests.swarm.grid import ProcessGrid

NODES: Final = 2
CLIENTS: Final = 8
NEW_TOKENS: Final = 64
STRETCH_S: Final = 2.0  # at least, of generations in a row
BLOCKS: Final = 8  # of two sessions that grow by turns
QUIET_S: Final = 1.6  # after a stretch: nodes hand in a second after a session closed


class Bench:
    """The processes of one model, and what is measured of them."""

    def __init__(self, local: Worker, clients: Sequence[Worker], grid: ProcessGrid) -> None:
        self.local = local
        self.clients = clients
        self._chain = [*grid.pids, *family(worker.process.pid for worker in clients)]
        self._keeper = family(running.pid for running in grid.bootstraps.values())
        self._others = [os.getpid(), local.process.pid]

    def ours_s(self) -> float:
        """CPU seconds of all processes of this measurement so far."""
        return cpu_seconds([*self._chain, *self._keeper, *self._others])

    def stretch(self, metered: bool, request: dict[str, Any], clients: int = 1) -> dict[str, Any]:
        """So many clients at once: what they say, and CPU until the books are up to date, libp2p daemons included."""
        cpu = cpu_seconds(self._chain), cpu_seconds(self._keeper)
        started = time.perf_counter()
        for client in self.clients[:clients]:
            client.ask({**request, "metered": metered})
        said = [client.take() for client in self.clients[:clients]]
        wall = time.perf_counter() - started
        time.sleep(QUIET_S)
        made = sum(one["made"] for one in said)
        return {
            "disturbed": any(one["disturbed"] for one in said),
            "decode": statistics.mean(one["decoded"] / one["decode_s"] if one["decoded"] else 0.0 for one in said),
            "tokens_per_s": made / wall,
            "first_token_s": statistics.median(s for one in said for s in one["first_token_s"]),
            "chain_cpu_ms": 1e3 * (cpu_seconds(self._chain) - cpu[0]) / made,
            "keeper_cpu_ms": 1e3 * (cpu_seconds(self._keeper) - cpu[1]) / made,
        }

    def side_by_side(self, request: dict[str, Any], seconds: float, *, near: dict[str, Any]) -> dict[str, Any]:
        """Decoded tokens per second of two sessions that grow by turns, block by block."""
        load = Load(self.ours_s)
        pairs, local = Pairs(), list[float]()
        ends = time.monotonic() + seconds
        while not local or time.monotonic() < ends:
            local.append(self.local.call(near)["seconds"])
            said = self.clients[0].call(request)
            pairs.on += [BLOCK / s for s in said["on"]]
            pairs.off += [BLOCK / s for s in said["off"]]
            time.sleep(QUIET_S)
        result = {"decode": pairs.summary(), "local_s": statistics.median(local), "load": load.since()}
        print(json.dumps(result), flush=True)
        return result

    def by_turns(
        self, request: dict[str, Any], seconds: float, figures: Sequence[str], *, near: dict[str, Any], clients: int = 1
    ) -> dict[str, Any]:
        """On, off, off, on for so many seconds, two rounds at least; ``near``: the local model's request."""
        load = Load(self.ours_s)
        found = {name: Pairs() for name in figures}
        local: list[float] = []
        ends, disturbed = time.monotonic() + seconds, 0
        while len(local) < 2 or time.monotonic() < ends:
            near_s = self.local.call(near)["seconds"]
            said = [(metered, self.stretch(metered, request, clients)) for metered in (True, False, False, True)]
            if any(one["disturbed"] for _, one in said):
                disturbed += 1  # nodes were lost or replaced
                continue
            local.append(near_s)
            for name, pairs in found.items():
                for metered, one in said:
                    (pairs.on if metered else pairs.off).append(one[name])
        result = {
            "disturbed_rounds": disturbed,
            **{name: pairs.summary() for name, pairs in found.items()},
            "local_s": statistics.median(local),
            "load": load.since(),
        }
        print(json.dumps(result), flush=True)
        return result


def measure(bench: Bench, seconds: float) -> dict[str, Any]:
    """One model: one stream, a long prompt's first token, eight clients."""
    short = {"prompt": prompt(SHORT_PROMPT), "new_tokens": NEW_TOKENS}
    long = {"prompt": prompt(LONG_PROMPT), "new_tokens": 1}
    first = bench.clients[0]
    texts = [first.call({**short, "metered": metered})["tokens"] for metered in (True, False)]
    made = len(texts[0])
    near = {**short, "new_tokens": made}
    if texts[0] != texts[1] or texts[0] != bench.local.call(near)["tokens"]:
        raise RuntimeError("The chain's text differs from the local model's.")
    for client in bench.clients[1:]:
        client.call({**short, "metered": True})
    took = first.call({**short, "metered": False})["seconds"]
    times = max(1, round(STRETCH_S / took))
    growing = bench.side_by_side({**short, "blocks": BLOCKS}, seconds, near=near)
    one = bench.by_turns(
        {**short, "times": times},
        seconds / 2,
        ("decode", "tokens_per_s", "first_token_s", "chain_cpu_ms", "keeper_cpu_ms"),
        near=near,
    )
    figures = "tokens_per_s", "decode", "chain_cpu_ms", "keeper_cpu_ms"
    return {
        "generation": {"prompt": SHORT_PROMPT, "tokens": made, "in_a_row": times},
        "side_by_side": growing,
        "one_stream": one,
        "first_token": bench.by_turns({**long, "times": 2}, seconds / 3, ("first_token_s",), near=long),
        f"clients_{CLIENTS}": bench.by_turns(short, seconds / 2, figures, near=near, clients=CLIENTS),
    }


def measure_model(name: str, seconds: float, scratch: Path) -> dict[str, Any]:
    """A grid of this model, its clients, and the local model."""
    with metered_grid(name, NODES, scratch) as metered:
        local = Worker("benchmarks.local", metered.folder)
        clients = [metered.client() for _ in range(CLIENTS)]
        for worker in (local, *clients):
            worker.wait()
        found = measure(Bench(local, clients, metered.grid), seconds)
        for worker in (local, *clients):
            worker.close()
    return found


def main() -> None:
    """Measure and write JSON and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        "--seconds", type=float, default=60, help="side by side, of a model; the rest takes 1.3 times as long"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metering.json"))
    parser.add_argument("--docs", type=Path, default=None, help="page for the table, such as docs/performance.md")
    options = parser.parse_args()
    models: dict[str, Any] = {}
    result = {"machine": machine(), "direct": direct_cost(), "models": models}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            print(name, flush=True)
            models[name] = measure_model(name, options.seconds, Path(scratch))
            result["when"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            options.out.write_text(json.dumps(result, indent=1) + "\n")  # a run that is broken off keeps what it has
    if options.docs is not None:
        write_report(result, options.docs)


if __name__ == "__main__":
    main()
