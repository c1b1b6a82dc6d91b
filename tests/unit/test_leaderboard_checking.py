"""What is not taken of a model: each kind by its own sentence, and a tokenizer without bounds only costs a child."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from gridllm.errors import LeaderboardError, ModelError
from gridllm.models.files import find_model
from gridllm.models.manifest import Manifest, build_manifest
from gridllm_leaderboard.checking import tokenizer
from gridllm_leaderboard.checking.check import Limits, check_in_child
from gridllm_leaderboard.checking.facts import check_config, check_manifest, facts_of
from gridllm_leaderboard.checking.tokenizer import check_tokenizer
from gridllm_leaderboard.checking.weights import check_finite, check_shapes
from tests.unit.tiny_models import make_model

Json = dict[str, Any]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return build_manifest(find_model("demo"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_model("demo"), tmp_path / "model"))


def change_json(file: Path, change: Callable[[Json], None]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def check(folder: Path) -> None:
    rows = check_shapes(folder)
    check_tokenizer(folder, rows)
    check_finite(folder)


def test_a_good_model_passes(folder: Path, manifest: Manifest) -> None:
    check_manifest(manifest)
    check(folder)
    facts = facts_of(manifest)
    assert facts.size == 2 * facts.parameters and facts.parameters > 3_000_000


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "gemma2"])
def test_other_families_pass(family: str, tmp_path: Path) -> None:
    assert check_shapes(make_model(family, tmp_path).folder) == 160


# tensors


@pytest.mark.parametrize("change, sentence", [
    (lambda t: t.pop("model.layers.3.mlp.up_proj.weight"), "lack 1 tensors .* such as model.layers.3.mlp.up_proj"),
    (lambda t: t.update({"model.norm.weight": torch.ones(64)}), r"model.norm.weight has shape \[64\]; the config asks"),
    (lambda t: t.update({"model.norm.weight": torch.ones(192, dtype=torch.int8)}), "stored as I8"),
    (lambda t: t.update({"luggage": torch.ones(2_000_000)}), "do not belong to the model, such as luggage"),
    (lambda t: t["model.norm.weight"].__setitem__(5, float("nan")), "model.norm.weight holds NaN or infinity"),
    (lambda t: t["model.embed_tokens.weight"].__setitem__((-1, -1), float("inf")), "embed_tokens.weight holds NaN"),
], ids=["missing", "shape", "dtype", "extra", "nan", "infinity"])  # fmt: skip
def test_tensors_that_do_not_fit(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], sentence: str
) -> None:
    change_tensors(folder, change)
    with pytest.raises(ModelError, match=sentence):
        check(folder)


def test_an_expert_that_is_missing(tmp_path: Path) -> None:
    made = make_model("mixtral", tmp_path).folder
    name = next(name for name in load_file(made / "model.safetensors") if "experts.3" in name)
    change_tensors(made, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError):
        check_shapes(made)


def test_damaged_files(folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-100])
    with pytest.raises(ModelError, match="it is damaged"):
        check(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)
    with pytest.raises(ModelError, match="not a safetensors file"):
        check(folder)


def test_a_folder_of_pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights can run code"):
        find_model(folder)


# config


@pytest.mark.parametrize("change, sentence", [
    ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "asks for code of the model's own"),
    ({"nested": {"auto_map": "evil.Model"}}, "asks for code"),
    ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000, which no model has"),
    ({"hidden_size": 2**40}, "hidden_size is"),
    ({"text": "x" * 100_000}, "a text of 100,000 characters"),
    ({"list": [0] * 60_000}, "more than 50,000 values"),
    ({"deep": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}, "nested deeper"),
], ids=["code", "nested code", "layers", "width", "text", "values", "depth"])  # fmt: skip
def test_configs_that_are_none(manifest: Manifest, change: Json, sentence: str) -> None:
    check_config(manifest.config)
    with pytest.raises(ModelError, match=sentence):
        check_manifest(msgspec.structs.replace(manifest, config=manifest.config | change))


@pytest.mark.parametrize("change, sentence", [
    ({"model_type": "t5"}, "is not a decoder-only language model"),
    ({"model_type": "mamba"}, "mamba.*, which GridLLM cannot split"),
    ({"model_type": "none-such"}, "not a config transformers understands"),
    ({"quantization_config": {"quant_method": "gptq"}}, "are quantised"),
    ({"num_attention_heads": 0}, "."),
], ids=["encoder", "state", "unknown", "quantised", "no heads"])  # fmt: skip
def test_families_that_are_not_served(folder: Path, change: Json, sentence: str) -> None:
    change_json(folder / "config.json", lambda config: config.update(change))
    with pytest.raises(ModelError, match=sentence):
        check_shapes(folder)


def test_a_manifest_that_contradicts_itself(manifest: Manifest) -> None:
    name, one = next(iter(manifest.tensors.items()))
    for changed, sentence in (
        ({name: msgspec.structs.replace(one, size=one.size + 2)}, "cannot have"),
        ({name: msgspec.structs.replace(one, dtype="XX")}, "of type XX"),
        ({name: one, "two": msgspec.structs.replace(one, shape=[1], size=2)}, "has the digest of one of another size"),
        ({name: msgspec.structs.replace(one, dtype="I16")}, "no weights stored as"),
    ):
        with pytest.raises(ModelError, match=sentence):
            check_manifest(msgspec.structs.replace(manifest, tensors=changed))
    with pytest.raises(ModelError, match="has no tokenizer"):
        check_manifest(msgspec.structs.replace(manifest, tokenizer={}))
    with pytest.raises(ModelError, match=r"has no tokenizer: put its tokenizer\.json into the folder"):
        check_manifest(msgspec.structs.replace(manifest, tokenizer={"chat_template.jinja": "0" * 64}))
    with pytest.raises(ModelError, match="is no tokenizer file"):
        check_manifest(msgspec.structs.replace(manifest, tokenizer={"evil.py": "0" * 64}))


# tokenizers


def _replace(content: str, pattern: Json | None = None) -> Json:
    return {"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content}


@pytest.mark.parametrize("change, sentence", [
    (lambda t: t["model"].update(vocab={str(i): i for i in range(3001)}), "more than 3,000"),
    (lambda t: t["model"]["vocab"].update({"x" * 2000: 2047}), "more than 1,024 characters"),
    (lambda t: t["added_tokens"].extend([{"content": str(i)} for i in range(20_001)]), "added tokens"),
    (lambda t: t.update(normalizer=_replace("a" * 5000)), "a rule of 5,000 characters"),
    (lambda t: t.update(normalizer=_replace("a" * 4000)), "out of bounds"),
    (lambda t: t.update(normalizer=_replace("", {"Regex": "[a-z]"})), "does not cover plain text"),
    (lambda t: t.update(normalizer={"type": "Lowercase"}), "does not cover plain text"),
    (lambda t: t.update(normalizer=_replace("", {"String": "\n"})), "does not cover plain text"),
    (lambda t: t["model"]["vocab"].update({"zz": 999_999}), "up to id 999,999 .* embedding 2,048 rows"),
    (lambda t: t.pop("model"), "no tokenizer that transformers can read|no list of"),
], ids=["vocabulary", "entry", "added", "rule", "grows", "loses", "case", "lines", "ids", "none"])  # fmt: skip
def test_tokenizers_out_of_bounds(
    folder: Path, change: Callable[[Json], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "MOST_ENTRIES", 3000)
    change_json(folder / "tokenizer.json", change)
    with pytest.raises(ModelError, match=sentence):
        check_tokenizer(folder, 2048)


def test_a_tokenizer_with_code_or_a_template_without_bounds(folder: Path) -> None:
    template = "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="characters of a greeting"):
        check_tokenizer(folder, 2048)
    change_json(folder / "tokenizer_config.json", lambda data: data.update(auto_map={"AutoTokenizer": ["a.B", None]}))
    with pytest.raises(ModelError, match="asks for code"):
        check_tokenizer(folder, 2048)
    (folder / "tokenizer_config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="is not JSON"):
        check_tokenizer(folder, 2048)


async def test_a_bomb_costs_a_child_and_no_more(folder: Path, tmp_path: Path, manifest: Manifest) -> None:
    bomb = {"type": "Sequence", "normalizers": [_replace("a" * 1000) for _ in range(5)]}
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    change_tensors(broken, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    good = find_model("demo")
    change_json(folder / "tokenizer.json", lambda data: data.update(normalizer=bomb))

    async def sentence(folder: Path, limits: Limits) -> str:
        with pytest.raises(ModelError) as told:
            await check_in_child(folder, manifest, limits)
        return str(told.value)

    said = await asyncio.gather(
        sentence(folder, Limits(memory_bytes=2**30)),
        sentence(broken, Limits()),
        sentence(good, Limits(cpu_s=1)),
    )
    assert said[0] == "The model's tokenizer cannot be read within bounds: it takes more than 1.0 GiB of memory."
    assert said[1] == "Tensor model.norm.weight holds NaN or infinity: the model is broken."
    assert said[2].endswith("cannot be read within bounds: it took more than 1 s of processor time.")


async def test_no_model_is_refused_because_this_machine_cannot_look_at_it(manifest: Manifest) -> None:
    with pytest.raises(LeaderboardError, match="does not start on this machine"):
        await check_in_child(find_model("demo"), manifest, Limits(wall_s=0.01))
