"""One account's grader: everything that the leaderboard wants of it now, model by model.

Whatever stops it, it goes on there: files that came stay, the journal knows each item that was scored, and a grade that
was signed is sent as it was signed.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from gridllm.charter.pin import Pins
from gridllm.disk import write_atomically
from gridllm.errors import GridError, ModelError, SwarmError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm_leaderboard.grading.job import Via
from gridllm_leaderboard.grading.kept import Ledge, keep_signed, signed_in
from gridllm_leaderboard.grading.obtain import Larder
from gridllm_leaderboard.grading.papers import PRACTICE, failure_said, grade_said
from gridllm_leaderboard.grading.plan import Means, TooLargeError, way_for
from gridllm_leaderboard.grading.preparing import Questions, Subject, Ways, prepare
from gridllm_leaderboard.grading.running import CannotRunError, Ran, run_job
from gridllm_leaderboard.grading.sending import send
from gridllm_leaderboard.grading.serving import is_served
from gridllm_leaderboard.grading.unable import PATIENCE_S, UnableError, Unables
from gridllm_leaderboard.grading.work import Assignment, Sheet, Wanted, read_work
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import WORK_CALL, AskWork, Beyond, Unable, Work
from gridllm_leaderboard.statements import Failure, Grade, id_of, sign

MOST_UNABLE: Final = 64  # models that the leaderboard is told of: a round has no more

Stage = Literal["fetching", "grading", "grading through the grid:"]
OnStage = Callable[[str, Stage, int, int], None]
"""Called on the event loop with (name of the model, stage, done, in all)."""


@dataclass(frozen=True, slots=True)
class Done:
    """One model that was graded, or could not be."""

    submission: str
    name: str
    grade: Grade | None
    failure: Failure | None


class PutOffError(GridError):
    """The model cannot be graded just now, through no fault of its own."""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader at work."""

    identity: Identity  # the account that signs
    pins: Pins
    cache_dir: Path
    means: Means
    ways: Ways  # into the grid, for models that run there
    on_stage: OnStage = lambda *_: None
    clock: Callable[[], float] = time.time

    @property
    def account(self) -> str:
        """Hex key."""
        return self.identity.public_key.hex()

    async def assignment(self, link: LeaderboardLink) -> tuple[Assignment | None, Sequence[Beyond]]:
        """What is there to grade that this grader is able to (None: nothing), and what that it is not able to?

        Raises:
            LeaderboardError: what came cannot be trusted.
            SwarmError, Refusal, WireError: the leaderboard does not say.
        """
        unables = self._unables(link)
        for submission in await asyncio.to_thread(unables.to_look_for):
            if await is_served(link, self.pins, submission):
                await asyncio.to_thread(unables.forget, submission)
        given_up = await asyncio.to_thread(unables.final)
        told = [Unable(submission, note.why) for submission, note in given_up.items()][:MOST_UNABLE]
        asked = AskWork(self.delegation(link), self.means.holds, self.means.way != "local", told)
        work = await link.ask(WORK_CALL, asked, Work)
        given = await asyncio.to_thread(read_work, work, link.signed, self.account)
        await self._larder(link).give_back([] if given is None else [one.submission.root for one in given.models])
        return given, work.beyond

    def delegation(self, link: LeaderboardLink) -> bytes:
        """The account's word that this connection is its."""
        return link.delegation(self.identity, self.clock())

    async def grade(self, link: LeaderboardLink, given: Assignment, model: Wanted, sheets: Sequence[Sheet]) -> Done:
        """Grade one model, sign, and hand it in.

        Raises:
            PutOffError: not now; later may do.
            UnableError: not by this grader; the leaderboard is told with the next question.
            LeaderboardError, SwarmError, Refusal: the leaderboard does not take it.
        """
        ledge = Ledge(self.pins.data_dir, link.signed.grid, self.account)
        folder = await asyncio.to_thread(ledge.folder, id_of(given.draw), model.id)
        held = await asyncio.to_thread(signed_in, folder)
        if held is None:
            said = await self._judged(link, given, model, sheets, folder)
            await asyncio.to_thread(self._unables(link).forget, model.id)
            failed = isinstance(said, Failure)
            raw = await asyncio.to_thread(sign, said, self.identity)
            held = await asyncio.to_thread(keep_signed, folder, raw, failed), failed
        await self._larder(link).give_back([one.submission.root for one in given.models if one.id != model.id])
        grade, failure = await send(link, self.delegation(link), folder, *held)
        return Done(model.id, model.submission.name, grade, failure)

    async def _judged(
        self, link: LeaderboardLink, given: Assignment, model: Wanted, sheets: Sequence[Sheet], folder: Path
    ) -> Grade | Failure:
        """What is to be signed. Raises PutOffError, UnableError, LeaderboardError."""
        name = model.submission.name
        try:
            via = way_for(self.means, model.submission.parameters, model.serve)
            ran = await self._run(link, model, sheets, folder, via)
        except TooLargeError as error:
            raise await self._unable(link, model, str(error)) from error
        except CannotRunError as error:
            if error.fault == "model":
                return failure_said(given, model, str(error), self.account, int(self.clock()))
            if error.fault == "machine":
                raise PutOffError(f"{name!r} cannot be graded on this machine now: {error}.") from error
            if error.fault in ("grid", "credit"):
                raise await self._not_through(link, model, error) from error
            raise await self._unable(link, model, str(error)) from error
        except OSError as error:
            raise PutOffError(f"{name!r} cannot be graded: {folder} cannot be written ({error.strerror}).") from error
        return grade_said(given, model, sheets, ran, self.account, via, int(self.clock()))

    def _unables(self, link: LeaderboardLink) -> Unables:
        means = self.means
        said = f"{means.way} {means.memory_bytes} {means.dtype} {means.device} {means.grid_dtype}"
        return Unables(Ledge(self.pins.data_dir, link.signed.grid, self.account).unable, said, self.clock)

    async def _unable(self, link: LeaderboardLink, model: Wanted, why: str) -> UnableError:
        """What is to be raised, once it is written down. Raises OSError."""
        await asyncio.to_thread(self._unables(link).give_up, model.id, why)
        return UnableError(
            f"{model.submission.name!r} is beyond this grader: {why}. Nothing is signed against it; other graders are "
            "asked, or it waits for one."
        )

    async def _not_through(self, link: LeaderboardLink, model: Wanted, fault: CannotRunError) -> GridError:
        """The same, where nodes or credit are lacking: they are waited for first. Raises OSError."""
        nodes, name, hours = fault.fault == "grid", model.submission.name, PATIENCE_S // 3600
        serve = f"gridllm serve --model {shlex.quote(name)}"
        lacking = f"nodes did not run it for {hours} h; volunteers serve it with: {serve}"
        short = lacking if nodes else "it may not use the grid's nodes, for lack of credit or contribution"
        advice = (
            f"Volunteers serve it with: {serve}" if nodes else "The account that grades pays for it: gridllm credit"
        )
        if await asyncio.to_thread(partial(self._unables(link).lacks, model.id, short, nodes=nodes)):
            return UnableError(
                f"{name!r} cannot be graded by way of the grid, for {hours} h by now: {fault}. The leaderboard "
                f"is told, and nobody waits for it any longer. {advice}"
            )
        return PutOffError(f"{name!r} cannot be graded by way of the grid now: {fault}. {advice}")

    async def _run(self, link: LeaderboardLink, model: Wanted, sheets: Sequence[Sheet], folder: Path, via: Via) -> Ran:
        """Raises CannotRunError, PutOffError, OSError."""
        said, root = model.submission, ModelRoot(model.submission.root)
        larder = self._larder(link)
        subject = Subject(root, said.parameters, via, root, None)
        if via == "local":
            await larder.borrow(root)
            where, manifest = await self._files(larder, root, said.name, folder)
            subject = Subject(root, said.parameters, via, str(where), manifest)
        questions = [
            question
            for sheet in sheets
            for question in (
                Questions(sheet.task.name, sheet.task, sheet.items),
                Questions(sheet.task.name + PRACTICE, sheet.task, sheet.practice),
            )
        ]
        job, wall_s = await asyncio.to_thread(prepare, folder, subject, questions, self.means, self.ways)
        return await run_job(
            job, wall_s, self._told(said.name, "grading" if via == "local" else "grading through the grid:")
        )

    def _larder(self, link: LeaderboardLink) -> Larder:
        notes = Ledge(self.pins.data_dir, link.signed.grid, self.account).fetched
        return Larder(link.swarm, {link.peer: link.addresses}, self.pins, self.cache_dir, notes)

    async def _files(self, larder: Larder, root: ModelRoot, name: str, folder: Path) -> tuple[Path, Path]:
        """The model's folder, and the file of its manifest. Raises PutOffError, OSError."""
        try:
            manifest, raw = await larder.manifest(root, name)
            where = await larder.weights(root, manifest, name, self._told(name, "fetching"))
        except (SwarmError, ModelError) as error:
            raise PutOffError(f"The files of {name!r} do not come: {error}") from error
        path = folder / "manifest.json"
        await asyncio.to_thread(write_atomically, path, raw)
        return where, path

    def _told(self, name: str, stage: Stage) -> Callable[[int, int], None]:
        return lambda done, total: self.on_stage(name, stage, done, total)
