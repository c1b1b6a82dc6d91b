"""The fold over reports: when a node becomes suspect, and when it must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.admission.figures import Figures
from gridllm.ids import PeerId
from gridllm_bootstrap.fitness.fitness import (
    BATCH,
    CLIENTS_PER_NODE,
    SESSIONS_PER_CLIENT,
    Fitness,
    Reading,
    crowd,
    each_more,
    slowed,
)

NODE, OTHER = PeerId("node" * 8), PeerId("other" * 8)
ALONE = Figures(decode_blocks_per_s=100.0, batch_blocks_per_s=800.0)  # a pass of eight takes as long as one of one
HOUR_S, DAY_S = 3600.0, 24 * 3600.0


def hear(
    fitness: Fitness,
    ratio: float,
    *,
    clients: int,
    sessions: int,
    start_s: float = 0.0,
    node: PeerId = NODE,
    figures: Figures = ALONE,
    length_s: float = 10.0,
    apart_s: float = 20.0,
    name: str = "client",
) -> float:
    """``sessions`` in all, dealt out in turn; returns the time of the last one."""
    at = start_s
    for i in range(sessions):
        at = start_s + i * apart_s
        fitness.add(node, f"{name}{i % clients}", Reading(at - length_s, at, ratio), figures)
    return at


def test_a_node_at_less_than_half_is_suspect_after_20_sessions_of_5_clients() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.3, clients=5, sessions=19)
    assert fitness.judge(NODE, now) is None
    fitness.add(NODE, "client4", Reading(now, now + 10, 0.3), ALONE)
    suspicion = fitness.judge(NODE, now + 10)
    assert suspicion is not None
    assert (suspicion.sessions, suspicion.clients) == (20, 5)
    assert suspicion.ratio == pytest.approx(0.3)
    assert "30%" in suspicion.sentence()


def test_four_clients_are_too_few_however_much_they_say() -> None:
    fitness = Fitness()
    assert fitness.judge(NODE, hear(fitness, 0.1, clients=4, sessions=200)) is None


@pytest.mark.parametrize("ratio", [0.5, 0.6, 1.0, 3.0])
def test_a_node_at_half_or_more_is_not(ratio: float) -> None:
    fitness = Fitness()
    assert fitness.judge(NODE, hear(fitness, ratio, clients=8, sessions=64)) is None


def test_nobody_is_suspect_of_whom_nothing_was_heard() -> None:
    assert Fitness().judge(NODE, 0.0) is None


def test_few_liars_do_not_outweigh_more_honest_clients() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.01, clients=5, sessions=500, name="liar")
    now = hear(fitness, 0.9, clients=6, sessions=12, start_s=now)
    assert fitness.judge(NODE, now) is None


def test_one_loud_client_counts_once() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.9, clients=4, sessions=12)
    now = hear(fitness, 0.01, clients=1, sessions=500, start_s=now, name="loud")
    assert fitness.judge(NODE, now) is None


def test_what_was_said_a_day_ago_is_forgotten() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.3, clients=5, sessions=20)
    assert fitness.judge(NODE, now + DAY_S + 1) is None
    assert len(fitness) == 0


def test_the_window_slides() -> None:
    fitness = Fitness()
    hear(fitness, 0.3, clients=5, sessions=15)
    now = hear(fitness, 0.3, clients=5, sessions=5, start_s=DAY_S + 15 * 20)
    assert fitness.judge(NODE, now) is None


def test_a_node_is_measured_at_most_once_an_hour() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.3, clients=5, sessions=20)
    assert fitness.judge(NODE, now) is not None
    fitness.measured(NODE, now)
    later = hear(fitness, 0.3, clients=5, sessions=20, start_s=now)
    assert fitness.judge(NODE, later) is None
    assert fitness.judge(NODE, now + HOUR_S) is not None


def test_after_a_measurement_old_reports_are_void() -> None:
    fitness = Fitness()
    now = hear(fitness, 0.3, clients=5, sessions=20)
    fitness.measured(NODE, now)
    assert fitness.judge(NODE, now + 2 * HOUR_S) is None


def test_nodes_are_judged_apart() -> None:
    fitness = Fitness()
    hear(fitness, 1.0, clients=5, sessions=20, node=OTHER)
    now = hear(fitness, 0.3, clients=5, sessions=20)
    assert fitness.judge(NODE, now) is not None
    assert fitness.judge(OTHER, now) is None


def test_memory_is_bounded_in_every_direction() -> None:
    fitness = Fitness(max_nodes=3)
    for node in range(10):
        hear(fitness, 0.3, clients=200, sessions=4000, node=PeerId(f"node{node:028}"), apart_s=0.1)
    assert len(fitness) <= 3 * CLIENTS_PER_NODE * SESSIONS_PER_CLIENT


SHARED = Figures(decode_blocks_per_s=100.0, batch_blocks_per_s=200.0)  # a pass of eight takes four times as long


def test_sessions_side_by_side_are_excused_as_far_as_the_certificate_says() -> None:
    busy, idle = Fitness(), Fitness()
    for fitness, apart_s in ((busy, 0.0), (idle, 20.0)):
        for second in range(4):
            hear(fitness, 0.3, clients=8, sessions=8, start_s=200.0 * second, apart_s=apart_s, figures=SHARED)
    assert busy.judge(NODE, 1000.0) is None
    assert idle.judge(NODE, 1000.0) is not None


def test_a_crowd_excuses_no_more_than_a_pass_that_is_waited_for_where_passes_are_no_longer() -> None:
    fitness = Fitness()
    for second in range(4):
        hear(fitness, 0.2, clients=8, sessions=8, start_s=100.0 * second, apart_s=0.0)
    assert fitness.judge(NODE, 1000.0) is not None


def test_a_crowd_is_counted_by_the_time_that_is_shared() -> None:
    mine = Reading(0.0, 10.0, 1.0)
    assert crowd(mine, [mine]) == 1.0
    assert crowd(mine, [mine, Reading(5.0, 20.0, 1.0)]) == 1.5
    assert crowd(mine, [mine, *(Reading(0.0, 10.0, 0.1 * i) for i in range(100))]) == BATCH
    assert crowd(Reading(0.0, 0.0, 1.0), [mine]) == 1.0


def test_what_a_crowd_costs() -> None:
    assert slowed(1.0, 0.7) == 1.0
    assert slowed(2.0, 0.0) == pytest.approx(1.5)  # whoever is not first waits for the pass under way
    assert slowed(8.0, 1.0) == pytest.approx(8 * 1.875)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_one_more_session_costs_at_most_a_pass_of_its_own(decode: float, batch: float) -> None:
    assert 0 <= each_more(Figures(decode_blocks_per_s=decode, batch_blocks_per_s=batch)) <= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 0.49)), min_size=20, max_size=60))
def test_whatever_the_order_only_slow_reports_make_suspect(said: list[tuple[int, float]]) -> None:
    slow, fast = Fitness(), Fitness()
    for i, (client, ratio) in enumerate(said):
        slow.add(NODE, str(client), Reading(float(i), i + 1.0, ratio), ALONE)
        fast.add(NODE, str(client), Reading(float(i), i + 1.0, ratio + 0.5), ALONE)
    held = len(slow)
    clients = len({client for client, _ in said})
    assert (slow.judge(NODE, 100.0) is not None) == (held >= 20 and clients >= 5)
    assert fast.judge(NODE, 100.0) is None
