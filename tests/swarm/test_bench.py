"""``gridllm bench`` as people run it: a table or JSON, and an exit code that says whether any role is reached."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import gridllm


def test_without_a_grid_the_demo_model_is_measured(tmp_path: Path) -> None:
    done = gridllm(tmp_path, "bench", "--json", "--threads", "1")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["grid"] is None
    assert (value["model"], value["dtype"], value["threads"]) == ("demo", "float32", 1)
    assert value["figures"]["decode_blocks_per_s"] > 0
    assert value["figures"]["memory_bytes"] > 2**20
    assert value["roles"] == {"serve": "met", "relay": "unknown", "seed": "met"}
    for sentence in ("Filling memory", "Computing one session's tokens", "Computing a prompt"):
        assert sentence in done.stderr


def test_a_machine_with_too_little_memory_hears_what_would_mend_it(tmp_path: Path) -> None:
    done = gridllm(tmp_path, "bench", "--threads", "1", "--memory", "2MiB")
    assert done.returncode == 0, done.stderr  # it can hand out weights
    row = next(line for line in done.stdout.splitlines() if "memory held" in line)
    assert row.split()[-1] == "no"
    assert "Offer more memory: --memory" in done.stdout
    assert "Take a smaller role" in done.stdout


def test_what_cannot_be_measured_is_a_sentence(tmp_path: Path) -> None:
    for flags, part in (
        (("--dtype", "int3"), "int3"),
        (("--device", "abacus"), "abacus"),
        (("--memory", "much"), "much"),
        (("--grid", "nowhere"), "nowhere"),
        (("--path", str(tmp_path)), "config.json"),
    ):
        done = gridllm(tmp_path, "bench", *flags)
        assert done.returncode in (1, 2)
        assert part in done.stderr
        assert "Traceback" not in done.stderr
