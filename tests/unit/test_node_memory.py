"""Sizes as people write them, limits as systems set them, and what a model's blocks weigh."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import UsageError
from gridllm.models.files import find_model
from gridllm.models.manifest import Manifest, build_manifest
from gridllm.models.sizes import block_size
from gridllm.models.span import load_span
from gridllm.node.memory import UNLIMITED_BYTES, cgroup_free_bytes, free_bytes, spell_size
from gridllm.node.sizing import check_fits, fitting_blocks
from gridllm.quantities import parse_duration, parse_size, spell_duration
from tests.unit.tiny_models import LAYERS, make_model

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 2**30),
        ("500MB", 500_000_000),
        ("1.5g", 1_500_000_000),
        ("64 kib", 65_536),
        ("123", 123),
        ("7B", 7),
        ("2TiB", 2 * 2**40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-4GiB", "4iB", "4 Gi B", "4PB", "1e9", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 4GiB"):
        parse_size(text)


@given(st.integers(0, 2**50))
def test_sizes_are_spelled_in_their_unit(size: int) -> None:
    assert (
        0.95 * size
        <= float(spell_size(size).split()[0])
        * {"KiB": 2**10, "MiB": MIB, "GiB": 2**30, "bytes": 1}[spell_size(size).split()[1]]
        <= 1.05 * size + 1
    )


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_tightest_cgroup_around_us_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    mount = tmp_path / "cgroup"
    write(
        mount / "outer",
        memory__max=f"{100 * MIB}",
        memory__current=f"{80 * MIB}",
        memory__stat="inactive_file 1048576\n",
    )
    write(mount / "outer" / "inner", memory__max="max", memory__current="5")
    assert cgroup_free_bytes(mount, own) == 21 * MIB
    write(mount / "outer" / "inner", memory__max=f"{10 * MIB}", memory__current=f"{9 * MIB}")
    assert cgroup_free_bytes(mount, own) == MIB


def test_cgroups_of_the_first_kind(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:memory:/box\n0::/\n")
    write(tmp_path / "memory" / "box", memory__limit_in_bytes=f"{64 * MIB}", memory__usage_in_bytes=f"{MIB}")
    assert cgroup_free_bytes(tmp_path, own) == 63 * MIB
    write(tmp_path / "memory" / "box", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="1")
    assert cgroup_free_bytes(tmp_path, own) == UNLIMITED_BYTES


def test_no_cgroups_no_limit(tmp_path: Path) -> None:
    assert cgroup_free_bytes(tmp_path, tmp_path / "nothing") == UNLIMITED_BYTES
    assert MIB < free_bytes("cpu") < UNLIMITED_BYTES


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "falcon-7b", "bloom", "deepseek_v3", "gemma2"])
def test_blocks_weigh_what_the_manifest_says(family: str, tmp_path: Path) -> None:
    folder = make_model(family, tmp_path).folder
    manifest = build_manifest(folder)
    size = block_size(manifest, "float32")
    spans = [load_span(folder, manifest, block, block + 1) for block in range(LAYERS)]
    largest = max(span.parameters for span in spans) * 4
    assert largest <= size.weight_bytes <= 1.05 * largest + 4096
    assert all(s.bytes_per_token <= size.cache_bytes_per_token <= 4 * s.bytes_per_token for s in spans)
    assert block_size(manifest, "bfloat16").weight_bytes * 2 == size.weight_bytes


def demo() -> Manifest:
    return build_manifest(find_model("demo"))


def test_shortage_says_what_is_needed() -> None:
    size = block_size(demo(), "float32")
    assert fitting_blocks(size, 8, 2**34, None) == 8
    with pytest.raises(UsageError, match=r"Not one block fits: one block needs \d+\.\d MiB .* 1\.0 MiB may be used"):
        fitting_blocks(size, 8, MIB, None)
    check_fits((0, 8), size, 2**34, None)
    with pytest.raises(UsageError, match="Blocks 2:6 do not fit: 4 blocks need"):
        check_fits((2, 6), size, 64 * MIB, None)


@pytest.mark.parametrize(
    ("text", "seconds", "spelt"),
    [
        ("24h", 86400, "24 h"),
        ("7d", 7 * 86400, "7 d"),
        ("30 min", 1800, "30 min"),
        ("90s", 90, "90 s"),
        ("1.5h", 5400, "90 min"),
        ("0", 0, "0 s"),
    ],
)
def test_durations(text: str, seconds: int, spelt: str) -> None:
    assert parse_duration(text) == seconds
    assert spell_duration(seconds) == spelt


@pytest.mark.parametrize("text", ["", "7", "h", "-1h", "1w", "1 h 30", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)
