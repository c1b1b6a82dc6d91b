"""Where both measurements of metering run: a grid that serves newcomers unmetered, and clients with credit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.chain import spans
from benchmarks.models import SIZES, make_model
from benchmarks.process import Worker
from gridllm.demo_model import demo_model_path
from tests.command import gridllm, home_environ
from tests.swarm.grid import ProcessGrid, process_grid

MODELS: Final = {"demo": 8, "small": SIZES["small"].layers, "medium": SIZES["medium"].layers}  # blocks
FOUNDING: Final = ("--open", "--ledger", "--newcomers", "lowest")
CREDITS: Final = "100000000"
CACHE_TOKENS: Final = 16384  # of each node


@dataclass(frozen=True, slots=True)
class MeteredGrid:
    """A running grid of one model; its clients share one account, which has credit."""

    grid: ProcessGrid
    model: str
    folder: str  # of the model's weights

    def client(self) -> Worker:
        """Another client in a process of its own, not ready yet."""
        return Worker("benchmarks.metering_worker", self.model, self.folder, env=home_environ(self.grid.home))


@contextmanager
def metered_grid(model: str, nodes: int, scratch: Path) -> Iterator[MeteredGrid]:
    """A grid of so many nodes of one thread each that serves one of ``MODELS``, until the end of the block."""
    folder = str(demo_model_path() if model == "demo" else make_model(model, scratch))
    home = scratch / f"grid-{model}-{nodes}"
    home.mkdir()
    with process_grid(
        home,
        *spans(MODELS[model], nodes),
        model="demo" if model == "demo" else folder,
        dtype="float32",
        extra=["--cache-tokens", str(CACHE_TOKENS)],
        admission=FOUNDING,
        cold=True,
    ) as grid:
        account = json.loads(gridllm(grid.home, "id", "--json").stdout)["peer"]
        grid.maintain("grant", account, CREDITS, "--why", "a measurement")
        yield MeteredGrid(grid, model, folder)
