"""The table of minimums: what is met, what is short, what cannot be told here, and what would mend it."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from gridllm.admission.figures import Figures
from gridllm.charter.minimums import Admission, Minimums
from gridllm.cli.bench_view import (
    NETWORK,
    Situation,
    bench_json,
    bench_table,
    figures_table,
    remedies,
    role_states,
    rows_of,
    summary,
)

GIB = 2**30
ADMISSION = Admission(
    required=True,
    serve=Minimums(decode_blocks_per_s=100, memory_bytes=2 * GIB, upload_mbit_s=5, version="0.1"),
    relay=Minimums(upload_mbit_s=10, reachable=True, version="0.1"),
    seed=Minimums(disk_bytes=GIB, upload_mbit_s=10),
)
GOOD = Figures(decode_blocks_per_s=250.0, memory_bytes=3 * GIB, disk_bytes=2 * GIB, version="0.1.0")
HERE = Situation(model="demo", dtype="float32", device="cpu", threads=4, processors=4, memory_bytes=3 * GIB)


def drawn(table: Table, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_what_one_machine_can_tell_of_itself() -> None:
    found = rows_of(GOOD, ADMISSION, unknown=NETWORK)
    assert role_states(found) == {"serve": "met", "relay": "unknown", "seed": "met"}
    assert (
        summary(found) == "This machine is fit to serve and seed. An authority measures the connection when it joins."
    )
    assert remedies(found, HERE) == []


def test_with_an_authority_everything_is_told() -> None:
    found = rows_of(GOOD.model_copy(update={"upload_mbit_s": 7.0}), ADMISSION)
    assert role_states(found) == {"serve": "met", "relay": "short", "seed": "short"}
    assert summary(found) == "This machine is fit to serve."


def test_no_role_at_all() -> None:
    found = rows_of(Figures(version="0.1"), ADMISSION)
    assert set(role_states(found).values()) == {"short"}
    assert summary(found) == "This machine reaches the minimums of no role."


def test_the_table_fits_a_terminal_and_says_all() -> None:
    text = drawn(bench_table(rows_of(GOOD, ADMISSION, unknown=NETWORK), GOOD))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for part in ("decode, one session", "100 blocks/s", "250 blocks/s", "2.0 GiB", "needs an authority", "yes"):
        assert part in text
    assert drawn(figures_table(Figures(), ADMISSION, ["seed"])).count("no") == 2
    assert "nothing asked for" in drawn(figures_table(GOOD, Admission(), ["relay"]))


def test_a_strangers_version_is_no_markup() -> None:
    assert "[red]9" in drawn(figures_table(GOOD.model_copy(update={"version": "[red]9"}), ADMISSION))


def test_figures_nobody_asked_for_are_shown() -> None:
    text = drawn(bench_table(rows_of(GOOD, Admission()), GOOD))
    assert "250 blocks/s" in text
    assert "3.0 GiB" in text


@pytest.mark.parametrize(
    ("figures", "situation", "expected"),
    [
        ({"decode_blocks_per_s": 9.0}, {"busy_share": 0.6}, "they took 60% of the 4 processors"),
        ({"decode_blocks_per_s": 9.0}, {"threads": 1}, "--threads 4"),
        ({"decode_blocks_per_s": 9.0}, {"gpu": True}, "--device cuda"),
        ({"decode_blocks_per_s": 9.0}, {}, "--dtype bfloat16"),
        ({"decode_blocks_per_s": 9.0}, {"dtype": "bfloat16"}, "--dtype float32"),
        ({"decode_blocks_per_s": 9.0}, {}, "a smaller role: relay (carries"),
        ({"memory_bytes": GIB}, {"memory_bytes": GIB, "free_bytes": 4 * GIB}, "--memory 2.0GiB (4.0 GiB are free)"),
        ({"memory_bytes": GIB}, {"memory_bytes": GIB, "free_bytes": GIB}, "Free memory until 2.0 GiB"),
        ({"version": "0.0.9"}, {}, "Install gridllm 0.1"),
    ],
)
def test_each_shortfall_has_its_remedy(figures: dict[str, object], situation: dict[str, object], expected: str) -> None:
    found = rows_of(GOOD.model_copy(update=figures), ADMISSION, unknown=NETWORK)
    assert role_states(found)["serve"] == "short"
    fixes = remedies(found, dataclasses.replace(HERE, **situation))  # type: ignore[arg-type]
    assert any(expected in sentence for sentence in fixes), fixes


def test_lines_and_disks_have_theirs() -> None:
    admission = Admission(serve=Minimums(upload_mbit_s=5, reachable=True, disk_bytes=3 * GIB))
    fixes = " ".join(remedies(rows_of(GOOD, admission), HERE))
    for part in ("faster connection", "--announce-maddrs", "Free 1.0 GiB"):
        assert part in fixes


def test_a_machine_that_computed_nothing_does_not_serve() -> None:
    found = rows_of(Figures(), Admission())
    assert role_states(found)["serve"] == "short"
    assert role_states(found)["relay"] == "met"


def test_json_says_the_same() -> None:
    found = rows_of(GOOD, ADMISSION, unknown=NETWORK)
    value = bench_json(found, GOOD, ["x"], HERE)
    assert value["roles"] == {"serve": "met", "relay": "unknown", "seed": "met"}
    assert value["figures"]["decode_blocks_per_s"] == 250.0
    assert value["remedies"] == ["x"]
    upload = next(row for row in value["minimums"] if row["minimum"] == "upload_mbit_s")
    assert upload == {"role": "serve", "minimum": "upload_mbit_s", "asked": 5.0, "reached": None, "state": "unknown"}
