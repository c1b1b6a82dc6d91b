"""When a node may give up the model that it serves, and how two models share its memory: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridllm.engine.cache import TokenBudget
from gridllm.models.files import find_model
from gridllm.models.manifest import Manifest, build_manifest
from gridllm.models.sizes import block_size
from gridllm.node.room import KEPT_TOKENS, lend_room, room_beside, take_room_back
from gridllm.node.wishes import Wishes
from gridllm.planning.placement import bytes_needed
from gridllm.planning.succession import may_make_way, stands
from tests.unit.node_life import demo
from tests.unit.planning_records import node

BLOCKS = 8


def test_a_chain_stands_when_each_block_is_served() -> None:
    assert stands([node(1, 0, 4), node(2, 4, 8)], BLOCKS)
    assert not stands([node(1, 0, 4), node(2, 5, 8)], BLOCKS)
    assert not stands([node(1, 0, 4), node(2, 4, 8, state="joining")], BLOCKS)
    assert not stands([], BLOCKS)


def test_of_those_who_are_spared_one_goes_at_a_time() -> None:
    everyone = [node(1, 0, 8), node(2, 0, 4), node(3, 4, 8)]
    for turn in range(6):
        going = [me for me in everyone if may_make_way([r for r in everyone if r is not me], me, BLOCKS, turn)]
        assert len(going) == 1
    went = {
        me.peer
        for turn in range(40)
        for me in everyone
        if may_make_way([r for r in everyone if r is not me], me, BLOCKS, turn)
    }
    assert went == {record.peer for record in everyone}, "each has its turn"


def test_nobody_goes_who_is_needed_or_while_another_drains() -> None:
    head, tail = node(1, 0, 4), node(2, 4, 8)
    assert not may_make_way([tail], head, BLOCKS, 0)
    spared = node(3, 4, 8)
    assert not any(may_make_way([tail, spared], head, BLOCKS, turn) for turn in range(8))
    assert not may_make_way([head, node(2, 4, 8, state="draining")], spared, BLOCKS, 0)


@dataclass
class Held:
    """As much of a Hosting as sharing memory looks at."""

    engine: Any
    span: tuple[int, int]


def held(blocks: int, cache_tokens: int) -> tuple[Held, Manifest]:
    manifest = build_manifest(find_model("demo"))
    size = block_size(manifest, "float32")
    span = SimpleNamespace(
        bytes_per_token=blocks * size.cache_bytes_per_token, held_bytes=blocks * size.weight_bytes, start=0, end=blocks
    )
    return Held(SimpleNamespace(span=span, budget=TokenBudget(cache_tokens)), (0, blocks)), manifest


def wishes(**changes: Any) -> Wishes:
    fields: dict[str, Any] = {"blocks": None, "memory_bytes": None, "cache_tokens": None, "device": "cpu"}
    return Wishes(**(fields | {"dtype": "float32", "folder": Path(), "grace_s": 1.0} | changes))


def room_for(blocks: int, manifest: Manifest) -> int:
    size = block_size(manifest, "float32")
    return bytes_needed(blocks, size.weight_bytes, size.cache_bytes_per_token)


def test_room_for_as_large_a_part_as_of_the_old_model() -> None:
    old, manifest = held(4, 65_536)
    entry, _ = demo()
    kept = KEPT_TOKENS * old.engine.span.bytes_per_token
    enough = room_for(4, manifest) + kept
    room: Any = room_beside(old, BLOCKS, entry, manifest, wishes(), enough)  # type: ignore[arg-type]
    assert room == enough - kept, "what the old caches keep is not given away"
    assert room_beside(old, BLOCKS, entry, manifest, wishes(), room_for(3, manifest) + kept) is None  # type: ignore[arg-type]
    assert room_beside(old, BLOCKS, entry, manifest, wishes(blocks=(0, 2)), enough) is not None  # type: ignore[arg-type]


def test_a_limit_counts_for_both_models_together() -> None:
    old, manifest = held(4, 65_536)
    entry, _ = demo()
    span = old.engine.span
    both = span.held_bytes + KEPT_TOKENS * span.bytes_per_token + room_for(4, manifest)
    plenty = 2**40
    assert room_beside(old, BLOCKS, entry, manifest, wishes(memory_bytes=both), plenty) == room_for(4, manifest)  # type: ignore[arg-type]
    assert room_beside(old, BLOCKS, entry, manifest, wishes(memory_bytes=both - 2**20), plenty) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("used", "left"), [(0, KEPT_TOKENS), (10_000, KEPT_TOKENS), (60_032, 5504)])
def test_what_the_old_caches_lend_comes_back(used: int, left: int) -> None:
    old, _ = held(4, 65_536)
    budget = old.engine.budget
    capacity = budget.grow(0, used)
    give_back = lend_room(old)  # type: ignore[arg-type]
    assert budget.free == left
    assert budget.total == left + capacity, "sessions keep what they have"
    budget.release(capacity)
    give_back()
    assert (budget.free, budget.total) == (65_536, 65_536)


def test_the_new_model_grows_once_it_is_alone() -> None:
    new, manifest = held(4, 1024)
    take_room_back(new, wishes(), room_for(4, manifest))  # type: ignore[arg-type]
    assert new.engine.budget.total > KEPT_TOKENS
    new, _ = held(4, 1024)
    take_room_back(new, wishes(cache_tokens=512), 2**40)  # type: ignore[arg-type]
    assert new.engine.budget.total == 1024
