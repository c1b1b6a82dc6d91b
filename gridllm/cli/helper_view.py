"""How a grid's relays and seeds look on a terminal and in JSON: pure functions of their records, and their look-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridllm.cli.grid_view import age_of, printable, short_peer

if TYPE_CHECKING:
    from rich.console import Group

    from gridllm.errors import CertificateError
    from gridllm.ids import PeerId
    from gridllm.swarm.helpers import Helpers
    from gridllm.swarm.interface import Swarm
    from gridllm.wire.helper import HelperRecord


@dataclass(frozen=True, slots=True)
class HelperView:
    """What is shown of a grid's helpers."""

    records: Sequence[HelperRecord]  # of admitted ones
    rtt_ms: Mapping[PeerId, float | None]  # None: no answer
    names: Mapping[str, str]  # model's root → name
    now_s: float  # Unix time
    outsiders: Sequence[tuple[HelperRecord, CertificateError]] | None = None  # not admitted, and why; None: not asked


async def look_for_helpers(swarm: Swarm, helpers: Helpers, names: Mapping[str, str], *, everything: bool) -> HelperView:
    """Fetch the records and measure the way to each admitted helper; with ``everything``, list others.

    Args:
        names: of the grid's models, by root.
    """
    import asyncio
    import time

    from gridllm.cli.status import ping_ms

    seen = await helpers.census()
    records = [record for record, fault in seen if fault is None]
    outside = [(record, fault) for record, fault in seen if fault is not None]
    rtts = await asyncio.gather(*(ping_ms(swarm, record) for record in records))
    return HelperView(
        records,
        {record.peer: rtt for record, rtt in zip(records, rtts, strict=True)},
        names,
        time.time(),
        outside if everything else None,
    )


def helpers_renderable(view: HelperView) -> Group | None:
    """A table beneath the nodes; None when there is nothing to show."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not view.records and not view.outsiders:
        return None
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("helper", "role", "weights of"):
        table.add_column(title, no_wrap=True)
    for title in ("rtt", "version", "up"):
        table.add_column(title, no_wrap=True, justify="right")
    for record in view.records:
        rtt = view.rtt_ms.get(record.peer)
        table.add_row(
            # Text, not str: what a stranger wrote into a record must not be read as rich's markup.
            Text(short_peer(record.peer)),
            Text(record.role, style="green"),
            Text(", ".join(_models(view, record)) or "-"),
            "no answer" if rtt is None else f"{rtt:.1f} ms",
            Text(printable(record.version)),
            age_of(view.now_s - record.since),
        )
    parts: list[Text | Table] = [table] if view.records else []
    for record, fault in view.outsiders or ():
        parts.append(Text(f"{short_peer(record.peer)} announces itself as {record.role}: {printable(str(fault))}"))
    return Group(*parts)


def helpers_json(view: HelperView) -> dict[str, Any]:
    """The same for programs; ``helpers_not_admitted`` only where it was asked for."""
    document: dict[str, Any] = {
        "helpers": [_json(view, record) | {"rtt_ms": view.rtt_ms.get(record.peer)} for record in view.records]
    }
    if view.outsiders is not None:
        document["helpers_not_admitted"] = [
            _json(view, record) | {"rule": fault.rule, "why": str(fault)} for record, fault in view.outsiders
        ]
    return document


def _json(view: HelperView, record: HelperRecord) -> dict[str, Any]:
    return {
        "peer": record.peer,
        "role": record.role,
        "models": _models(view, record),
        "addresses": record.addresses,
        "version": record.version,
        "since": record.since,
    }


def _models(view: HelperView, record: HelperRecord) -> list[str]:
    """Names of the grid's models that it hands out; others are nobody's here."""
    return [view.names[root] for root in record.models if root in view.names]
