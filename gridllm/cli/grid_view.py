"""How a grid looks on a terminal and in JSON: pure functions of node records. ``status.py`` fetches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from gridllm.planning.coverage import coverage, gaps, spell_ranges

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from gridllm.admission.certificate import Certificate
    from gridllm.cli.columns import Column
    from gridllm.errors import CertificateError
    from gridllm.ids import ModelRoot, PeerId
    from gridllm.wire.record import NodeRecord

BAR_CELLS: Final = 32  # a model with more blocks gets several to a cell
LEAST_BAR_CELLS: Final = 4  # a narrower bar shows nothing
WIDE: Final = 120
SHORT_DTYPES: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
STATE_STYLES: Final = {"serving": "green", "joining": "cyan", "draining": "yellow"}


@dataclass(frozen=True, slots=True)
class ModelView:
    """What is shown of one model of the grid."""

    name: str
    root: ModelRoot
    blocks: int
    records: Sequence[NodeRecord]  # of admitted nodes
    rtt_ms: Mapping[PeerId, float | None]  # measured from here; None: no answer; absent: not measured
    now_s: float  # Unix time
    certificates: Mapping[PeerId, Certificate] = field(default_factory=dict)  # of ``records``; none in an open grid
    outsiders: Sequence[tuple[NodeRecord, CertificateError]] | None = None  # not admitted, and why; None: not asked

    @property
    def counts(self) -> list[int]:
        """Serving nodes per block."""
        return coverage(self.records, self.blocks)

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Ranges of blocks that nobody serves."""
        return gaps(self.counts)


def model_renderable(view: ModelView, width: int = WIDE) -> Group:
    """Heading, table of nodes, and coverage of each block, on a terminal of ``width`` columns."""
    from rich.console import Group
    from rich.text import Text

    serving = sum(record.state == "serving" for record in view.records)
    heading = Text.assemble(
        (view.name, "bold"),
        f"  {view.blocks} blocks, root {view.root[:16]}…, {serving} of {len(view.records)} nodes serve",
    )
    parts: list[Text | Table] = [heading]
    if view.records:
        parts.append(_node_table(view, width))
    parts.append(coverage_text(view))
    if view.outsiders:
        parts += [Text("announced but not admitted; nobody uses them", style="dim"), _outsider_table(view.outsiders)]
    return Group(*parts)


def coverage_text(view: ModelView) -> Text:
    """One digit per block: how many nodes serve it; gaps in red, with their ranges spelled out."""
    from rich.text import Text

    text = Text("coverage  ")
    per_cell = -(-view.blocks // (2 * BAR_CELLS))
    for first in range(0, view.blocks, per_cell):
        count = min(view.counts[first : first + per_cell])
        style = "bold red" if count == 0 else "yellow" if count == 1 else "green"
        text.append("·" if count == 0 else str(count) if count < 10 else "+", style=style)
    if view.gaps:
        text.append(f"  nobody serves {spell_ranges(view.gaps)}", style="bold red")
        text.append(f"; help with: gridllm serve --model {view.name}")
    elif min(view.counts) == 1:
        text.append("  complete; a second node for each block would keep sessions going if one fails", style="yellow")
    else:
        text.append(f"  complete, at least {min(view.counts)} nodes for each block", style="green")
    return text


def span_bar(start: int, end: int, blocks: int, most: int = BAR_CELLS) -> str:
    """Where a span lies in the model: one cell per block, or per few blocks; at most ``most`` cells."""
    per_cell = -(-blocks // most)
    cells = range(0, blocks, per_cell)
    return "".join("█" if start < first + per_cell and first < end else "─" for first in cells)


def view_json(view: ModelView) -> dict[str, Any]:
    """The same for programs; ``not_admitted`` only where it was asked for."""
    document: dict[str, Any] = {
        "model": view.name,
        "root": view.root,
        "blocks": view.blocks,
        "coverage": view.counts,
        "gaps": [list(gap) for gap in view.gaps],
        "nodes": [
            _record_json(record)
            | {
                "rtt_ms": view.rtt_ms.get(record.peer),
                "certificate": _certificate_json(view.certificates.get(record.peer), view.now_s),
            }
            for record in _in_order(view.records)
        ],
    }
    if view.outsiders is not None:
        document["not_admitted"] = [
            _record_json(record) | {"rule": fault.rule, "why": str(fault)} for record, fault in view.outsiders
        ]
    return document


def _record_json(record: NodeRecord) -> dict[str, Any]:
    return {
        "peer": record.peer,
        "version": record.version,
        "start": record.start,
        "end": record.end,
        "state": record.state,
        "dtype": record.dtype,
        "quantization": record.quantization,
        "blocks_per_s": record.blocks_per_s,
        "free_tokens": record.free_tokens,
        "total_tokens": record.total_tokens,
        "next_hop_ms": record.next_hop_ms,
        "addresses": record.addresses,
        "since": record.since,
    }


def _certificate_json(certificate: Certificate | None, now_s: float) -> dict[str, Any] | None:
    """What was certified, and for how many more seconds; None in an open grid."""
    if certificate is None:
        return None
    return certificate.model_dump(mode="json", include={"roles", "figures", "issued", "expires", "measured_by"}) | {
        "left_s": round(certificate.expires - now_s, 1)
    }


def short_peer(peer: str) -> str:
    """Enough of a peer id to tell nodes apart: all Ed25519 ids begin alike, so the end is shown."""
    return f"…{peer[-8:]}"


def age_of(seconds: float) -> str:
    """A duration in its largest unit: 42 s, 7 min, 3 h, 12 d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _node_table(view: ModelView, width: int) -> Table:
    """The columns that ``width`` has room for, and where it has more, a bar of each span; ``--json`` has them all."""
    from gridllm.cli.columns import GAP, Column, fitting, table_of

    columns = fitting(_node_columns(view), width)
    left_cells = width - sum(column.width + GAP for column in columns)
    if left_cells >= LEAST_BAR_CELLS:
        most = min(BAR_CELLS, left_cells)
        bars = [span_bar(record.start, record.end, view.blocks, most) for record in _in_order(view.records)]
        columns[1:2] = [Column("blocks", bars), replace(columns[1], title="")]
    return table_of(columns)


def _node_columns(view: ModelView) -> list[Column]:
    from rich.text import Text

    from gridllm.cli.columns import Column

    records = _in_order(view.records)
    speeds = [f"{record.blocks_per_s:.0f}" if record.blocks_per_s else "?" for record in records]
    columns = [
        Column("node", [short_peer(record.peer) for record in records]),
        Column("blocks", [f"{record.start}:{record.end}" for record in records]),
        Column("state", [Text(record.state, style=STATE_STYLES[record.state]) for record in records]),
        Column("dtype", [_dtype(record) for record in records], turn=5),
        Column("blocks/s", speeds, turn=2, right=True),
        Column("cache free", [_cache(record) for record in records], turn=1, right=True),
        Column("rtt", [_rtt(view, record) for record in records], turn=3, right=True),
        Column("version", [printable(record.version) for record in records], turn=7, right=True),
        Column("up", [age_of(view.now_s - record.since) for record in records], turn=6, right=True),
    ]
    if view.certificates:
        columns.append(Column("cert", [_left(view, record) for record in records], turn=4, right=True))
    return columns


def _dtype(record: NodeRecord) -> str:
    stored = SHORT_DTYPES.get(record.dtype, record.dtype)
    return printable(stored if record.quantization == "none" else f"{stored}/{record.quantization}")


def _left(view: ModelView, record: NodeRecord) -> str:
    """How much longer the node's certificate lasts."""
    certificate = view.certificates.get(record.peer)
    return "-" if certificate is None else age_of(certificate.expires - view.now_s)


def _outsider_table(outsiders: Sequence[tuple[NodeRecord, CertificateError]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("node", "blocks", "state", "not admitted"):
        table.add_column(title, no_wrap=True)
    table.add_column("why")
    for record, fault in outsiders:
        table.add_row(
            Text(short_peer(record.peer)),
            f"{record.start}:{record.end}",
            Text(record.state),
            Text(fault.rule, style="red"),
            Text(printable(str(fault))),
        )
    return table


def _rtt(view: ModelView, record: NodeRecord) -> str:
    if record.peer not in view.rtt_ms:
        return "?"
    rtt = view.rtt_ms[record.peer]
    return "no answer" if rtt is None else f"{rtt:.1f} ms" if rtt < 10 else f"{rtt:.0f} ms"


def _cache(record: NodeRecord) -> str:
    if not record.total_tokens:
        return "-"
    total = f"{record.total_tokens / 1000:.0f}k" if record.total_tokens >= 10_000 else str(record.total_tokens)
    return f"{record.free_tokens / record.total_tokens:.0%} of {total}"


def _in_order(records: Sequence[NodeRecord]) -> list[NodeRecord]:
    return sorted(records, key=lambda record: (record.start, record.end, record.peer))


def printable(text: str) -> str:
    """Without control characters, which could move the cursor of whoever looks."""
    return "".join(char if char.isprintable() else "?" for char in text)
