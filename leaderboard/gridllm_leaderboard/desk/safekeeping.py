"""Sees that the champion's files are here and sound: without them nobody can be measured against it.

Lost or spoilt ones are fetched from whoever hands them out in the grid (all is checked by its digest). Until they are
here no round is locked; after ``PATIENCE_S`` the title is vacant, and the next round is fought without a champion.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from gridllm.errors import LeaderboardError, ModelError, SwarmError
from gridllm.ids import ModelRoot
from gridllm_leaderboard.desk.annulling import annul
from gridllm_leaderboard.desk.evidence import judged_counts
from gridllm_leaderboard.store.view import VACANT_KEY

if TYPE_CHECKING:
    from gridllm.models.fetching import Addresses
    from gridllm.models.manifest import Manifest
    from gridllm.swarm.interface import Swarm
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.records import Entry
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

LOOK_S: Final = 600.0  # between two looks at the files' sizes
AGAIN_S: Final = 120.0  # between two tries to mend them
THOROUGH_S: Final = 86_400.0  # between two at every byte, the first after the start
PATIENCE_S: Final = 86_400  # for lost files to be found
LOST_KEY: Final = "champion:lost"  # in the store's settings: the submission, and since when its files are looked for


class Lost(NamedTuple):
    """A champion whose files are not sound here."""

    submission: str
    since: int  # Unix time


class Safekeeping:
    """``await keeping.look()`` now and then."""

    def __init__(self, desk: Desk, swarm: Swarm) -> None:
        self._desk = desk
        self._swarm = swarm
        self._looked: tuple[str, float] = "", 0.0  # the champion that was sound, and when (monotonic)
        self._read: tuple[str, float] = "", 0.0  # the same, of every byte
        self._tried = float("-inf")  # when it could not be mended last

    async def begin(self) -> None:
        """Before any round is locked: whether its files are here at all. Raises LeaderboardError: no books."""
        entry = await self._desk.books.read(crowned_last)
        fault = "" if entry is None else await asyncio.to_thread(self._fault, entry, False)
        if entry is not None and fault:
            await self._desk.books.write(lambda batch: _lost(batch, entry.id, self._desk.now))

    async def look(self) -> float:
        """Look at the champion's files, and mend what is wrong with them; in how many seconds to look again.

        Raises:
            LeaderboardError: they are not sound, and nobody hands them out; says what is to be done.
        """
        entry = await self._desk.books.read(crowned_last)
        now = time.monotonic()
        if entry is None or (self._looked[0] == entry.id and now - self._looked[1] < LOOK_S):
            return LOOK_S
        if now - self._tried < AGAIN_S:
            return AGAIN_S
        thorough = self._read[0] != entry.id or now - self._read[1] >= THOROUGH_S
        fault = await asyncio.to_thread(self._fault, entry, thorough)
        if fault:
            if not await self._desk.books.write(lambda batch: _lost(batch, entry.id, self._desk.now)):
                return AGAIN_S
            self._read, self._tried = ("", 0.0), now
            await self._mend(entry, fault)
        settled = await self._sound(entry)
        self._tried = float("-inf")
        if settled:
            self._looked = entry.id, now
        if thorough:
            self._read = entry.id, now
        return LOOK_S if settled else AGAIN_S

    def _fault(self, entry: Entry, thorough: bool) -> str:
        from gridllm_leaderboard.vault.mending import fault_of

        return fault_of(self._desk.vault, entry.submission.root, thorough=thorough)

    async def _sound(self, entry: Entry) -> bool:
        """Its files are here: whatever was said of them holds no more. False: a round is fought for its title, which
        stays vacant until the verdict: who wins did not meet it, and it may be graded once more (``regrading``).
        """

        def work(batch: Batch) -> tuple[bool, bool]:
            last = crowned_last(batch)
            if last is None or last.id != entry.id:  # a verdict came meanwhile: its champion's files are next
                return False, False
            lost = (batch.value(LOST_KEY) or "").startswith(f"{entry.id} ")
            vacant, round_ = batch.value(VACANT_KEY) == entry.id, batch.open_round()
            contested = vacant and round_ is not None and round_.lock.champion is None
            if lost:
                batch.keep(LOST_KEY, "")
            if vacant and not contested:  # and nobody followed
                batch.keep(VACANT_KEY, "")
            return lost or (vacant and not contested), not contested

        news, settled = await self._desk.books.write(work)
        if news:
            self._desk.tell("found", {"submission": entry.id, "name": entry.submission.name})
            self._desk.reranked()
        return settled

    async def _mend(self, entry: Entry, fault: str) -> None:
        """Raises LeaderboardError: it cannot be mended now."""
        desk, said = self._desk, entry.submission
        try:
            await self._fetch(entry)
            return
        except (ModelError, SwarmError, OSError) as error:
            log.info("The champion's files cannot be fetched: %s", error)
            why = str(error)
        until = await desk.books.write(lambda batch: _vacate(batch, desk, entry.id))
        if until <= desk.now:
            desk.reranked()
            what = "The title is vacant: the next round has no champion"
        else:
            what = f"Rounds wait for it; in {(until - desk.now) / 3600:.1f} hours the title is vacant"
        raise LeaderboardError(
            f"The champion {said.name!r} cannot be graded: {fault}, and nobody hands it out ({why.rstrip('.')}). Put "
            "its files back with gridllm leaderboard restore FILE --weights, or run gridllm seed --model "
            f"{shlex.quote(said.name)} --path FOLDER where they are. {what}."
        )

    async def _fetch(self, entry: Entry) -> None:
        """Raises ModelError, SwarmError, OSError."""
        from gridllm.models.fetching import obtain_weights
        from gridllm_leaderboard.vault.mending import renew, salvage

        vault, root = self._desk.vault, ModelRoot(entry.submission.root)
        manifest = await self._manifest(root)
        cache = await asyncio.to_thread(salvage, vault, root, manifest)
        name = entry.submission.name
        await obtain_weights(self._swarm, root, manifest, cache, lambda: self._sources(root), name=name)
        if not await asyncio.to_thread(renew, vault, root, manifest, cache):
            raise ModelError("what was fetched is not whole; it is fetched again")

    async def _manifest(self, root: ModelRoot) -> Manifest:
        """From the vault, else from who has the model, else from the grid's keepers. Raises ModelError, SwarmError."""
        from gridllm.admission.cards import find_keepers
        from gridllm.charter.fetch import ask_for_manifest
        from gridllm.ids import PeerId
        from gridllm.models.manifest import verify_manifest
        from gridllm_leaderboard.vault.mending import known_manifest

        manifest = await asyncio.to_thread(known_manifest, self._desk.vault, root)
        if manifest is not None:
            return manifest
        keepers = await find_keepers(self._swarm, self._desk.signed)
        peers = {**await self._sources(root), **{PeerId(card.peer): tuple(card.addresses) for card in keepers}}
        raw = await ask_for_manifest(self._swarm, peers, root)
        if raw is None:
            raise ModelError("nobody sends its manifest")
        return await asyncio.to_thread(verify_manifest, raw, root)

    async def _sources(self, root: ModelRoot) -> Addresses:
        """Nodes and seeds, admitted or not: what they send is checked. Raises SwarmError."""
        from gridllm.swarm.directory import Directory
        from gridllm.swarm.helpers import Helpers

        grid = self._desk.signed.grid
        nodes = await Directory(self._swarm, grid).nodes(root)
        found = {one.peer: tuple(one.addresses) for one in nodes}
        return {**found, **await Helpers(self._swarm, grid).seeds(root)}


def crowned_last(view: View) -> Entry | None:
    """The champion, or who was it last where the title is vacant; None: there was none, or it was taken down since."""
    reigns = view.reigns()
    entry = view.entry(reigns[-1].submission) if reigns else None
    return None if entry is None or entry.state == "withdrawn" else entry


def lost_champion(view: View) -> Lost | None:
    """The reigning champion, if its files are looked for: no round is locked meanwhile."""
    id_, _, since = (view.value(LOST_KEY) or "").partition(" ")
    return Lost(id_, int(since)) if id_ and id_ == view.champion() else None


def _lost(batch: Batch, id_: str, now: int) -> bool:
    """Remember since when it is lost: a start anew does not begin the time anew. False: another one reigns by now."""
    last = crowned_last(batch)
    if last is None or last.id != id_:
        return False
    if not (batch.value(LOST_KEY) or "").startswith(f"{id_} "):
        batch.keep(LOST_KEY, f"{id_} {now}")
    return True


def _vacate(batch: Batch, desk: Desk, id_: str) -> int:
    """Let the title be vacant, once the patience is over; when that is, Unix time."""
    lost = lost_champion(batch)
    if lost is None:
        return desk.now  # it is
    if desk.now >= lost.since + PATIENCE_S:
        batch.keep(VACANT_KEY, id_)
        _annul_open(batch, desk, id_)
    return lost.since + PATIENCE_S


def _annul_open(batch: Batch, desk: Desk, id_: str) -> None:
    """A round that the champion is missing in comes to no verdict, unless graders had its files before."""
    round_ = batch.open_round()
    if round_ is None or round_.lock.champion != id_:
        return
    if judged_counts(batch, round_.number)[id_] < desk.rules_of(batch, round_.lock.rules).quorum:
        annul(batch, round_.number, "the champion's files were lost, and nobody had them", desk.identity, desk.now)
