"""Papers from the leaderboard itself, and its model on this machine."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from gridllm.charter.contest import TaskRule
from gridllm.charter.pin import Pins
from gridllm.errors import ModelError, NotHeld
from gridllm.ids import ModelRoot
from gridllm.models.manifest import build_manifest, manifest_bytes
from gridllm.models.manifest import root as root_of
from gridllm_leaderboard import listings
from gridllm_leaderboard.grading.limits import needed_bytes
from gridllm_leaderboard.grading.obtain import Larder
from gridllm_leaderboard.grading.plan import Means
from gridllm_leaderboard.grading.preparing import Questions, Subject, prepare
from gridllm_leaderboard.grading.running import run_job
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import (
    DOSSIER_CALL,
    MAX_PAGE,
    RANK_CALL,
    AnnulledRound,
    AskDossier,
    AskRank,
    Dossier,
    Rank,
    RankRow,
    Reign,
)
from gridllm_leaderboard.statements import Submission, id_of
from gridllm_leaderboard.tasks import BUILT_IN, Task, from_files, load
from gridllm_leaderboard.verifying.examine import Found, Progress
from gridllm_leaderboard.verifying.rerun import sample_of, verify_rerun
from gridllm_leaderboard.verifying.walk import Walk


class Live:
    """``Evidence`` over a line to the leaderboard."""

    def __init__(self, link: LeaderboardLink) -> None:
        self._link = link

    async def dossier(self, submission: str, round_: int) -> Dossier:
        """Documents about a submission. Raises SwarmError, Refusal."""
        return await self._link.ask(DOSSIER_CALL, AskDossier(submission, round_), Dossier)

    async def lines(self, root: str) -> bytes:
        """A list of items or results. Raises LeaderboardError, SwarmError, Refusal."""
        return await self._link.lines(root)

    async def task(self, rule: TaskRule) -> Task | None:
        """A built-in task, or one by the public files that the leaderboard hands out. Raises SwarmError.

        Those are of the rules that hold now: files of a task that was changed since an older round are not to be had.
        """
        built_in = await asyncio.to_thread(load, rule.name) if rule.name in BUILT_IN else None
        if built_in is not None and built_in.commitment == rule.commitment:
            return built_in
        if (rule.name, rule.commitment) not in {(one.name, one.commitment) for one in self._link.rules.tasks}:
            return built_in
        try:
            file = await self._link.file(rule.name, "task.yaml")
            practice = await self._link.file(rule.name, "practice.jsonl")
        except NotHeld:
            return built_in
        public = await asyncio.to_thread(from_files, file, practice)
        return built_in if built_in is not None and public.commitment != rule.commitment else public

    async def annulled(self) -> list[AnnulledRound]:
        """All rounds that are void. Raises SwarmError, Refusal."""
        return await listings.annulled(self._link)

    async def reigns(self) -> list[Reign]:
        """All champions that there were. Raises SwarmError, Refusal."""
        return await listings.reigns(self._link)

    @property
    def account(self) -> str:
        """The leaderboard's, by the rules that hold now."""
        return self._link.rules.account

    async def row(self, submission: str) -> RankRow | None:
        """Its row of the ranking. Raises SwarmError, Refusal."""
        offset = 0
        while True:
            page = await self._link.ask(RANK_CALL, AskRank(None, True, offset, MAX_PAGE), Rank)
            row = next((one for one in page.rows if one.submission == submission), None)
            offset += len(page.rows)
            if row is not None or not page.rows or offset >= page.total:
                return row


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine has for a run of its own."""

    pins: Pins
    cache_dir: Path
    model: Path | None  # folder with the model's files; None: they are fetched, and cleared unless they were here
    threads: int
    tell: Progress


async def rerun(
    link: LeaderboardLink, found: Found, tasks: Mapping[str, Task], count: int, walk: Walk, here: Here
) -> None:
    """Run a random sample of the items here, on the submission's weights, and compare with each grade that counts.

    Raises:
        UnsoundError: the answers differ beyond noise.
        SwarmError, ModelError: the model cannot be had.
    """
    what = "a run here of items chosen at random"
    items = {name: lines for name, lines in found.items.items() if name in tasks}
    sample = sample_of(items, count, random.SystemRandom())
    if not found.grades or not sample:
        walk.leave_out(what, "it has no grade that counts, or no task whose file is public")
        return
    said, dtype = found.submission, found.grades[0].dtype
    if (needed := needed_bytes(said.parameters, dtype)) > psutil.virtual_memory().available:
        walk.leave_out(what, f"it takes {needed / 1e9:.1f} GB of memory, more than this machine has to spare")
        return
    questions = [Questions(name, tasks[name], [items[name][at] for at in chosen]) for name, chosen in sample.items()]
    means = Means("local", needed, dtype, "cpu", here.threads)
    with tempfile.TemporaryDirectory(prefix="gridllm-verify-") as scratch:
        async with _model(link, said, Path(scratch), here) as (model, manifest):
            subject = Subject(said.root, said.parameters, "local", str(model), manifest)
            job, wall_s = await asyncio.to_thread(prepare, Path(scratch), subject, questions, means, None)
            with walk.step(what) as step:
                ran = await run_job(job, wall_s, lambda done, total: here.tell("Running items", done, total))
                for grade in found.grades:
                    step.detail = verify_rerun(sample, items, ran.results, found.results[id_of(grade)])


@asynccontextmanager
async def _model(
    link: LeaderboardLink, said: Submission, scratch: Path, here: Here
) -> AsyncIterator[tuple[Path, Path]]:
    """The model's folder, and its manifest, which everything in the folder is checked against.

    Raises:
        ModelError: the folder named holds another model.
        SwarmError: the leaderboard does not hand it out.
    """
    root, path = ModelRoot(said.root), scratch / "manifest.json"
    if here.model is not None:
        raw = await asyncio.to_thread(manifest_of, here.model, said)  # the leaderboard may hand out none (any more)
        await asyncio.to_thread(path.write_bytes, raw)
        yield here.model, path
        return
    larder = Larder(link.swarm, {link.peer: link.addresses}, here.pins, here.cache_dir)
    manifest, raw = await larder.manifest(root, said.name)
    await asyncio.to_thread(path.write_bytes, raw)
    had = larder.has(root)
    try:
        yield (
            await larder.weights(root, manifest, said.name, lambda *sizes: here.tell("Fetching weights", *sizes[:2])),
            path,
        )
    finally:
        if not had:
            await larder.clear(root)


def manifest_of(folder: Path, said: Submission) -> bytes:
    """Of the model in that folder, if it is the submitted one. Raises ModelError."""
    manifest = build_manifest(folder)
    if root_of(manifest) != said.root:
        raise ModelError(f"{folder} holds another model than {said.name!r}: its root is {root_of(manifest)[:16]}….")
    return manifest_bytes(manifest)
