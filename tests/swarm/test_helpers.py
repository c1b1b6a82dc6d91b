"""Machines that cannot serve: a seed feeds nodes and clients that have no files, a relay shows in the status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gridllm_client.grid import Grid
from tests.command import Running, gridllm
from tests.swarm.grid import LOOPBACK, ProcessGrid, process_grid
from tests.unit.tiny_models import VOCAB, Tiny, make_model

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A model that is on no Hub, with a tokenizer of words w0 … w159."""
    made = make_model("llama", tmp_path_factory.mktemp("tiny") / "model")
    special = {"unk_token": "w0"}
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCAB)}, **special))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(made.folder)
    return made


@pytest.fixture(scope="module")
def grid(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    """Without nodes at first, and nobody has the model's files."""
    with process_grid(tmp_path_factory.mktemp("grid"), model=str(tiny.folder)) as found:
        yield found


def helper(grid: ProcessGrid, kind: str, key: str, *extra: str) -> Running:
    return Running(grid.home, kind, "--identity", str(grid.home.parent / key), "--host-maddrs", LOOPBACK, *extra)


def status(grid: ProcessGrid) -> dict[str, list[dict[str, object]]]:
    done = gridllm(grid.home, "status", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_nodes_without_files_and_without_a_seed_say_what_to_do(grid: ProcessGrid) -> None:
    done = gridllm(grid.home, *grid.serve_args("--identity", str(grid.home.parent / "k.key"), "--blocks", "0:2"))
    assert done.returncode == 1
    assert "gridllm seed --model model --path <folder>" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_seed_feeds_nodes_and_a_client_and_a_relay_is_listed(
    grid: ProcessGrid, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = grid.home / "cache"
    monkeypatch.setenv("GRIDLLM_CACHE_DIR", str(cache / "client"))
    prompt = [5, 6, 7, 8]  # w5 w6 w7 w8
    with (
        helper(grid, "relay", "relay.key") as relay,
        helper(grid, "seed", "seed.key", "--path", str(tiny.folder)) as seed,
    ):
        relay_line = relay.wait_for("helping as relay")
        seed_line = seed.wait_for("helping as seed with the weights of model")
        grid.add("0:2", "2:5")
        with Grid(grid.data_dir) as entered:
            made = entered.model().complete("w5 w6 w7 w8", max_new_tokens=12, temperature=0.0, wait_s=20.0)
        expected = tiny.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=2
        )
        assert made.ids == expected[0, len(prompt) :].tolist()
        helpers = {one["peer"]: one for one in status(grid)["helpers"]}
        assert helpers[relay_line.split()[-1]]["role"] == "relay"
        assert helpers[seed_line.split()[-1]]["role"] == "seed"
        assert helpers[seed_line.split()[-1]]["models"] == ["model"]
        assert relay_line.split()[-1][-8:] in gridllm(grid.home, "status").stdout
        relay.wait_for("peers connected")
        assert seed.stop() == 0
        assert relay.stop() == 0
    assert len(list((cache / "gridllm").glob("models/*/*.safetensors"))) == 9 * 5  # both nodes' blocks, and no ends
    assert status(grid)["helpers"] == []  # both took their records back


def test_in_a_closed_grid_a_relay_is_measured_for_what_it_does(tmp_path: Path) -> None:
    serving = ("--min-decode", "1000000")  # nobody can serve here; a relay is not asked for that
    with process_grid(tmp_path, admission=serving) as grid:
        with helper(grid, "relay", "relay.key") as relay:
            relay.wait_for("Being measured for admission")
            line = relay.wait_for("helping as relay", timeout_s=120.0)
            assert not any("decode" in said or "memory" in said for said in relay.output)
            (listed,) = status(grid)["helpers"]
            assert (listed["peer"], listed["role"]) == (line.split()[-1], "relay")
            assert relay.stop() == 0
        with helper(grid, "relay", "relay.key") as again:
            again.wait_for("Admitted until")  # the certificate was kept
            again.wait_for("helping as relay")


@pytest.mark.soak
def test_a_relay_too_slow_for_its_minimums_is_told_which(tmp_path: Path) -> None:
    with process_grid(tmp_path, admission=("--min-upload", "relay=900000")) as grid:
        done = gridllm(grid.home, "relay", "--host-maddrs", LOOPBACK, timeout_s=120.0)
        assert done.returncode == 1
        assert "upload" in done.stdout  # of the table
        assert "upload" in done.stderr
