"""Rates over many examinations: figures beside ``gridllm bench``, honest machines refused, cheats found.

``benchmarks/admission.py`` measures the same and writes it down.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import admission
from tests.swarm.cheaters import REASONS
from tests.swarm.grid import ProcessGrid

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

PAIRS = 5
LOADED = 50
MOST_REFUSED = 1  # of them
CHEATS = 10


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    grid = ProcessGrid(tmp_path_factory.mktemp("grid"), "full")
    try:
        grid.found("demo", admission=())
        yield grid
    finally:
        grid.close()


def test_certificates_are_near_bench_five_times_in_a_row(grid: ProcessGrid) -> None:
    for pair in admission.pairs(grid, PAIRS):
        assert pair["admitted"], pair
        assert all(abs(ratio - 1) <= admission.NEAR for ratio in pair["ratios"].values()), pair


def test_honest_machines_are_admitted_however_busy(grid: ProcessGrid) -> None:
    refused = [one for one in admission.loaded(grid, LOADED) if not one["admitted"]]
    assert len(refused) <= MOST_REFUSED, refused


@pytest.mark.parametrize("kind", REASONS)
def test_every_cheat_is_refused(grid: ProcessGrid, kind: str) -> None:
    found = admission.caught(grid, kind, CHEATS)
    assert found["refused"] == CHEATS, found
    assert found["own_reason"] >= CHEATS - 1, found
