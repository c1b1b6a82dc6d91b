"""Each minimum beside what a machine reached, what is short, what would mend it. Pure; for ``bench`` and ``join``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from gridllm.admission.figures import SPEEDS, Figures, compare
from gridllm.admission.spelling import label, spell
from gridllm.charter.minimums import ROLES, Admission, Role

if TYPE_CHECKING:
    from rich.table import Table

NETWORK: Final = frozenset({"upload_mbit_s", "download_mbit_s", "reachable"})
"""Figures that one machine alone cannot measure."""
BUSY_SHARE: Final = 0.15  # of the processors, taken by others, from which on it is worth saying
ROLE_MEANS: Final[dict[Role, str]] = {
    "serve": "computes blocks of a model",
    "relay": "carries connections of machines that cannot be dialled",
    "seed": "hands out weights",
}

State = Literal["met", "short", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One minimum of one role."""

    role: Role
    name: str  # field of ``Minimums``
    asked: float | int | str | bool
    reached: float | int | str | bool
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the machine was measured with: decides what would help."""

    model: str
    dtype: str
    device: str
    threads: int
    processors: int
    busy_share: float = 0.0  # of the processors, taken by other programs before the measurement
    memory_bytes: int = 0  # offered
    free_bytes: int = 0  # on the device
    gpu: bool = False  # there is one that was not used


def rows_of(
    figures: Figures,
    admission: Admission,
    *,
    roles: Sequence[Role] = ROLES,
    unknown: frozenset[str] = frozenset(),
) -> list[Row]:
    """Every minimum that asks for something, role by role. ``unknown``: figures that were not measured."""
    rows = []
    for role in roles:
        found = [(row.name, row.asked, row.reached, row.met) for row in compare(figures, admission.of(role))]
        if role == "serve" and not admission.serve.decode_blocks_per_s and not figures.decode_blocks_per_s:
            found.insert(0, ("decode_blocks_per_s", 0.0, 0.0, False))  # who serves must compute at all
        for name, asked, reached, met in found:
            rows.append(Row(role, name, asked, reached, "unknown" if name in unknown else "met" if met else "short"))
    return rows


def role_states(rows: Sequence[Row]) -> dict[Role, State]:
    """Role by role: short where one minimum is; unknown where nothing that says much was measured."""
    states: dict[Role, State] = {}
    for role in ROLES:
        mine = [row for row in rows if row.role == role]
        telling = [row for row in mine if row.state == "met" and row.name != "version"]
        if any(row.state == "short" for row in mine):
            states[role] = "short"
        elif telling or not any(row.state == "unknown" for row in mine):
            states[role] = "met"
        else:
            states[role] = "unknown"
    return states


def remedies(rows: Sequence[Row], situation: Situation) -> list[str]:
    """What would mend what is short to ``serve`` (or, where that is reached, nothing), each in a sentence."""
    short = {row.name: row for row in rows if row.state == "short" and row.role == "serve"}
    found: list[str] = []
    if any(name in short for name in SPEEDS):
        found += _faster(situation)
    if "memory_bytes" in short:
        found.append(_more_memory(short["memory_bytes"], situation))
    if "disk_bytes" in short:
        row = short["disk_bytes"]
        lacking = spell("disk_bytes", int(row.asked) - int(row.reached))
        found.append(
            f"Free {lacking} on the disk of the cache folder, or set GRIDLLM_CACHE_DIR to one on another disk."
        )
    if short.keys() & {"upload_mbit_s", "download_mbit_s"}:
        found.append("Use a faster connection, or stop what is using it now.")
    if "reachable" in short:
        found.append("Open a port to this machine and announce it with --announce-maddrs.")
    if "version" in short:
        found.append(f"Install gridllm {short['version'].asked} or newer.")
    if short:
        states = role_states(rows)
        smaller = [role for role in ROLES if role != "serve" and states[role] != "short"]
        if smaller:
            means = " or ".join(f"{role} ({ROLE_MEANS[role]})" for role in smaller)
            found.append(f"Take a smaller role: {means}.")
    return found


def _faster(situation: Situation) -> list[str]:
    found = []
    if situation.gpu:
        found.append("Use the GPU: --device cuda.")
    if situation.busy_share >= BUSY_SHARE:
        found.append(
            f"Stop other programs: they took {situation.busy_share:.0%} of the {situation.processors} processors."
        )
    if situation.threads < situation.processors and not situation.device.startswith("cuda"):
        found.append(
            f"Compute with more threads: --threads {situation.processors} (it computed with {situation.threads})."
        )
    other = "bfloat16" if situation.dtype == "float32" else "float32"
    found.append(f"Try another dtype, which may be faster here: --dtype {other}.")
    return found


def _more_memory(row: Row, situation: Situation) -> str:
    asked, free = spell("memory_bytes", row.asked), spell("memory_bytes", situation.free_bytes)
    if situation.free_bytes >= int(row.asked) > situation.memory_bytes:
        return f"Offer more memory: --memory {asked.replace(' ', '')} ({free} are free)."
    return f"Free memory until {asked} can be held beside what the system needs."


def figures_table(figures: Figures, admission: Admission, roles: Sequence[Role] = ROLES) -> Table:
    """The table of what an authority measured."""
    return bench_table(rows_of(figures, admission, roles=roles), figures, roles)


def bench_table(rows: Sequence[Row], figures: Figures, roles: Sequence[Role] = ROLES) -> Table:
    """minimum | asked | this machine | met?, the roles one under the other, then what nobody asked for."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("to", "minimum", "asked", "this machine", "met?"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("asked", "this machine") else "left")
    styles: Mapping[State, tuple[str, str]] = {
        "met": ("yes", "green"),
        "short": ("no", "bold red"),
        "unknown": ("needs an authority", "yellow"),
    }
    for role in roles:
        mine = [row for row in rows if row.role == role]
        for place, row in enumerate(mine):
            word, style = styles[row.state]
            reached = "?" if row.state == "unknown" else spell(row.name, row.reached)
            # Text, not str: a version that a stranger wrote must not be read as rich's markup.
            cells = (role if place == 0 else "", label(row.name), spell(row.name, row.asked), reached)
            table.add_row(*map(Text, cells), Text(word, style=style))
        if not mine:
            table.add_row(role, "nothing asked for", "", "", Text("yes", style="green"))
    asked = {row.name for row in rows}
    for name in (*SPEEDS, "memory_bytes"):
        if name not in asked and getattr(figures, name):
            table.add_row("", label(name), "", spell(name, getattr(figures, name)), "")
    return table


def summary(rows: Sequence[Row]) -> str:
    """What it comes to, in a sentence."""
    states = role_states(rows)
    met = [role for role in ROLES if states[role] == "met"]
    unknown = any(row.state == "unknown" for row in rows)
    rest = " An authority measures the connection when it joins." if unknown else ""
    if not met:
        return f"This machine reaches the minimums of no role.{rest}"
    return f"This machine is fit to {' and '.join(met)}.{rest}"


def bench_json(rows: Sequence[Row], figures: Figures, fixes: Sequence[str], situation: Situation) -> dict[str, Any]:
    """The same for programs."""
    return {
        "model": situation.model,
        "dtype": situation.dtype,
        "device": situation.device,
        "threads": situation.threads,
        "busy_share": round(situation.busy_share, 3),
        "figures": figures.model_dump(mode="json"),
        "roles": dict(role_states(rows)),
        "minimums": [
            {
                "role": row.role,
                "minimum": row.name,
                "asked": row.asked,
                "reached": None if row.state == "unknown" else row.reached,
                "state": row.state,
            }
            for row in rows
        ],
        "remedies": list(fixes),
    }
