"""What happens to a submission between its upload and the queue: it is looked at, and waits for its fee."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gridllm.errors import LeaderboardError, ModelError, NotAccepted
from gridllm.tasks import end, racing
from gridllm_leaderboard.desk.consequences import Shape
from gridllm_leaderboard.desk.turns import Turns, Waiting

if TYPE_CHECKING:
    from gridllm.models.manifest import Manifest
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.records import Entry
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

SHAPE_KEY: Final = "shape:"  # in the store's settings, with the root
LOST: Final = "The leaderboard no longer has its files; upload them again."
FAULT: Final = "It could not be checked because of a fault on the leaderboard's side; it will be tried again."
ABANDONED_S: Final = 7 * 86_400  # an upload, or a fee, that did not come in so long

Check = Callable[[Path, "Manifest"], Awaitable[None]]
"""``checking``'s: raises ModelError; LeaderboardError where the fault is this machine's."""


class Arrivals:
    """The part of the desk that looks at models."""

    def __init__(self, desk: Desk, check: Check, lanes: Callable[[], int] = lambda: 1) -> None:
        """``lanes``: how many models may be looked at at once now."""
        self._desk = desk
        self._check = check
        self._lanes = lanes
        self._turns = Turns()
        self._since: dict[str, float] = {}  # when those that wait were seen first
        self._bell = desk.bell()

    async def begin(self) -> None:
        """After a start: promise room again to uploads under way, and go on with those that came whole meanwhile."""
        desk = self._desk
        await self._miss()
        for entry in await desk.books.read(lambda view: view.in_state("uploading")):
            if await asyncio.to_thread(desk.vault.folder, entry.submission.root) is not None:
                await desk.books.write(lambda batch, id_=entry.id: batch.state(id_, "checking"))  # type: ignore[misc]
                continue
            try:
                await asyncio.to_thread(desk.vault.reserve, entry.submission.root, entry.submission.size)
            except NotAccepted as error:
                desk.tell("trouble", {"text": f"Submission {entry.id[:16]}…: {error}"})

    async def look(self) -> None:
        """Look at all that came whole, several at once, until nothing is left; whose turn it is, ``turns`` says.

        Raises:
            LeaderboardError: the store cannot be written, or some could not be looked at for a fault of this machine;
                the others were.
        """
        seen: set[str] = set()
        faults: list[Exception] = []
        running: dict[asyncio.Task[None], Waiting] = {}
        try:
            while True:
                self._bell.clear()
                entries = {one.id: one for one in await self._desk.books.read(_checking) if one.id not in seen}
                for chosen in self._chosen(entries, running.values()):
                    seen.add(chosen.id)
                    running[asyncio.create_task(self._try(entries[chosen.id], faults))] = chosen
                if not running:
                    break
                async with racing(self._bell.wait(), asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)):
                    running = {task: one for task, one in running.items() if not task.done()}
        finally:
            await end(*running)
        if faults:
            raise LeaderboardError(f"A model cannot be looked at now ({faults[0]}); it is tried again.") from faults[0]

    def _chosen(self, entries: Mapping[str, Entry], running: Collection[Waiting]) -> list[Waiting]:
        """Those that are looked at from now on, beside those that are already."""
        now = self._desk.clock()
        self._since = {id_: self._since.get(id_, now) for id_ in entries}
        waiting = {
            id_: Waiting(id_, one.submission.account, one.submission.size, self._since[id_])
            for id_, one in entries.items()
        }
        chosen: list[Waiting] = []
        while (one := self._turns.next(waiting.values(), [*running, *chosen], self._lanes(), now)) is not None:
            self._turns.began(one, now)
            chosen.append(waiting.pop(one.id))
        return chosen

    async def _try(self, entry: Entry, faults: list[Exception]) -> None:
        """What one author brought holds up no other, whatever a library makes of it."""
        try:
            await self._look_at(entry)
        except Exception as error:
            log.warning("The model %s cannot be looked at", entry.submission.root[:16], exc_info=error)
            faults.append(error)
            with contextlib.suppress(LeaderboardError):  # the store cannot be written: told by whoever needs it next
                await self._desk.books.write(partial(_tell_fault, id_=entry.id))

    async def tidy(self) -> None:
        """Give up what was never brought or paid, and take the weights of what is down off the disk."""
        desk = self._desk
        await self._miss()
        for entry in await desk.books.read(lambda view: view.in_state("uploading", "unpaid")):
            asked_again = entry.why and (entry.paid or not desk.rules.fee)  # its files were lost here
            if entry.entered < desk.now - ABANDONED_S and not asked_again:
                what = "its files did not come" if entry.state == "uploading" else "its fee was not paid"
                await self._refuse(entry, f"{what} within {ABANDONED_S // 86_400} days")
        keep = await desk.books.read(_roots_kept)
        await asyncio.to_thread(desk.vault.sweep, keep)

    async def _miss(self) -> None:
        """A disk was replaced, or spoilt: whose files are gone is not locked, for its round would come to no end."""
        desk = self._desk
        for entry in await desk.books.read(lambda view: view.in_state("unpaid", "queued")):
            gone = await asyncio.to_thread(desk.vault.folder, entry.submission.root) is None
            if gone and await desk.books.write(partial(_bring_again, entry=entry)):
                desk.tell("trouble", {"text": f"Submission {entry.id[:16]}…: {LOST}"})

    async def _look_at(self, entry: Entry) -> None:
        desk, root = self._desk, entry.submission.root
        folder = await asyncio.to_thread(desk.vault.folder, root)
        manifest = None if folder is None else await asyncio.to_thread(desk.vault.manifest, root)
        if folder is None or manifest is None:
            await desk.books.write(lambda batch: batch.state(entry.id, "uploading", LOST))
            return
        try:
            await self._check(folder, manifest)
            shape = await asyncio.to_thread(shape_of, folder, manifest)
        except ModelError as error:
            await self._refuse(entry, str(error))
            return

        def work(batch: Batch) -> str:
            now = batch.entry(entry.id)
            if now is None or now.state != "checking":
                return ""  # withdrawn meanwhile
            batch.keep(SHAPE_KEY + root, msgspec.json.encode(shape).decode())
            state = "queued" if now.paid or not desk.rules.fee else "unpaid"
            batch.state(entry.id, "queued" if state == "queued" else "unpaid")
            return state

        if state := await desk.books.write(work):
            desk.tell("checked", {"submission": entry.id, "state": state})
            desk.ring()

    async def _refuse(self, entry: Entry, why: str) -> None:
        desk = self._desk

        def work(batch: Batch) -> bool:
            now = batch.entry(entry.id)
            if now is None or now.state != entry.state:
                return False
            batch.state(entry.id, "refused", why)
            return True

        if await desk.books.write(work):
            desk.tell("refused", {"submission": entry.id, "text": why})
            await asyncio.to_thread(desk.vault.remove, entry.submission.root)


def shape_of(folder: Path, manifest: Manifest) -> Shape:
    """What a listing says of a model. Imports transformers: for a thread. Raises ModelError."""
    from gridllm.models.families import read_config
    from gridllm.models.sizes import block_parameters
    from gridllm_bootstrap.founding.offer import WIRE_DTYPES

    config = read_config(folder)
    largest = max(manifest.tensors.values(), key=lambda tensor: math.prod(tensor.shape))
    return Shape(
        blocks=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        dtype=WIRE_DTYPES.get(largest.dtype, "float32"),
        block_parameters=sum(block_parameters(manifest)),
    )


def kept_shape(view: View, root: str) -> Shape | None:
    """As it was found when the model was checked."""
    kept = view.value(SHAPE_KEY + root)
    return None if kept is None else msgspec.json.decode(kept, type=Shape)


def _bring_again(batch: Batch, entry: Entry) -> bool:
    """Whether it waits still; then its author is asked for its files."""
    if batch.states([entry.id]).get(entry.id) != entry.state:
        return False
    batch.bring_again(entry.id, LOST)
    return True


def _tell_fault(batch: Batch, id_: str) -> None:
    """Its author knows why nothing happens."""
    now = batch.entry(id_)
    if now is not None and now.state == "checking" and now.why != FAULT:
        batch.state(id_, "checking", FAULT)


def _checking(view: View) -> list[Entry]:
    return view.in_state("checking")


def _roots_kept(view: View) -> set[str]:
    kept = view.in_state("uploading", "checking", "unpaid", "queued", "locked", "graded", "failed")
    return {entry.submission.root for entry in kept}
