"""The demo model: its corpus, its shipped weights, and a training run small enough for a test."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from gridllm.demo_model import demo_model_path, evaluate
from gridllm.demo_model.corpus import MIX, document, documents
from gridllm.demo_model.dialogue import render
from gridllm.demo_model.evaluate import continue_text, load, perplexity
from gridllm.demo_model.sums import all_sums
from gridllm.demo_model.train import learning_rate, main

MOST_BYTES = 8_000_000
Loaded = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def shipped() -> Loaded:
    return load(demo_model_path())


@pytest.fixture(scope="module")
def card() -> str:
    return (demo_model_path() / "README.md").read_text(encoding="utf-8")


def test_corpus_is_fixed_by_its_seed() -> None:
    assert list(documents(7, "train", 50)) == list(documents(7, "train", 50))
    assert document(7, "train", 49) == list(documents(7, "train", 50))[49]
    assert list(documents(7, "train", 50)) != list(documents(8, "train", 50))


def test_no_slot_is_left_unfilled() -> None:
    for text in documents(3, "train", 2000):
        assert "{" not in text
        assert "  " not in text


@pytest.mark.parametrize("kind", MIX)
def test_held_out_documents_are_not_in_the_training_set(kind: str) -> None:
    train = {text for seed in (0, 1) for text in documents(seed, "train", 1500, kind)}
    held_out = set(documents(0, "held_out", 200, kind))
    assert not train & held_out


def test_held_out_sums_are_other_sums_and_all_sums_are_right() -> None:
    for op, train in all_sums("train").items():
        held_out = all_sums("held_out")[op]
        assert train
        assert held_out
        assert not set(train) & set(held_out)
    arithmetic = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
    written = re.findall(r"(\d+) ([-+x]) (\d+) = (\d+)", " ".join(documents(0, "train", 300, "sums")))
    assert len(written) > 300
    assert all(arithmetic[op](int(a), int(b)) == int(result) for a, op, b, result in written)


def test_import_is_light() -> None:
    code = "import sys, gridllm.demo_model as d; d.demo_model_path(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    peak = rates.index(max(rates))
    assert 0 < peak < 100
    assert rates[0] < rates[peak]
    assert rates[-1] < 0.05 * rates[peak]


def test_shipped_folder_is_small_and_complete(shipped: Loaded) -> None:
    model, tokenizer = shipped
    assert sum(path.stat().st_size for path in demo_model_path().iterdir()) < MOST_BYTES
    assert model.config.num_hidden_layers >= 8
    assert model.config.vocab_size == len(tokenizer)
    assert None not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert model.generation_config is not None
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_chat_template_writes_what_the_corpus_contains(shipped: Loaded) -> None:
    _, tokenizer = shipped
    messages = [
        {"role": "system", "content": "You are the voice of the grid."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": "2 + 3 = 5."},
        {"role": "user", "content": "Thank you!"},
    ]
    written = tokenizer.apply_chat_template(messages, tokenize=False)
    assert written == "<s>" + render(messages)
    asked = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    assert asked["input_ids"] == tokenizer(render(messages) + "<|assistant|>")["input_ids"]


def test_tokenizer_gives_any_text_back(shipped: Loaded) -> None:
    _, tokenizer = shipped
    text = "Käse für 3 €, says Zoë; 日本 — and\ttabs.\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_card_tells_the_measured_perplexity(shipped: Loaded, card: str) -> None:
    stated = float(re.search(r"Held-out perplexity per token \| ([\d.]+)", card).group(1))  # type: ignore[union-attr]
    measured, _ = perplexity(*shipped, seed=0, split="held_out")
    assert measured == pytest.approx(stated, rel=0.05)


def test_story_reads_like_the_corpus(shipped: Loaded) -> None:
    (text,) = continue_text(*shipped, ["Once upon a time"], max_new_tokens=250)
    words = re.findall(r"[a-z]+", text.lower())
    known = set(re.findall(r"[a-z]+", " ".join(documents(0, "train", 1500)).lower()))
    assert len(words) >= 30
    assert sum(word in known for word in words) >= 0.95 * len(words)
    assert len(set(words)) >= 0.4 * len(words)  # no loop


def test_chat_answers(shipped: Loaded) -> None:
    prompts = ["<|user|>What is a peer?<|assistant|>", "<|user|>What is 2 + 3?<|assistant|>"]
    peer, total = continue_text(*shipped, prompts, max_new_tokens=40)
    assert peer.startswith("A peer is one computer that takes part in the grid.")
    assert total == "2 + 3 = 5."


def first_of(prompts: Callable[..., list[tuple[str, str]]]) -> Callable[..., list[tuple[str, str]]]:
    """Two of the questions only."""
    return lambda *args: prompts(*args)[:2]


def test_training_run_gives_a_loadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tiny"
    monkeypatch.setattr(evaluate, "perplexity", partial(perplexity, limit=4))  # for the card: a hundred are for people
    for name in ("_sum_prompts", "_fact_prompts"):
        monkeypatch.setattr(evaluate, name, first_of(getattr(evaluate, name)))
    main(["--out", str(out), "--steps", "3", "--hidden", "32", "--layers", "2", "--save-at", "2,3"])
    stage = tmp_path / "tiny-step-2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny-step-2"]
    for folder in (out, stage):
        model, tokenizer = load(folder)
        assert model.config.num_hidden_layers == 2
        assert continue_text(model, tokenizer, ["Once"], max_new_tokens=3)
    said = (out / "README.md").read_text(encoding="utf-8")
    assert "--steps 3" in said
    assert re.search(r"Held-out perplexity per token \| [\d.]+", said)
