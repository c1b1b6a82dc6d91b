"""What metering costs of decode speed, as an interval: ``python -m benchmarks.metering_decode``.

One client in a process of its own has two sessions in one chain, over the same connections: one that pays, and one that
does not. They grow by turns, 32 tokens at a time, in the order on, off, off, on, for as long as it takes until the
interval tells something. 32 tokens are what a voucher is for: the client signs one for each node in every metered
block, the nodes verify it, keep it on disk and hand it in. Two blocks that are compared are neighbours. Speed is by the
clock; CPU is what client, nodes and their libp2p daemons used for the block, which other programs hardly move. As a
control the same is done with two sessions that do not pay.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.chain import SHORT_PROMPT, machine, prompt
from benchmarks.metering_grid import MODELS, metered_grid
from benchmarks.metering_worker import BLOCK
from benchmarks.page import put
from benchmarks.pairs import Load, Pairs
from benchmarks.process import Worker, cpu_seconds, family

BLOCKS: Final = 12  # of each session, before others are opened: contexts stay short, and half of them are odd
BOUND: Final = 0.03  # of decode speed, that metering may cost


def measure(client: Worker, nodes: list[int], seconds: float, *, control: bool) -> dict[str, Any]:
    """Pairs of blocks for so long; ``control``: both sessions are unmetered, so that the ratio must be 1."""
    request = {"prompt": prompt(SHORT_PROMPT), "blocks": BLOCKS, "pids": nodes, "control": control}
    client.call(request)  # warm
    ours = family([os.getpid()])  # nodes and keeper, too
    speed, cpu, load = Pairs(), Pairs(), Load(lambda: cpu_seconds(ours))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        said = client.call(request)
        speed.on += [BLOCK / s for s in said["on"]]
        speed.off += [BLOCK / s for s in said["off"]]
        cpu.on += [1e3 * s / BLOCK for s in said["on_cpu"]]
        cpu.off += [1e3 * s / BLOCK for s in said["off_cpu"]]
    return {"tokens_per_s": speed.summary(), "cpu_ms_per_token": cpu.summary(), "load": load.since()}


def measure_chain(name: str, nodes: int, seconds: float, scratch: Path) -> dict[str, Any]:
    """A grid of so many nodes that serves this model, and one client with credit."""
    with metered_grid(name, nodes, scratch) as metered:
        client = metered.client()
        client.wait()
        found = measure(client, metered.grid.pids, seconds, control=False)
        found["control"] = measure(client, metered.grid.pids, seconds / 2, control=True)
        client.close()
    return {"model": name, "nodes": nodes} | found


def table(result: dict[str, Any]) -> str:
    """Markdown: one row for each chain."""
    where = result["machine"]
    lines = [
        f"Measured {result['when']} on {where['cores']} cores of {where['cpu']}, Python {where['python']}, torch "
        f"{where['torch']}; one thread per process, keeper and client on the same cores.",
        "",
        "| chain | tokens/s, on | off | speed, on ÷ off (95 %) | CPU, on ÷ off (95 %) | pairs | load | others' cores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in result["chains"]:
        name = f"{one['model']}, {one['nodes']} node{'s' if one['nodes'] > 1 else ''}"
        lines += [_row(name, one), _row("… nobody pays", one["control"])]
    return "\n".join([*lines, ""])


def _row(name: str, one: dict[str, Any]) -> str:
    speed, cpu, load = one["tokens_per_s"], one["cpu_ms_per_token"], one["load"]
    return (
        f"| {name} | {speed['on']:.1f} | {speed['off']:.1f} | **{speed['ratio']:.4f}** ({speed['low']:.4f}–"
        f"{speed['high']:.4f}) | {cpu['ratio']:.4f} ({cpu['low']:.4f}–{cpu['high']:.4f}) | {speed['pairs']} | "
        f"{load['before']:.1f}–{load['after']:.1f} | {load['others_cores']:.2f} |"
    )


def main() -> None:
    """Measure; write JSON, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["demo"])
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=240, help="for each chain")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metering_decode.json"))
    parser.add_argument("--docs", type=Path, default=None, help="page for the table, such as docs/ledger-speed.md")
    options = parser.parse_args()
    chains: list[dict[str, Any]] = []
    result: dict[str, Any] = {"machine": machine(), "bound": BOUND, "block": BLOCK, "chains": chains}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            for nodes in options.nodes:
                chains.append(measure_chain(name, nodes, options.seconds, Path(scratch)))
                print(json.dumps(chains[-1]), flush=True)
                result["when"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.docs is not None:
        put(options.docs, "metering-decode", table(result))


if __name__ == "__main__":
    main()
