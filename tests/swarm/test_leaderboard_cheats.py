"""Cheats against a leaderboard that runs as people run it: what the command refuses, what a changed program brings, a
model that learnt the public items by heart, a thousand submissions at once. The others are tests/unit/
test_leaderboard_cheats_*.py, where real processes add nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from gridllm.charter.pin import Pins
from gridllm.errors import Refusal
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.paper import sign as sign_entry
from gridllm.ledger.statements import Delegation
from gridllm.models.files import DEMO, find_model
from gridllm.models.manifest import build_manifest
from gridllm_leaderboard.link import LeaderboardLink, asking_leaderboard
from gridllm_leaderboard.messages import (
    ENTER_CALL,
    RANK_CALL,
    SUBMISSIONS_CALL,
    AskRank,
    AskSubmissions,
    Enter,
    Rank,
    Submissions,
    SubmissionView,
)
from gridllm_leaderboard.statements import sign
from gridllm_leaderboard.submitting.author import Words, submission_of
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from tests.command import gridllm
from tests.swarm.leaderboard_grid import Contest, leaderboard_grid

pytestmark = [pytest.mark.timeout(600), pytest.mark.soak]  # each cheat is in tests/unit, too

RULES = ("--task", "sums:60", "--fee", "0", "--daily", "3")
ANSWERED_S = 10.0  # another's question meanwhile; a quiet machine takes a fraction of a second
MOST_GROWTH_BYTES = 300 * 2**20


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with leaderboard_grid(tmp_path_factory.mktemp("grid"), rules=RULES) as made:
        yield made


def untrained(folder: Path, seed: int) -> Path:
    """A small model with the demo model's tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in find_model(DEMO).glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def changed_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def changed_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_the_command_refuses_pickles_code_and_a_graders_own_model(contest: Contest, tmp_path: Path) -> None:
    pickle, code, own = (untrained(tmp_path / name, 1) for name in ("pickle", "code", "own"))
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    changed_json(code / "config.json", lambda data: data.update(model_type="evil", auto_map={"AutoConfig": "evil.C"}))
    words = ("--name", "mine", "--message", "", "--license", "MIT")
    author = contest.member("author")
    assert "pickled weights can run code" in contest.refused(author, "submit", str(pickle), *words)
    assert "GridLLM runs no code from a model" in contest.refused(author, "submit", str(code), *words)
    assert "Nobody grades a model of their own" in contest.refused(contest.grader, "submit", str(own), *words)


class Changed:
    """An author whose program checks nothing, on a line of its own."""

    def __init__(self, link: LeaderboardLink, identity: Identity) -> None:
        self.link = link
        self.identity = identity

    async def bring(self, folder: Path, name: str) -> str:
        """Enter and upload a model as it is; the submission's id."""
        manifest = await asyncio.to_thread(build_manifest, folder)
        view = await self.enter(submission_raw(self.link, self.identity, manifest, name))
        bundle = await asyncio.to_thread(Bundle, folder, manifest)
        await send_bundle(self.link.swarm, self._find, view.id, self._delegation, bundle)
        return view.id

    async def enter(self, raw: bytes) -> SubmissionView:
        return await self.link.ask(ENTER_CALL, Enter(raw), SubmissionView, timeout_s=60)

    async def until_seen(self, id_: str) -> SubmissionView:
        """Once it was looked at."""
        while True:
            page = await self.link.ask(SUBMISSIONS_CALL, AskSubmissions(limit=1000), Submissions, timeout_s=60)
            view = next(one for one in page.submissions if one.id == id_)
            if view.state not in ("uploading", "checking"):
                return view
            await asyncio.sleep(0.2)

    async def _find(self) -> tuple[PeerId, tuple[str, ...]]:
        return self.link.peer, self.link.addresses

    def _delegation(self) -> bytes:
        now, account = int(time.time()), self.identity.public_key.hex()
        fields = {"grid": self.link.signed.grid, "account": account, "client": self.link.swarm.peer}
        return sign_entry(Delegation(**fields, issued=now, expires=now + 600), self.identity)


def submission_raw(link: LeaderboardLink, identity: Identity, manifest: Any, name: str, **changes: str) -> bytes:
    account, words = identity.public_key.hex(), Words(name, "", "MIT")
    said = submission_of(link.signed.grid, account, manifest, words, int(time.time()))
    return sign(said.model_copy(update=changes), identity)


@asynccontextmanager
async def changed(contest: Contest, count: int = 1) -> AsyncIterator[list[Changed]]:
    """Fresh accounts, each on a peer of its own."""
    pins = Pins(contest.grader / "data" / "gridllm")
    async with AsyncExitStack() as stack:
        opening = [asking_leaderboard(pins.current(), pins) for _ in range(count)]
        yield [Changed(await stack.enter_async_context(one), Identity.ephemeral()) for one in opening]


async def test_what_a_changed_program_brings_is_found_out_by_the_leaderboard_itself(
    contest: Contest, tmp_path: Path
) -> None:
    nan, bomb = untrained(tmp_path / "nan", 2), untrained(tmp_path / "bomb", 3)
    changed_tensors(nan, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    blow_up = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * size} for size in (4000, 100)]
    normalizer = {"type": "Sequence", "normalizers": blow_up}
    changed_json(bomb / "tokenizer.json", lambda data: data.update(normalizer=normalizer))
    async with changed(contest) as (cheat,):
        ids = [await cheat.bring(nan, "nan"), await cheat.bring(bomb, "bomb")]
        views = [await cheat.until_seen(one) for one in ids]
        assert [view.state for view in views] == ["refused", "refused"]
        assert "model.norm.weight holds NaN or infinity" in views[0].why
        assert "out of bounds" in views[1].why or "within bounds" in views[1].why


@pytest.fixture(scope="module")
def learnt_by_heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt") / "model"
    command = [sys.executable, "-m", "tests.memorised", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cheat(contest: Contest, learnt_by_heart: Path) -> str:
    """Its submission, graded."""
    id_ = contest.submit(contest.member("cheat"), learnt_by_heart, "learnt")
    contest.graded(id_)
    return id_


def test_a_model_that_learnt_the_public_items_is_exposed_by_sealed_ones_and_reported(
    contest: Contest, cheat: str
) -> None:
    """It was really trained on practice items and their answers."""
    told = contest.json(contest.grader, "show", cheat)
    (practice,), (sealed,) = told["grades"][0]["practice"], told["grades"][0]["tasks"]
    assert practice["value"] > 0.95 and sealed["value"] < 0.7  # of a task that it was told the answers of
    assert told["overlaps"]["sums"] > 0.1, told["overlaps"]
    shown = gridllm(contest.grader, "leaderboard", "show", cheat)
    assert "it learnt them by heart" in shown.stdout, shown.stderr


@pytest.mark.soak  # grading one more model, and the champion again, takes half a minute on a quiet machine
def test_a_model_that_learnt_what_they_are_about_goes_before_it_and_is_not_suspected(
    contest: Contest, cheat: str, tmp_path: Path
) -> None:
    honest = Path(shutil.copytree(find_model(DEMO), tmp_path / "honest"))
    changed_tensors(honest, lambda tensors: tensors["model.norm.weight"].mul_(1.01))
    other = contest.submit(contest.member("other"), honest, "honest")
    rows = contest.graded(other)
    assert [(row["submission"], row["champion"]) for row in rows] == [(other, True), (cheat, False)]
    assert contest.json(contest.grader, "show", other)["overlaps"] == {"sums": 0.0}


async def test_a_thousand_submissions_at_once_leave_it_answering(contest: Contest, tmp_path: Path) -> None:
    """From one account, and from a hundred fresh ones; another's questions are answered meanwhile."""
    assert contest.running is not None
    manifest = await asyncio.to_thread(lambda: build_manifest(untrained(tmp_path / "m", 4)))
    process = psutil.Process(contest.running.pid)
    before = process.memory_info().rss
    async with changed(contest, 6) as (other, one, *crowd):
        many = [Identity.ephemeral() for _ in range(100)]
        storm = [(one, *entry) for entry in entries(one.link, manifest, [one.identity] * 1000, "one")]
        for number, entry in enumerate(entries(one.link, manifest, many * 10, "many")):
            storm.append((crowd[number % len(crowd)], *entry))
        done = asyncio.Event()
        watching = asyncio.create_task(watched(other, done))
        said = await asyncio.gather(*(entered(*each) for each in storm))
        done.set()
        slowest = await watching
        answers = Counter((whose, text if text == "uploading" else "told") for whose, text in said)
        assert answers[("one", "uploading")] == 3
        assert 0 < answers[("many", "uploading")] <= 300
        assert answers.total() == 2000
        why = ("3 models in 24 hours", "busy with other callers")
        assert not {text for _, text in said if text != "uploading" and not any(one in text for one in why)}
        assert slowest < ANSWERED_S
    assert process.memory_info().rss - before < MOST_GROWTH_BYTES


def entries(link: LeaderboardLink, manifest: Any, accounts: list[Identity], whose: str) -> list[tuple[str, bytes]]:
    """A signed submission for each account in the list, all of different models."""
    found = []
    for number, account in enumerate(accounts):
        digest = f"{whose.encode().hex()}{number:08x}".ljust(64, "0")
        other = {"root": digest, "weights": digest}
        found.append((whose, submission_raw(link, account, manifest, f"{whose} {number}", **other)))
    return found


async def entered(through: Changed, whose: str, raw: bytes) -> tuple[str, str]:
    """Whose it was, and what came of it."""
    try:
        return whose, (await through.enter(raw)).state
    except Refusal as refusal:
        return whose, str(refusal)


async def watched(other: Changed, done: asyncio.Event) -> float:
    """How long the ranking and a page of submissions took at most."""
    slowest = 0.0
    while not done.is_set():
        before = time.monotonic()
        await other.link.ask(RANK_CALL, AskRank(), Rank, timeout_s=60)
        await other.link.ask(SUBMISSIONS_CALL, AskSubmissions(limit=5), Submissions, timeout_s=60)
        slowest = max(slowest, time.monotonic() - before)
        await asyncio.sleep(0.1)
    return slowest
