"""How well admission tells honest machines from cheats, and how near its figures are to ``gridllm bench``.

``python -m benchmarks.admission [--pairs 5] [--loaded 50] [--cheats 20] [--slow-cheats 5] [--out FILE] [--docs FILE]``

A real authority on loopback, candidates as processes of their own, the demo model in float32, one thread, the default
minimums. Takes about half an hour as it stands; nothing else should run on the machine beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from tests.command import Running, gridllm
from tests.swarm.cheater_process import MEMORY_BYTES, program
from tests.swarm.cheaters import REASONS
from tests.swarm.grid import ProcessGrid

FIGURES: Final = ("decode_blocks_per_s", "batch_blocks_per_s", "prefill_blocks_per_s", "memory_bytes")
SLOW: Final = ("replays", "half-memory")  # an honest run before it, a chase until its deadline
BUSY: Final = 2  # processes that only burn processor time, beside the candidates of the loaded runs
NEAR: Final = 0.25  # of what bench says
OUTCOME_S: Final = 300.0

Outcome = dict[str, Any]


def say(line: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def outcomes(grid: ProcessGrid, kind: str, times: int) -> Iterator[Outcome]:
    """What becomes of ``times`` candidates of one kind, one after the other."""
    with Running(grid.home.parent / "candidate", program=program(kind, grid.address, str(times))) as running:
        for _ in range(times):
            outcome: Outcome = json.loads(running.wait_for("OUTCOME ", OUTCOME_S).split("OUTCOME ", 1)[1])
            yield outcome


def bench(grid: ProcessGrid) -> dict[str, float]:
    """Figures of ``gridllm bench`` with what candidates offer."""
    memory = f"{MEMORY_BYTES >> 20}MiB"
    done = gridllm(grid.home, "bench", "--json", "--threads", "1", "--memory", memory, "--device", "cpu", timeout_s=300)
    figures: dict[str, float] = json.loads(done.stdout)["figures"]
    return figures


def pairs(grid: ProcessGrid, count: int) -> list[dict[str, Any]]:
    """Certificates beside ``gridllm bench``, in turns."""
    found = []
    for number in range(count):
        there = bench(grid)
        (outcome,) = outcomes(grid, "honest", 1)
        ratios = {name: outcome["figures"].get(name, 0.0) / there[name] for name in FIGURES}
        load = os.getloadavg()[0]
        found.append(
            {
                "admitted": outcome["admitted"],
                "reason": outcome["reason"],
                "bench": there,
                "ratios": ratios,
                "load": load,
            }
        )
        say(
            f"pair {number + 1} at load {load:.1f}: "
            + ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        )
    return found


def burn() -> None:
    """Use a processor up."""
    while True:
        sum(range(1000))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """``count`` processes beside."""
    others = [multiprocessing.Process(target=burn, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def loaded(grid: ProcessGrid, count: int) -> list[Outcome]:
    """Honest machines whose processors are busy with something else."""
    found = []
    with busy(BUSY):
        for outcome in outcomes(grid, "honest", count):
            found.append({name: outcome[name] for name in ("admitted", "reason", "text", "figures")})
            fate = "admitted" if outcome["admitted"] else f"refused: {outcome['reason']}, {outcome['text']}"
            say(f"loaded {len(found)} of {count}: {fate}")
    return found


def caught(grid: ProcessGrid, kind: str, count: int) -> dict[str, Any]:
    """How many of ``count`` cheats of one kind are refused, and for what."""
    words = Counter(one["reason"] or "admitted" for one in outcomes(grid, kind, count))
    say(f"{kind}: {dict(words)}")
    return {"runs": count, "refused": count - words["admitted"], "own_reason": words[REASONS[kind]], "words": words}


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Measured {result['when']} on {result['cores']} cores, load {result['load']:.1f} before, Python "
        f"{result['python']}, torch {result['torch']}; demo model, float32, one thread, "
        f"{MEMORY_BYTES >> 20} MiB offered, default minimums, loopback. `python -m benchmarks.admission` repeats it.",
        "",
    ]
    if result["pairs"]:
        lines += ["| certificate ÷ `gridllm bench` | median | least | most |", "|---|---|---|---|"]
        for name in FIGURES:
            ratios = [pair["ratios"][name] for pair in result["pairs"]]
            lines.append(f"| {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |")
        near = sum(all(abs(ratio - 1) <= NEAR for ratio in pair["ratios"].values()) for pair in result["pairs"])
        lines += ["", f"All figures within {NEAR:.0%} in {near} of {len(result['pairs'])} runs in a row.", ""]
    if result["loaded"]:
        refused = Counter(one["reason"] for one in result["loaded"] if not one["admitted"])
        told = f" ({', '.join(f'{word} {count}' for word, count in refused.items())})" if refused else ""
        lines += [
            f"Honest machines beside {BUSY} busy loops: {refused.total()} of {len(result['loaded'])} refused{told}.",
            "",
        ]
    if result["cheats"]:
        lines += ["| cheat | refused | for its own reason | word |", "|---|---|---|---|"]
        for kind, one in result["cheats"].items():
            row = f"{one['refused']} of {one['runs']} | {one['own_reason']} of {one['runs']}"
            lines.append(f"| {kind} | {row} | `{REASONS[kind]}` |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--loaded", type=int, default=50)
    parser.add_argument("--cheats", type=int, default=20)
    parser.add_argument("--slow-cheats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/admission.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/admission-rates.md"))
    wishes = parser.parse_args()
    result: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        grid = ProcessGrid(Path(folder), "full", cold=True)
        try:
            grid.found("demo", admission=())
            result["pairs"] = pairs(grid, wishes.pairs)
            result["cheats"] = {
                kind: caught(grid, kind, wishes.slow_cheats if kind in SLOW else wishes.cheats)
                for kind in REASONS
                if (wishes.slow_cheats if kind in SLOW else wishes.cheats)
            }
            result["loaded"] = loaded(grid, wishes.loaded) if wishes.loaded else []
        finally:
            grid.close()
    wishes.out.write_text(json.dumps(result, indent=1) + "\n")
    wishes.docs.write_text(f"# Admission: rates\n\n{table(result)}")
    say(f"{wishes.out} and {wishes.docs} are written.")


if __name__ == "__main__":
    main()
