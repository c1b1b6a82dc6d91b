"""The grid as `gridllm status` draws it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from planning_records import ROOT, node, peer
from rich.console import Console, RenderableType

from gridllm.cli.grid_view import ModelView, age_of, coverage_text, model_renderable, span_bar, view_json
from gridllm.identity.keys import Identity
from tests.certificates import certificate, closed_grid


def drawn(renderable: RenderableType, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=130, force_terminal=False, soft_wrap=True, **options)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def view(*records: Any, blocks: int = 12, rtt_ms: Any = None) -> ModelView:
    return ModelView("demo", ROOT, blocks, records, rtt_ms or {}, now_s=200.0)


SNAPSHOT = """\
demo  12 blocks, root aaaaaaaaaaaaaaaa…, 2 of 3 nodes serve
node       blocks              state     dtype  blocks/s    cache free        rtt  version     up
…est00001  ████────────  0:4   serving   f32         100  100% of 1000     0.8 ms        0  3 min
…est00002  ───█████────  3:8   serving   bf16          ?   25% of 1000      35 ms        0   10 s
…est00003  ────────████  8:12  draining  f32         100  100% of 1000  no answer        0  3 min
coverage  11121111····  nobody serves 8:12; help with: gridllm serve --model demo"""


def test_snapshot() -> None:
    records = [
        node(3, 8, 12, state="draining"),
        node(2, 3, 8, dtype="bfloat16", blocks_per_s=0.0, free_tokens=250, since=190.0),
        node(1, 0, 4),
    ]
    rtts = {peer(1): 0.81, peer(2): 35.2, peer(3): None}
    assert drawn(model_renderable(view(*records, rtt_ms=rtts))) == SNAPSHOT


@pytest.mark.parametrize("certified", [False, True])
@pytest.mark.parametrize(
    ("width", "left_out"), [(80, {"version"}), (60, {"version", "up", "dtype", "cert"}), (40, {"rtt"})]
)
def test_a_narrow_terminal_gets_whole_columns_and_no_figure_is_cut_off(
    width: int, left_out: set[str], certified: bool
) -> None:
    records = [node(1, 0, 4, free_tokens=65536, total_tokens=65536), node(3, 8, 12, blocks_per_s=12345.0)]
    shown = view(*records, rtt_ms={peer(1): 123.0, peer(3): 5.0})
    if certified:
        papers = certificate(closed_grid(), Identity.ephemeral().peer)
        shown = replace(shown, certificates={record.peer: papers for record in records}, now_s=papers.expires - 5000.0)
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(model_renderable(shown, width))
    assert isinstance(console.file, io.StringIO)
    title, *rows = [line for line in console.file.getvalue().splitlines() if line.startswith(("node", "…est"))]
    assert len(rows) == len(records)
    assert "100% of 66k" in rows[0]
    assert "…" not in "".join(rows).replace("…est", "")
    assert not left_out & set(title.split())
    assert ("cert" in title) == (certified and width == 80)


def test_an_empty_grid_is_one_red_gap() -> None:
    text = coverage_text(view())
    assert "············  nobody serves 0:12" in text.plain
    assert "bold red" in {str(span.style) for span in text.spans}


def test_complete_grids_say_so() -> None:
    assert "complete; a second node" in coverage_text(view(node(1, 0, 12))).plain
    assert "at least 2 nodes" in coverage_text(view(node(1, 0, 12), node(2, 0, 12))).plain


def test_large_models_share_cells_and_never_hide_a_gap() -> None:
    records = [node(1, 0, 100), node(2, 101, 126)]
    bar = coverage_text(view(*records, blocks=126)).plain.split()[1]
    assert len(bar) == 63
    assert bar.count("·") == 1
    assert len(span_bar(0, 126, 126)) == 32
    assert span_bar(0, 1, 126).count("█") == 1


def test_strangers_cannot_draw_on_the_terminal() -> None:
    hostile = node(1, 0, 12, version="\x1b[2J[red]x", quantization="[/bold]")
    shown = drawn(model_renderable(view(hostile)))
    assert "\x1b" not in shown
    assert "?[2J[red]x" in shown


def test_json_carries_everything() -> None:
    document = json.loads(json.dumps(view_json(view(node(1, 0, 4), rtt_ms={peer(1): 2.0}))))
    assert document["gaps"] == [[4, 12]]
    assert document["coverage"] == [1] * 4 + [0] * 8
    assert document["nodes"][0]["rtt_ms"] == 2.0


def test_ages() -> None:
    assert [age_of(s) for s in (-3, 42, 61, 7200, 200_000)] == ["0 s", "42 s", "1 min", "2 h", "2 d"]
