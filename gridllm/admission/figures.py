"""What a machine was measured at, beside what a role asks for. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from gridllm.charter.minimums import ROLES, Admission, Minimums, Role

Rate = Annotated[float, Field(ge=0, le=1e9)]


class Figures(BaseModel):
    """One machine, measured. Every figure but ``disk_bytes`` was proven on the measurer's clock."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    decode_blocks_per_s: Rate = 0.0  # one token of one session through one block; 0: not measured
    batch_blocks_per_s: Rate = 0.0  # eight sessions in a pass, tokens of all eight together
    prefill_blocks_per_s: Rate = 0.0  # tokens of a prompt
    memory_bytes: Annotated[int, Field(ge=0, le=2**50)] = 0  # held all at once
    disk_bytes: Annotated[int, Field(ge=0, le=2**60)] = 0  # free; as the candidate reports it
    upload_mbit_s: Rate = 0.0
    download_mbit_s: Rate = 0.0
    rtt_ms: Rate = 0.0
    reachable: bool = False  # dialled back without a relay
    version: Annotated[str, Field(max_length=32)] = ""  # of gridllm; as the candidate reports it


SPEEDS: Final = ("decode_blocks_per_s", "batch_blocks_per_s", "prefill_blocks_per_s")  # proven by computing
RATES: Final = (*SPEEDS, "upload_mbit_s", "download_mbit_s")


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One minimum beside what was reached."""

    name: str  # field of ``Minimums``
    asked: float | int | str | bool
    reached: float | int | str | bool

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return meets(self.asked, self.reached)


def meets(asked: float | str | bool, reached: float | str | bool) -> bool:
    """Whether a figure reaches its minimum; versions compare by number, part by part."""
    if isinstance(asked, str):
        return version_tuple(str(reached)) >= version_tuple(asked)
    return reached >= asked  # type: ignore[operator]  # both are numbers here; bool counts as 0 and 1


def version_tuple(text: str) -> tuple[int, ...]:
    """``"0.12.3.dev1"`` → (0, 12, 3): leading numbers only."""
    parts: list[int] = []
    for part in text.split("."):
        if not (part.isascii() and part.isdigit()):  # candidates send what they like: "²" is a digit and no number
            break
        parts.append(int(part))
    while parts and parts[-1] == 0:
        parts.pop()  # 1.0 and 1 are one version
    return tuple(parts)


def compare(figures: Figures, minimums: Minimums) -> list[Shortfall]:
    """Every minimum that asks for something, in the order of the fields, beside the figure."""
    rows = []
    for name in Minimums.model_fields:
        asked = getattr(minimums, name)
        if asked:
            rows.append(Shortfall(name, asked, getattr(figures, name)))
    return rows


def roles_met(figures: Figures, admission: Admission) -> list[Role]:
    """The roles whose minimums are all reached. ``serve`` needs its compute measured at all."""
    return [
        role
        for role in ROLES
        if all(row.met for row in compare(figures, admission.of(role)))
        and (role != "serve" or figures.decode_blocks_per_s > 0)
    ]


def median_figures(measured: Sequence[Figures]) -> Figures:
    """The median of each figure over several measurers; reachable when most of them could dial it."""
    middle = {name: statistics.median(getattr(one, name) for one in measured) for name in (*RATES, "rtt_ms")}
    return Figures(
        **{name: round(value, 3) for name, value in middle.items()},
        memory_bytes=int(statistics.median(one.memory_bytes for one in measured)),
        disk_bytes=min(one.disk_bytes for one in measured),
        reachable=2 * sum(one.reachable for one in measured) > len(measured),
        version=measured[0].version,
    )
