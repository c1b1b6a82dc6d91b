"""Strangers' files: damaged, hostile or foreign models are refused with a sentence, never run or half loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gridllm.errors import ModelError
from gridllm.models.ends import Ends
from gridllm.models.families import read_config
from gridllm.models.files import find_model, needed_shards
from gridllm.models.headers import read_header
from gridllm.models.manifest import (
    Manifest,
    build_manifest,
    manifest_bytes,
    parse_manifest,
    root,
    verify_manifest,
)
from gridllm.models.span import load_span
from gridllm.models.weights import PIECE_BYTES, Checkpoint
from tests.unit.tiny_models import make_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    where = tmp_path / "model"
    make_model("llama", where)
    (where / "tokenizer.json").write_text("{}")
    return where


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def shard(folder: Path, shards: int) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {name: f"part-{index % shards}.safetensors" for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "model.safetensors").unlink()


# --- the manifest ---


def test_the_root_ignores_shards_and_volatile_keys(folder: Path) -> None:
    before = root(build_manifest(folder))
    shard(folder, 3)
    rewrite(folder, transformers_version="0.0.1", _name_or_path="elsewhere")
    assert root(build_manifest(folder)) == before


@pytest.mark.parametrize("change", ["config", "tokenizer", "tensor"])
def test_the_root_changes_with_what_the_model_computes(folder: Path, change: str) -> None:
    before = root(build_manifest(folder))
    if change == "config":
        rewrite(folder, rms_norm_eps=1e-3)
    elif change == "tokenizer":
        (folder / "tokenizer.json").write_text("{ }")
    else:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][0] += 1e-3
        save_file(tensors, folder / "model.safetensors")
    assert root(build_manifest(folder)) != before


def test_a_manifest_survives_the_wire_and_names_itself(folder: Path) -> None:
    done: list[tuple[int, int]] = []
    manifest = build_manifest(folder, lambda *step: done.append(step))
    assert done[-1][0] == done[-1][1] == sum(entry.size for entry in manifest.tensors.values())
    raw = manifest_bytes(manifest)
    assert verify_manifest(raw, root(manifest)) == manifest
    forged = raw.replace(b'"rms_norm_eps":1e-06', b'"rms_norm_eps":1e-05')
    assert forged != raw
    with pytest.raises(ModelError, match="was asked for"):
        verify_manifest(forged, root(manifest))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_garbage_is_no_manifest(raw: bytes | str) -> None:
    with pytest.raises(ModelError):
        parse_manifest(raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))


def test_an_oversized_or_deep_manifest_is_refused() -> None:
    with pytest.raises(ModelError, match="exceeds the cap"):
        parse_manifest(b" " * (32 * 1024 * 1024 + 1))
    with pytest.raises(ModelError):
        parse_manifest(b'{"config":' + b"[" * 100_000)


def test_folders_are_held_to_the_manifest(folder: Path) -> None:
    manifest = build_manifest(folder)
    load_span(folder, manifest, 0, 2)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] += 1
    save_file(tensors, folder / "model.safetensors")
    load_span(folder, manifest, 2, 4)  # these blocks are still the grid's
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj.*not the one the manifest names"):
        load_span(folder, manifest, 0, 2)
    rewrite(folder, rms_norm_eps=1e-3)
    with pytest.raises(ModelError, match="rms_norm_eps is 0.001 here"):
        load_span(folder, manifest, 2, 4)


def test_ends_check_the_tokenizer(folder: Path) -> None:
    manifest = build_manifest(folder)
    Ends.load(folder, manifest)
    (folder / "tokenizer.json").write_text("{ }")
    with pytest.raises(ModelError, match=r"Tokenizer file tokenizer\.json"):
        Ends.load(folder, manifest)


def test_a_tensor_outside_the_manifest_is_refused(folder: Path) -> None:
    manifest = build_manifest(folder)
    fewer = {name: entry for name, entry in manifest.tensors.items() if "layers.0.mlp" not in name}
    short = Manifest(1, manifest.family, manifest.config, None, manifest.tokenizer, fewer)
    with pytest.raises(ModelError, match="not in the grid's manifest"):
        load_span(folder, short, 0, 1)


# --- weights ---


def test_large_tensors_are_read_in_pieces_and_converted(tmp_path: Path) -> None:
    values = torch.randn(PIECE_BYTES // 4 + 1000)
    save_file({"x": values, "half": values.bfloat16()}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    for name, dtype in (("x", torch.float32), ("x", torch.float16), ("half", torch.float32)):
        out = torch.empty(values.shape, dtype=dtype)
        checkpoint.read_into(name, out, sha256=checkpoint.digest(name))
        assert torch.equal(out, load_file(tmp_path / "model.safetensors")[name].to(dtype))


def test_shards_that_are_not_needed_may_be_absent(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    files = {name: "a.safetensors" if ".layers.1." in name else "b.safetensors" for name in tensors}
    save_file({name: tensor for name, tensor in tensors.items() if ".layers.1." in name}, folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "model.safetensors").unlink()
    assert load_span(folder, None, 1, 2).parameters > 0
    with pytest.raises(ModelError, match=r"lies in b\.safetensors, which is not in the folder"):
        load_span(folder, None, 1, 3)


def damaged_header(header: Any, data: bytes = b"\0" * 16) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        damaged_header(b"{not json}"),
        damaged_header([1, 2]),
        damaged_header({"x": ENTRY}, b"\0" * 12),  # truncated
        damaged_header({"x": ENTRY}, b"\0" * 20),  # something behind
        damaged_header({"x": ENTRY | {"shape": [5]}}),
        damaged_header({"x": ENTRY | {"shape": [-4]}}),
        damaged_header({"x": ENTRY | {"shape": [4.0]}}),
        damaged_header({"x": ENTRY | {"shape": [2**40, 2**40]}}),
        damaged_header({"x": ENTRY | {"dtype": "EVIL"}}),
        damaged_header({"x": ENTRY | {"data_offsets": [0]}}),
        damaged_header({"x": ENTRY, "y": ENTRY}),  # overlap
        damaged_header(b'{"x":%s,"x":%s}' % ((json.dumps(ENTRY).encode(),) * 2)),
        damaged_header(b"[" * 50_000),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_header(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=64))
def test_random_bytes_are_no_safetensors(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(raw)
    with pytest.raises(ModelError):
        read_header(file)


def test_a_truncated_model_is_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="download it again"):
        load_span(folder, None, 0, 1)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_cannot_point_elsewhere(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(ModelError, match="not a safetensors file of the same folder"):
        Checkpoint.open(folder)


def test_a_config_that_does_not_fit_the_weights_is_refused(folder: Path) -> None:
    rewrite(folder, intermediate_size=96)
    with pytest.raises(ModelError, match=r"shape \[.*\], the model's config asks for"):
        load_span(folder, None, 0, 1)


def test_missing_tensors_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    load_span(folder, None, 0, 2)
    with pytest.raises(ModelError, match=r"up_proj"):
        load_span(folder, None, 2, 4)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (-1, 2), (4, 6)])
def test_spans_outside_the_model_are_refused(folder: Path, start: int, end: int) -> None:
    with pytest.raises(ModelError, match="blocks 0:5"):
        load_span(folder, None, start, end)


# --- which models, from where ---


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, "never runs code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"model_type": "no_such_family"}, "not a config transformers understands"),
        ({"model_type": "t5"}, "supported: Llama"),
        ({"model_type": "mamba"}, "Llama"),
        ({"hidden_size": "many"}, "not a config transformers understands"),
    ],
)
def test_models_that_cannot_be_served_are_refused(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ModelError, match=sentence):
        read_config(folder)


def test_code_in_a_folder_is_never_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    rewrite(folder, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert type(read_config(folder)).__module__.startswith("transformers.models.llama")
    assert load_span(folder, None, 0, 1).parameters > 0
    assert Ends.load(folder).hidden_size == 48


def test_broken_configs_are_refused(folder: Path) -> None:
    for text, sentence in (("{", "not JSON"), ("[]", "not a JSON object"), (" " * (5 << 20), "larger than")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match=sentence):
            read_config(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="config.json cannot be read"):
        read_config(folder)


def test_local_folders(folder: Path, tmp_path: Path) -> None:
    assert find_model(folder) == folder
    with pytest.raises(ModelError, match="not a model folder"):
        find_model(tmp_path)
    with pytest.raises(ModelError, match="There is no model folder"):
        find_model("/no/such/folder")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, and pickled weights can run code"):
        find_model(folder)


def test_only_needed_shards() -> None:
    shards = {"model.embed_tokens.weight": "a", "lm_head.weight": "d"}
    shards |= {f"model.layers.{layer}.mlp.weight": "abcd"[layer] for layer in range(4)}
    assert needed_shards(shards, "layers", (1, 3), None) == ["b", "c"]
    assert needed_shards(shards, "layers", (1, 2), True) == ["a", "b", "d"]
    assert needed_shards(shards, "layers", None, True) == ["a", "d"]
    assert needed_shards(shards, "layers", None, None) == ["a", "b", "c", "d"]


def test_a_hub_model_that_was_downloaded_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    shard(folder, 2)
    (folder / "part-1.safetensors").unlink()
    commit = "0" * 40
    repo = tmp_path / "hub" / "models--some-org--some-model"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    folder.rename(repo / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"part-1\.safetensors"):
        find_model("some-org/some-model")
    index = json.loads((repo / "snapshots" / commit / "model.safetensors.index.json").read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "part-0.safetensors")
    (repo / "snapshots" / commit / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_model("some-org/some-model") == repo / "snapshots" / commit


def test_texts_end_where_positions_do(tmp_path: Path) -> None:
    for family, limit in (("gpt2", 256), ("phi3-longrope", 64)):
        make_model(family, tmp_path / family)
        ends = Ends.load(tmp_path / family)
        assert ends.max_positions == limit
        ends.embed(torch.tensor([5]), torch.tensor([limit - 1]))
        with pytest.raises(ModelError, match=f"at most {limit} tokens"):
            ends.embed(torch.tensor([5]), torch.tensor([limit]))


def test_a_hub_model_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="Hub cannot be reached: go online once, or give a folder"):
        find_model("some-org/some-model")


def test_the_demo_model_is_the_packaged_one_whatever_lies_around(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    packaged = find_model("demo")
    folder.rename(folder.with_name("demo"))
    assert find_model("demo") == packaged
    assert find_model("./demo") == find_model(Path("demo")) == Path("demo")
