"""Every reason to refuse, one by one, at its border."""

from __future__ import annotations

import math

import pytest

from gridllm.admission.examination.judge import (
    SeenRoots,
    invented,
    judge_chase,
    judge_claims,
    judge_links,
    judge_minimums,
    judge_root,
    memory_invented,
)
from gridllm.admission.figures import Figures
from gridllm.admission.spelling import spell
from gridllm.charter.minimums import Admission, Minimums

HONEST = [0.0001, 0.0003, 0.0002, 0.0004]
ADMISSION = Admission(
    serve=Minimums(decode_blocks_per_s=100, memory_bytes=2**30, version="0.2"),
    relay=Minimums(upload_mbit_s=10, reachable=True),
    seed=Minimums(disk_bytes=10**9),
)


def links(errors: list[float], tolerance: float = 1e-3) -> str:
    finding = judge_links("decode", errors, tolerance, "float32")
    return "" if finding is None else finding.reason


def test_honest_links_pass() -> None:
    assert links([]) == ""
    assert links(HONEST) == ""
    assert links([0.05] * 9, tolerance=0.08) == ""
    assert links([*HONEST, 0.0015]) == ""  # one beyond the tolerance, yet not far


def test_most_links_wrong_is_invented_work() -> None:
    assert links([1.0] * 3 + HONEST[:2]) == "work_invented"
    assert links([math.nan]) == "work_invented"
    assert links([1e9]) == "work_invented"


def test_some_links_wrong_are_skipped_steps() -> None:
    assert links([1.0, *HONEST]) == "steps_skipped"
    assert links([0.5, *HONEST]) == "steps_skipped"
    finding = judge_links("decode", [1.0, *HONEST], 1e-3, "float32")
    assert finding is not None
    assert "1 of the 5 decode steps" in finding.text


def test_small_errors_are_imprecision() -> None:
    assert links([0.002] * 5) == "imprecise"  # in the middle
    assert links([*HONEST, 0.3]) == "imprecise"  # one far off
    assert links([0.17] * 8, tolerance=0.08) == "imprecise"


def test_a_chase_must_be_in_time() -> None:
    assert judge_chase(5.9, 6.0, 2**30) is None
    late = judge_chase(17.3, 6.0, 2**30)
    assert late is not None
    assert late.reason == "memory_not_held"
    assert "1.0 GiB took 17.3 s where 6.0 s" in late.text


def test_claims_are_held_to_half() -> None:
    measured = Figures(upload_mbit_s=5.0, download_mbit_s=50.0)
    assert judge_claims(measured, 0.0, 0.0) is None
    assert judge_claims(measured, 10.0, 100.0) is None
    for up, down in ((10.1, 0.0), (0.0, 100.1)):
        finding = judge_claims(measured, up, down)
        assert finding is not None
        assert finding.reason == "bandwidth_short"


def test_roots_come_once() -> None:
    seen = SeenRoots()
    assert judge_root(seen, b"a" * 32, "alice") is None
    for peer, reason in (("alice", "replayed"), ("mallory", "copied")):
        finding = judge_root(seen, b"a" * 32, peer)
        assert finding is not None
        assert finding.reason == reason
    assert judge_root(seen, b"b" * 32, "mallory") is None


def test_the_oldest_roots_are_forgotten() -> None:
    seen = SeenRoots(most=2)
    for root in (b"a", b"b", b"c"):
        assert seen.owner(root, "alice") is None
    assert len(seen) == 2
    assert seen.owner(b"c", "bob") == "alice"
    assert seen.owner(b"a", "bob") is None


@pytest.mark.parametrize(
    ("figures", "asked", "reason", "text"),
    [
        ({"decode_blocks_per_s": 99.0}, ["serve"], "too_slow", "99 blocks/s of 100 blocks/s"),
        ({"memory_bytes": 2**29}, ["serve"], "short", "512.0 MiB of 1.0 GiB"),
        ({"version": "0.1.9"}, ["serve"], "short", "gridllm 0.1.9 of 0.2"),
        ({"upload_mbit_s": 1.0}, ["relay"], "short", "upload 1 Mbit/s of 10 Mbit/s"),
        ({"reachable": False}, ["relay"], "short", "reachable no of yes"),
        ({"disk_bytes": 0}, ["seed"], "short", "disk free 0 bytes"),
        ({"decode_blocks_per_s": 0.0}, ["serve"], "too_slow", "ask for that role"),
    ],
)
def test_minimums_say_what_is_short(figures: dict[str, object], asked: list[str], reason: str, text: str) -> None:
    good: dict[str, object] = {
        "decode_blocks_per_s": 100.0,
        "memory_bytes": 2**30,
        "version": "0.2.0",
        "upload_mbit_s": 10.0,
        "reachable": True,
        "disk_bytes": 10**9,
    }
    assert judge_minimums(Figures(**good), ADMISSION, asked) is None  # type: ignore[arg-type]
    finding = judge_minimums(Figures(**(good | figures)), ADMISSION, asked)  # type: ignore[arg-type]
    assert finding is not None
    assert finding.reason == reason
    assert text in finding.text


def test_one_role_of_those_asked_for_is_enough() -> None:
    poor = Figures(disk_bytes=10**9)
    assert judge_minimums(poor, ADMISSION, ["serve", "relay", "seed"]) is None
    assert judge_minimums(poor, ADMISSION, ["serve", "relay"]) is not None


def test_who_computed_nothing_does_not_serve_even_without_minimums() -> None:
    finding = judge_minimums(Figures(), Admission(), ["serve"])
    assert finding is not None
    assert finding.reason == "too_slow"


def test_findings_of_false_evidence_quote_it() -> None:
    assert invented("Leaf 3 is not what was committed to.").text.count("committed to.") == 1
    assert invented("x").reason == "work_invented"
    assert memory_invented("x").reason == "memory_invented"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("memory_bytes", 3 * 2**30 + 2**28, "3.2 GiB"),
        ("disk_bytes", 12, "12 bytes"),
        ("decode_blocks_per_s", 12345.6, "12,346 blocks/s"),
        ("upload_mbit_s", 0.25, "0.25 Mbit/s"),
        ("rtt_ms", 1.234, "1.23 ms"),
        ("reachable", True, "yes"),
        ("version", "", "unknown"),
    ],
)
def test_figures_for_people(name: str, value: float | str | bool, text: str) -> None:
    assert spell(name, value) == text
