"""Nodes that cheat people who generate: one claims what it was never sent, one takes and does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridllm.identity.keys import load
from gridllm.ledger.prices import Count
from tests.command import gridllm
from tests.swarm.greedy_node import program
from tests.swarm.ledger_cheats import TradeGrid, crook, until

pytestmark = pytest.mark.timeout(300)

TOKENS = 48
PROMPT = "Once upon a time a small dog lived in a house near the sea, and every day he went to the beach. " * 2


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TradeGrid]:
    made = TradeGrid(tmp_path_factory.mktemp("greedy"), "--window", "4", count=1, threshold=1)
    try:
        made.serve(1)  # an honest one
        yield made
    finally:
        made.close()


def generate(home: Path) -> dict[str, Any]:
    args = ("--json", "--temperature", "0", "--max-new-tokens", str(TOKENS))
    done = gridllm(home, "generate", PROMPT, *args, timeout_s=150)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("kind", ["claims", "takes"])
async def test_a_greedy_node_is_left_and_costs_one_call_at_most(grid: TradeGrid, kind: str) -> None:
    home = grid.join(kind)
    key = load(home / "data" / "gridllm" / "identity.key")
    async with crook(grid, key, credit=10**9) as one:
        (greedy,) = grid.serve(1, program=program(kind))
        honest = grid.nodes[0].account
        before = (await one.keepers.account(honest)).earned
        told = generate(home)
        count = Count(told["prompt_tokens"], len(told["tokens"]) - 1)
        assert len(told["tokens"]) > TOKENS // 2

        async def booked() -> int:
            view = await one.keepers.account(one.account)
            return view.spent if view.spent == told["spent"] else 0

        spent = await until(booked, within_s=90)
        taken = (await one.keepers.account(greedy.account)).earned
        print(f"{kind}: the greedy node had {taken} of {spent}, {count}")  # noqa: T201  # to be seen with -s
        if kind == "takes":  # for a prompt that it never computed: all but the window was paid ahead
            assert 0 < taken <= grid.cost(Count(prefill=count.prefill, decode=1))
        else:
            assert 0 < taken <= grid.cost(Count(count.prefill, TOKENS)), "what the client's own count says"
        assert (await one.keepers.account(honest)).earned - before == spent - taken
        greedy.running.stop()
