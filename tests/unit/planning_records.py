"""Node records for tests of decisions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gridllm.ids import ModelRoot, PeerId
from gridllm.wire.record import NodeRecord

ROOT = ModelRoot("a" * 64)


def peer(number: int) -> PeerId:
    return PeerId(f"12D3KooWtest{number:05d}")


def node(number: int, start: int, end: int, **changes: Any) -> NodeRecord:
    fields: dict[str, Any] = {
        "peer": peer(number),
        "version": "0",
        "model": ROOT,
        "start": start,
        "end": end,
        "state": "serving",
        "dtype": "float32",
        "blocks_per_s": 100.0,
        "free_tokens": 1000,
        "total_tokens": 1000,
        "next_hop_ms": {},
        "addresses": [],
        "since": float(number),
    }
    return NodeRecord(**(fields | changes))


@st.composite
def small_grids(draw: st.DrawFn, blocks: int = 5, most: int = 5) -> list[NodeRecord]:
    """Up to ``most`` serving nodes of any spans, speeds and round trips."""
    count = draw(st.integers(1, most))
    records = []
    for number in range(count):
        start = draw(st.integers(0, blocks - 1))
        end = draw(st.integers(start + 1, blocks))
        known = draw(st.sets(st.integers(0, count - 1), max_size=count))
        hops = {peer(other): draw(st.sampled_from([0.0, 1.0, 5.0, 25.0, 90.0])) for other in sorted(known - {number})}
        speed = draw(st.sampled_from([0.0, 20.0, 100.0, 101.0, 1000.0]))
        free = draw(st.sampled_from([0, 500, 1000]))
        records.append(node(number, start, end, blocks_per_s=speed, next_hop_ms=hops, free_tokens=free))
    return records
