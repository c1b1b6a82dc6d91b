"""The table and plot of a chain measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.page import put

AIMS: Final[dict[str, dict[str, dict[int, float]]]] = {
    "small": {"one_stream": {1: 0.75, 2: 0.62, 4: 0.48}, "clients_8": {1: 1.5, 2: 1.5, 4: 1.2}},
    "medium": {
        "one_stream": {1: 0.95, 2: 0.92, 4: 0.88},
        "clients_8": {1: 2.4, 2: 2.8, 4: 2.5},
        "first_token": {1: 1.1, 2: 1.1, 4: 1.15},
    },
}
PETALS: Final[dict[str, dict[str, dict[int, float]]]] = {  # field notes: HEAD of 2024-08 on such a machine
    "small": {
        "one_stream": {1: 0.37, 2: 0.31, 4: 0.19},
        "clients_8": {1: 0.42, 2: 0.47, 4: 0.33},
        "first_token": {1: 1.9, 2: 2.2, 4: 2.4},
    },
    "medium": {
        "one_stream": {1: 0.81, 2: 0.75, 4: 0.63},
        "clients_8": {1: 0.93, 2: 1.27, 4: 1.12},
        "first_token": {1: 1.27, 2: 1.36, 4: 1.46},
    },
}
ROWS: Final = {
    "one_stream": ("one stream, ratio to local", "higher"),
    "clients_4": ("4 clients together, in local single streams", "higher"),
    "clients_8": ("8 clients together, in local single streams", "higher"),
    "first_token": ("first token of a 512-token prompt, times local", "lower"),
}


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Put the table into ``docs/performance.md`` between its markers, and the plot beside it."""
    put(docs / "performance.md", "chain", table(result))
    plot(result, docs / "figures" / "chain.png")


def table(result: dict[str, Any]) -> str:
    """Markdown: one table per size; ours, the aim, Petals."""
    machine = result["machine"]
    lines = [
        f"Measured {result['when']} on {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, torch "
        f"{machine['torch']}; float32, one thread per process, medians of {result['repeats']}, each beside the local "
        "transformers model in the same seconds.",
        "",
    ]
    for name, size in result["sizes"].items():
        counts = list(size["chains"])
        batches = ", ".join(f"{speed:.0f} at batch {n}" for n, speed in size["local_batches_tokens_per_s"].items())
        lines += [
            f"**{name}** ({size['layers']} layers × {size['hidden']}); local tokens/s: {batches}",
            "",
            "| | " + " | ".join(f"{count} node{'s' * (int(count) > 1)}" for count in counts) + " |",
            "|---|" + "---|" * len(counts),
        ]
        for key, (label, _) in ROWS.items():
            cells = [_cell(name, key, int(count), chain[key]["ratio"]) for count, chain in size["chains"].items()]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        speeds = [f"{chain['one_stream']['tokens_per_s']:.1f}" for chain in size["chains"].values()]
        cpus = [
            f"{chain['cpu_ms_per_token']:.1f} (local {chain['local_cpu_ms_per_token']:.1f})"
            for chain in size["chains"].values()
        ]
        lines += [
            "| one stream, tokens/s | " + " | ".join(speeds) + " |",
            "| CPU per token over all processes, ms | " + " | ".join(cpus) + " |",
            "",
        ]
    return "\n".join(lines) + "\nIn brackets: the aim; Petals on such a machine.\n\n![Ratios](figures/chain.png)\n"


def _cell(size: str, key: str, nodes: int, ratio: float) -> str:
    aim = AIMS[size].get(key, {}).get(nodes)
    petals = PETALS[size].get(key, {}).get(nodes)
    notes = [f"aim {aim}"] if aim else []
    notes += [f"Petals {petals}"] if petals else []
    return f"**{ratio:.2f}**" + (f" ({'; '.join(notes)})" if notes else "")


def plot(result: dict[str, Any], file: Path) -> None:
    """Bars of ours, the aim and Petals for each figure and chain length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sizes = result["sizes"]
    keys = ["one_stream", "clients_8", "first_token"]
    figure, grid = plt.subplots(len(sizes), len(keys), figsize=(12, 3.4 * len(sizes)), squeeze=False)
    for row, (name, size) in zip(grid, sizes.items(), strict=True):
        counts = [int(count) for count in size["chains"]]
        for axes, key in zip(row, keys, strict=True):
            ours = [chain[key]["ratio"] for chain in size["chains"].values()]
            for offset, (label, values, colour) in enumerate(
                [
                    ("GridLLM", ours, "#2a7f62"),
                    ("aim", [AIMS[name].get(key, {}).get(c, 0) for c in counts], "#c9c9c9"),
                    ("Petals", [PETALS[name].get(key, {}).get(c, 0) for c in counts], "#c46d5e"),
                ]
            ):
                axes.bar([i + 0.27 * (offset - 1) for i in range(len(counts))], values, 0.25, label=label, color=colour)
            axes.axhline(1, color="black", linewidth=0.6)
            axes.set_xticks(range(len(counts)), [f"{c} node{'s' * (c > 1)}" for c in counts])
            axes.set_title(f"{name}: {ROWS[key][0]} ({ROWS[key][1]} is better)", fontsize=8)
    grid[0][0].legend(fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
