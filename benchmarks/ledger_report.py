"""The figures of a ledger measurement, for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from benchmarks.page import put

DATABASES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def write_report(result: dict[str, Any], page: Path) -> None:
    """Put the tables into ``page`` between its markers."""
    put(page, "ledger", tables(result))


def tables(result: dict[str, Any]) -> str:
    """Markdown."""
    machine = result["machine"]
    lines = [
        f"Measured until {result['when']} on {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}. "
        "Load is that of the minute before; other programs' included.",
        "",
    ]
    found = {name: result[name] for name in DATABASES if name in result}
    if any("sustained" in one for one in found.values()):
        lines += _speed(found)
    if "network" in result:
        one = result["network"]
        lines += [
            "Over libp2p, with `gridllm bootstrap run` and the nodes that hand in on the same processors: "
            f"**{one['vouchers_per_s']:,.0f} vouchers per second** ({one['vouchers']:,} vouchers, SQLite; the keeper "
            f"used {one['keeper_processors']:.2f} processors, its libp2p daemon {one['keeper_daemon_processors']:.2f}; "
            f"load before {one['load_before']:.1f}).",
            "",
        ]
    if any("answers" in one for one in found.values()):
        lines += _answers(found)
    if any("start" in one for one in found.values()):
        lines += _start(found)
    if any("sizes" in one for one in found.values()):
        lines += _sizes(found)
    if "verify" in result:
        lines += _verify(result["verify"])
    if "written" in result:
        one = result["written"]
        lines += [
            f"Writing the books for this took {one['seconds']:.0f} s (of which {one['storing_s']:.0f} s in the store, "
            f"the rest waiting for signatures); they fill {one['bytes'] / 2**30:.2f} GiB in SQLite.",
            "",
        ]
    return "\n".join(lines)


def _speed(found: dict[str, Any]) -> list[str]:
    ran = {name: one for name, one in found.items() if "sustained" in one}
    lines = ["| one keeper takes | " + " | ".join(DATABASES[name] for name in ran) + " |", "|---|" + "---|" * len(ran)]

    def row(label: str, *cells: str) -> None:
        lines.append(f"| {label} | " + " | ".join(cells) + " |")

    sustained = [one["sustained"] for one in ran.values()]
    row("**vouchers per second, each answered from disk**", *(f"**{one['vouchers_per_s']:,.0f}**" for one in sustained))
    row("vouchers taken for this figure", *(f"{one['vouchers']:,}" for one in sustained))
    row("processors its process used", *(f"{one['processors']:.2f}" for one in sustained))
    row("load before", *(f"{one['load_before']:.1f}" for one in sustained))
    limits = [(one["ed25519_per_s"], one["ed25519_per_s_after"]) for one in ran.values()]
    row(
        "Ed25519 alone, one thread: signatures per second before, and after",
        *(f"{b:,.0f}, {a:,.0f}" for b, a in limits),
    )
    shares = [one["sustained"]["vouchers_per_s"] / max(limit) for one, limit in zip(ran.values(), limits, strict=True)]
    row("the keeper, of the higher of the two", *(f"{share:.0%}" for share in shares))
    lines += ["", "| microseconds for one voucher | " + " | ".join(DATABASES[name] for name in ran) + " |"]
    lines += ["|---|" + "---|" * len(ran)]
    totals = [sum(one["stages_us"].values()) for one in ran.values()]
    for stage in sorted({stage for one in ran.values() for stage in one["stages_us"]}):
        spent = [one["stages_us"].get(stage, 0.0) for one in ran.values()]
        row(stage, *(f"{us:.0f} ({us / total:.0%})" for us, total in zip(spent, totals, strict=True)))
    row("all", *(f"{total:.0f}" for total in totals))
    return [*lines, ""]


def _answers(found: dict[str, Any]) -> list[str]:
    ran = {name: one["answers"] for name, one in found.items() if "answers" in one}
    size = max(one["statements"] for one in ran.values())
    lines = [
        f"| at {size:,} statements: ms, p50 / p99 | "
        + " | ".join(f"{DATABASES[name]}, alone | {DATABASES[name]}, while it takes vouchers" for name in ran)
        + " |",
        "|---|" + "---|" * 2 * len(ran),
    ]
    for question in ("balance", "inclusion proof", "consistency proof", "history, 100 rows"):
        cells = [
            f"{one[question][how]['p50']:.2f} / {one[question][how]['p99']:.2f}"
            for one in ran.values()
            for how in ("alone", "busy")
        ]
        lines.append(f"| {question} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _start(found: dict[str, Any]) -> list[str]:
    lines = [
        "| after `kill -9` | statements | imports | opening the books | first answer | first voucher taken | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, all_found in found.items():
        if "start" in all_found:
            one = all_found["start"]
            seconds = [f"{one[key]:.2f} s" for key in ("imports_s", "open_s", "first_answer_s", "first_voucher_s")]
            lines.append(
                f"| {DATABASES[name]} | {one['statements']:,} | " + " | ".join(seconds) + f" | {one['load']:.1f} |"
            )
    return [*lines, ""]


def _sizes(found: dict[str, Any]) -> list[str]:
    ran = {name: one["sizes"] for name, one in found.items() if "sizes" in one}
    lines = ["| bytes for one statement | " + " | ".join(DATABASES[name] for name in ran) + " |"]
    lines.append("|---|" + "---|" * len(ran))

    def row(label: str, cells: Iterable[float]) -> None:
        lines.append(f"| {label} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")

    def taken(one: dict[str, Any], tables: Iterable[str], *parts: str) -> float:
        return sum(float(one["tables"][name][part]) for name in tables for part in parts) / one["statements"]

    others = [name for name in next(iter(ran.values()))["tables"] if name != "entries"]
    row("the statement itself", (one["statement_bytes"] / one["statements"] for one in ran.values()))
    row("table `entries`, that included", (taken(one, ["entries"], "table") for one in ran.values()))
    row("its indexes", (taken(one, ["entries"], "indexes") for one in ran.values()))
    row("tiles, tabs, accounts and the rest", (taken(one, others, "table", "indexes") for one in ran.values()))
    row("**all**", (taken(one, ["entries", *others], "table", "indexes") for one in ran.values()))
    kinds = sorted(next(iter(ran.values()))["kinds"].items(), key=lambda kind: -kind[1]["share"])
    one = next(iter(ran.values()))
    told = ", ".join(f"{kind['share']:.0%} {name}s of {kind['bytes']:.0f} bytes" for name, kind in kinds)
    return [
        *lines,
        "",
        f"Of these statements {told}. Packed in blocks of some 100 KiB, as a file system that compresses does, they "
        f"take {one['compressed']:.0%} of their bytes (zlib, level 3).",
        "",
    ]


def _verify(found: dict[str, Any]) -> list[str]:
    lines = ["| `gridllm ledger verify` | takes | exit code | load before |", "|---|---|---|---|"]
    altered = found["altered"]
    for label, one in (
        ("from the keeper on line", found["live"]),
        ("`--database`: every row of every table", found["database"]),
        ("from the keeper, one bit altered", altered["live"]),
        ("`--database`, one bit altered", altered["database"]),
    ):
        lines.append(f"| {label} | {one['seconds']:.0f} s | {one['code']} | {one['load_before']:.1f} |")
    return [
        *lines,
        "",
        f"Altered was one bit of byte {altered['byte']} of entry {altered['entry']:,}; `--database` said: "
        f"“{altered['database']['told']}”, and the audit: “{altered['live']['told']}”",
        "",
    ]
