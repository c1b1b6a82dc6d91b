"""What a node costs: memory beside its weights, and the time until it serves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.models import SIZES, make_model
from gridllm.charter.pin import Pins
from gridllm.ids import PeerId
from gridllm.wire.messages import Close, Open, Output, Ready, RowSlice, Step
from gridllm.wire.tensor import pack
from tests.command import COMMAND, home_environ
from tests.swarm.garbage.stranger import Stranger
from tests.swarm.grid import ProcessGrid, process_grid

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's memory accounts"),
]

SPAN = (4, 8)  # of 16 blocks
BESIDE_BYTES = 480 * 10**6
PROMPT_TOKENS, NEW_TOKENS = 128, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 246 M parameters and 16 blocks."""
    torch.set_num_threads(1)
    return make_model("medium", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def grid(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    extra = ["--cache-tokens", "4096"]
    with process_grid(
        tmp_path_factory.mktemp("grid"),
        f"{SPAN[0]}:{SPAN[1]}",
        model=str(folder),
        dtype="float32",
        extra=extra,
        cold=True,
    ) as running:
        yield running


def span_bytes() -> int:
    """Weights of the span's blocks in float32."""
    hidden = SIZES["medium"].hidden
    inner = hidden * 8 // 3 // 8 * 8
    return (SPAN[1] - SPAN[0]) * 4 * (4 * hidden**2 + 3 * hidden * inner + 2 * hidden)


def pss_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().pss)


def peak_bytes(pid: int) -> int:
    """The most the process ever held."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def one_generation(grid: ProcessGrid, stranger: Stranger) -> None:
    """A prompt and decode steps through the node's blocks alone, and the session closed."""
    entry = Pins(grid.home / "data" / "gridllm").current().charter.models[0]
    link = await stranger.link(PeerId(grid.nodes[0].peer))
    sid, me = b"g" * 16, stranger.peer
    opened = Open(1, sid, entry.root, "float32", *SPAN, 1, 1, me, None, [0])
    assert isinstance(await link.ask(opened), Ready)
    position = 0
    for number, tokens in enumerate([PROMPT_TOKENS, *[1] * NEW_TOKENS], 1):
        hidden = torch.randn(tokens, entry.hidden_size)
        link.send(Step(sid, 1, number, [RowSlice(0, 0, position, tokens, 1)]), bytes(pack(hidden)))
        while not isinstance(await link.answer(), Output):
            pass
        position += tokens
    link.send(Close(sid))
    await link.settle()
    await link.close()


def test_a_node_holds_its_span_and_little_beside(grid: ProcessGrid) -> None:
    (node,) = grid.nodes
    signed = Pins(grid.home / "data" / "gridllm").current()
    with Stranger([grid.address], signed.grid) as stranger:
        stranger.run(one_generation(grid, stranger), timeout_s=120)
    time.sleep(2.0)  # idle
    assert len(node.pids) <= 2
    held = [pss_bytes(pid) for pid in node.pids]
    beside = sum(held) - span_bytes()
    peak = peak_bytes(node.pids[0])
    rss = [psutil.Process(pid).memory_info().rss for pid in node.pids]
    shared = (
        f"span {span_bytes() / 1e6:.0f} MB; PSS {' + '.join(f'{h / 1e6:.0f}' for h in held)} MB; "
        f"beside the span {beside / 1e6:.0f} MB; RSS {sum(rss) / 1e6:.0f} MB, as if other processes shared nothing; "
        f"peak of the process since its start {peak / 1e6:.0f} MB"
    )
    print(shared)  # noqa: T201
    assert beside <= BESIDE_BYTES, shared
    # Whatever the process holds beside the span now was there while it loaded, too: the rest is what loading added.
    assert peak - (rss[0] - span_bytes()) <= 1.1 * span_bytes(), shared


def test_commands_answer_soon(tmp_path: Path) -> None:
    """Printed, not judged: other work on the machine decides as well."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], env=home_environ(tmp_path), check=True, capture_output=True, timeout=60)
        seconds.append(time.perf_counter() - started)
    print(f"gridllm --help: {min(seconds):.2f} s with {sys.version.split()[0]}")  # noqa: T201


@pytest.mark.soak
def test_a_demo_node_serves_soon(tmp_path: Path) -> None:
    """Printed, not judged."""
    with process_grid(tmp_path, "0:3") as running:
        (node,) = running.nodes
        print(f"a node of the demo grid serves {node.serving_after_s:.1f} s after its command")  # noqa: T201
        assert node.span == (0, 3)
