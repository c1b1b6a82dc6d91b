"""The figures of a metering measurement, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.page import put

ROWS: Final = (  # part, figure, label, decimals, whether more is better
    ("side_by_side", "decode", "side by side: decoded tokens/s", 1, True),
    ("one_stream", "decode", "one stream: decoded tokens/s", 1, True),
    ("one_stream", "tokens_per_s", "one stream: tokens/s, opening and prompt included", 1, True),
    ("one_stream", "chain_cpu_ms", "one stream: CPU ms per token, client and nodes", 2, False),
    ("one_stream", "first_token_s", "16-token prompt: first token after, s", 3, False),
    ("clients_8", "tokens_per_s", "8 clients: tokens/s, opening and prompt included", 1, True),
    ("clients_8", "decode", "8 clients: decoded tokens/s of each", 1, True),
    ("clients_8", "chain_cpu_ms", "8 clients: CPU ms per token, clients and nodes", 2, False),
    ("first_token", "first_token_s", "512-token prompt: first token after, s", 3, False),
)


def write_report(result: dict[str, Any], page: Path) -> None:
    """Put the tables into ``page`` between its markers."""
    put(page, "metering", tables(result))


def tables(result: dict[str, Any]) -> str:
    """Markdown: one table per model."""
    machine, direct = result["machine"], result["direct"]
    lines = [
        f"Measured until {result['when']} on {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"torch {machine['torch']}; float32, one thread per process.",
        "",
    ]
    for name, model in result["models"].items():
        lines += _model(name, model)
    lines += [
        f"By itself, metering computes {direct['client_us_per_token_and_hop']:.0f} µs of CPU a token and hop on the "
        f"client, {direct['node_us_per_token']:.0f} µs on each node, vouchers included (signing one takes "
        f"{direct['sign_voucher_us']:.0f} µs, taking one {direct['take_voucher_us']:.0f} µs).",
        "",
    ]
    return "\n".join(lines)


def _model(name: str, model: dict[str, Any]) -> list[str]:
    made, one = model["generation"], model["one_stream"]
    local = made["tokens"] / one["local_s"]
    lines = [
        f"**{name}**, 2 nodes: {made['in_a_row']} × {made['tokens']} tokens a stretch; the local model makes "
        f"{local:.1f} tokens/s",
        "",
        "| | on | off | on ÷ off (95 %) | pairs | load | cores others used |",
        "|---|---|---|---|---|---|---|",
    ]
    for part, figure, label, decimals, more in ROWS:
        found, load = model[part][figure], model[part]["load"]
        good = "" if more else " (less is better)"
        lines.append(
            f"| {label}{good} | {found['on']:.{decimals}f} | {found['off']:.{decimals}f} | "
            f"**{found['ratio']:.3f}** ({found['low']:.3f}–{found['high']:.3f}) | {found['pairs']} | "
            f"{load['before']:.1f}–{load['after']:.1f} | {load['others_cores']:.1f} |"
        )
    keeper = [one["keeper_cpu_ms"][which] * made["tokens"] for which in ("on", "off")]
    lines += [
        "",
        f"The local model's first token of the long prompt comes after {model['first_token']['local_s']:.3f} s. The "
        f"keeper used {keeper[0]:.0f} ms of CPU for each metered generation, and {keeper[1]:.0f} ms in the same time "
        "without.",
        "",
    ]
    return lines
