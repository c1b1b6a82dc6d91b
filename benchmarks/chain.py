"""Speed of chains of 1, 2 and 4 nodes beside the local transformers model, interleaved in one run.

``python -m benchmarks.chain [--sizes small medium] [--nodes 1 2 4] [--repeats 3] [--out FILE] [--docs docs]``

Every process has one torch thread. Absolute figures depend on the machine and on what else it does; the ratios to the
local model, measured just before and after each of ours, are what to compare.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import SIZES, Size, make_model
from benchmarks.process import Worker, cpu_seconds
from benchmarks.report import write_report
from tests.command import home_environ
from tests.swarm.grid import ProcessGrid, process_grid

SHORT_PROMPT, LONG_PROMPT = 16, 512
CLIENTS = (4, 8)


def prompt(tokens: int) -> list[int]:
    """Random token ids that the demo tokenizer can spell."""
    return torch.randint(300, 2000, (tokens,), generator=torch.Generator().manual_seed(tokens)).tolist()


def spans(layers: int, nodes: int) -> list[str]:
    """The model's blocks in equal parts."""
    cuts = [round(i * layers / nodes) for i in range(nodes + 1)]
    return [f"{a}:{b}" for a, b in itertools.pairwise(cuts)]


def measure_chain(local: Worker, clients: list[Worker], grid: ProcessGrid, size: Size, repeats: int) -> dict[str, Any]:
    """One chain: each figure of ours stands beside the local model's from the same seconds."""
    short = {"prompt": prompt(SHORT_PROMPT), "new_tokens": size.new_tokens}
    long = {"prompt": prompt(LONG_PROMPT), "new_tokens": 1}
    first = clients[0]
    if first.call(short)["tokens"] != local.call(short)["tokens"]:
        raise RuntimeError("The chain's text differs from the local model's.")
    streams, firsts, together = [], [], {n: [] for n in CLIENTS}
    for _ in range(repeats):
        near = local.call(short)
        before = cpu_seconds(grid.pids)
        far = first.call(short)
        nodes_cpu = cpu_seconds(grid.pids) - before
        streams.append(
            {
                "tokens_per_s": size.new_tokens / far["seconds"],
                "local_tokens_per_s": size.new_tokens / near["seconds"],
                "cpu_ms_per_token": 1e3 * (far["cpu_s"] + nodes_cpu) / size.new_tokens,
                "local_cpu_ms_per_token": 1e3 * near["cpu_s"] / size.new_tokens,
            }
        )
        firsts.append({"seconds": first.call(long)["first_token_s"], "local_seconds": local.call(long)["seconds"]})
        for count in CLIENTS:
            near = local.call(short)
            started = time.perf_counter()
            for client in clients[:count]:
                client.ask(short)
            for client in clients[:count]:
                client.take()
            together[count].append(
                {
                    "tokens_per_s": count * size.new_tokens / (time.perf_counter() - started),
                    "local_tokens_per_s": size.new_tokens / near["seconds"],
                }
            )
    return {
        "one_stream": _median(streams, "tokens_per_s"),
        "cpu_ms_per_token": statistics.median(s["cpu_ms_per_token"] for s in streams),
        "local_cpu_ms_per_token": statistics.median(s["local_cpu_ms_per_token"] for s in streams),
        "first_token": _median(firsts, "seconds"),
        **{f"clients_{count}": _median(runs, "tokens_per_s") for count, runs in together.items()},
    }


def _median(runs: Sequence[dict[str, float]], name: str) -> dict[str, float]:
    return {
        name: statistics.median(run[name] for run in runs),
        f"local_{name}": statistics.median(run[f"local_{name}"] for run in runs),
        "ratio": statistics.median(run[name] / run[f"local_{name}"] for run in runs),
    }


def measure_size(name: str, nodes: Sequence[int], repeats: int, scratch: Path) -> dict[str, Any]:
    """All chains of one model size, and the local model's batches."""
    size = SIZES[name]
    folder = str(make_model(name, scratch))
    local = Worker("benchmarks.local", folder)
    local.wait()
    batches = {}
    for batch in (1, 4, 8):
        request = {"prompt": prompt(SHORT_PROMPT), "new_tokens": size.new_tokens, "batch": batch}
        local.call(request)
        batches[batch] = batch * size.new_tokens / local.call(request)["seconds"]
    chains = {}
    for count in nodes:
        home = scratch / f"{name}-{count}"
        home.mkdir()
        parts = spans(size.layers, count)
        with process_grid(
            home, *parts, model=folder, dtype="float32", extra=["--cache-tokens", "16384"], cold=True
        ) as grid:
            env = home_environ(grid.home)
            clients = [Worker("benchmarks.worker", name, folder, env=env) for _ in range(max(CLIENTS))]
            for client in clients:
                client.wait()
            chains[count] = measure_chain(local, clients, grid, size, repeats)
            print(name, count, "nodes:", json.dumps(chains[count]), flush=True)
            for client in clients:
                client.close()
    local.close()
    return {
        "layers": size.layers,
        "hidden": size.hidden,
        "vocabulary": size.vocabulary,
        "local_batches_tokens_per_s": batches,
        "chains": chains,
    }


def main() -> None:
    """Measure and write JSON, plot and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["small", "medium"])
    parser.add_argument("--nodes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chain.json"))
    parser.add_argument("--docs", type=Path, default=None, help="folder for the table and plot, such as docs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sizes = {name: measure_size(name, options.nodes, options.repeats, Path(scratch)) for name in options.sizes}
    result = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "repeats": options.repeats,
        "load_before": os.getloadavg()[2],
        "sizes": sizes,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.docs is not None:
        write_report(result, options.docs)


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
