"""Speed reports: what one may say, who may hand it in, and what it amounts to."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gridllm.admission.fitness import (
    MAX_RATIO,
    MAX_REPORT_BYTES,
    REPORT_TYPE,
    Leg,
    SpeedReport,
    expected_s,
    network_s,
    ratio,
    sign_report,
    verify_report,
)
from gridllm.errors import AdmissionError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import GridId
from gridllm.planning.paths import HOP_MS

CLIENT, STRANGER = Identity.ephemeral(), Identity.ephemeral()
A, B = Identity.ephemeral().peer, Identity.ephemeral().peer
GRID = GridId("cd" * 32)
ON_THE_WAY_S = HOP_MS / 1e3


def fields(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "grid": GRID,
        "client": CLIENT.public_key.hex(),
        "model": "ab" * 32,
        "chain": [Leg(peer=A, start=0, end=5), Leg(peer=B, start=5, end=8)],
        "tokens": 20,
        "seconds": 4.0,
        "expected_s": 2.0,
        "network_s": 0.5,
        "began": now - 10,
        "issued": now,
    } | changes


def report(**changes: Any) -> SpeedReport:
    return SpeedReport(**fields(**changes))


def test_a_report_survives_signing_and_verifying() -> None:
    said = report()
    assert verify_report(sign_report(said, CLIENT), GRID, CLIENT.peer) == said


def test_a_report_of_64_hops_is_not_too_large() -> None:
    chain = [Leg(peer=Identity.ephemeral().peer, start=i, end=i + 1) for i in range(64)]
    assert len(sign_report(report(chain=chain), CLIENT)) < MAX_REPORT_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 15},
        {"tokens": 2**20 + 1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": -1.0},
        {"seconds": 13.0},  # in ten seconds
        {"network_s": float("inf")},
        {"expected_s": -0.1},
        {"issued": 0},  # before it began
        {"began": 0},  # years long
        {"chain": []},
        {"chain": [Leg(peer=A, start=1, end=8)]},
        {"chain": [Leg(peer=A, start=0, end=4), Leg(peer=B, start=5, end=8)]},
        {"chain": [Leg(peer=A, start=0, end=4), Leg(peer=A, start=4, end=8)]},
        {"chain": [Leg(peer=A, start=0, end=4), Leg(peer=B, start=4, end=4)]},
        {"chain": [Leg(peer=str(i) * 20, start=i, end=i + 1) for i in range(65)]},
        {"text": "what I asked the model"},
        {"client": "zz" * 32},
    ],
)
def test_a_report_that_makes_no_sense_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        report(**changes)


def test_a_report_is_refused_from_anyone_but_its_signer() -> None:
    raw = sign_report(report(), CLIENT)
    with pytest.raises(AdmissionError, match="hands in its own"):
        verify_report(raw, GRID, STRANGER.peer)


def test_a_report_signed_by_another_key_than_it_names_is_refused() -> None:
    raw = sign_report(report(), STRANGER)
    for caller in (CLIENT.peer, STRANGER.peer):
        with pytest.raises(AdmissionError, match="no speed report"):
            verify_report(raw, GRID, caller)


def test_an_altered_report_is_refused() -> None:
    raw = sign_report(report(), CLIENT)
    other = sign_report(report(tokens=21), CLIENT)
    cut = raw.index(b"signatures")
    with pytest.raises(AdmissionError):
        verify_report(other[: other.index(b"signatures")] + raw[cut:], GRID, CLIENT.peer)


def test_a_report_of_another_grid_or_type_or_size_is_refused() -> None:
    raw = sign_report(report(grid="ef" * 32), CLIENT)
    with pytest.raises(AdmissionError, match="does not concern"):
        verify_report(raw, GRID, CLIENT.peer)
    with pytest.raises(AdmissionError):
        verify_report(sign_statement(report(), REPORT_TYPE + "x", [CLIENT]), GRID, CLIENT.peer)
    with pytest.raises(AdmissionError, match="exceeds the limit"):
        verify_report(b" " * (MAX_REPORT_BYTES + 1), GRID, CLIENT.peer)


@given(st.binary(max_size=400))
def test_random_bytes_are_a_named_error(raw: bytes) -> None:
    with pytest.raises(AdmissionError):
        verify_report(raw, GRID, CLIENT.peer)


def test_expectation_is_blocks_by_speed_summed_over_hops_and_tokens() -> None:
    assert expected_s(report().chain, 20, {A: 10.0, B: 6.0}) == pytest.approx(20 * (5 / 10 + 3 / 6))
    for speeds in ({A: 10.0}, {A: 10.0, B: 0.0}):
        with pytest.raises(AdmissionError, match=B):
            expected_s(report().chain, 20, speeds)


def test_the_network_is_half_a_round_trip_each_way_and_every_push() -> None:
    rtt = {A: 0.1, B: 0.3}
    assert network_s([A], 1, rtt, []) == pytest.approx(0.1 + 2 * ON_THE_WAY_S)
    assert network_s([A, B], 10, rtt, [0.2]) == pytest.approx(10 * (0.2 + 0.1 + 3 * ON_THE_WAY_S))


def test_a_node_cannot_excuse_itself_with_a_far_neighbour() -> None:
    rtt = {A: 0.01, B: 0.01}
    assert network_s([A, B], 1, rtt, [60.0]) == network_s([A, B], 1, rtt, [0.02])


@given(st.floats(0, 3600), st.floats(0, 3600), st.floats(0, 3600))
def test_a_ratio_stays_within_bounds(seconds: float, expected: float, network: float) -> None:
    assert 0 <= ratio(seconds, expected, network) <= MAX_RATIO


def test_half_the_speed_is_a_ratio_of_one_half() -> None:
    assert ratio(4.5, 2.0, 0.5) == pytest.approx(0.5)
    assert ratio(0.5, 2.0, 0.5) == MAX_RATIO  # all of it was the network's
