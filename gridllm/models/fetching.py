"""Fetches weights from seeds: several at once, each tensor checked against the manifest before it counts.

A seed that dies in the midst of a tensor is replaced by another, which goes on where it stopped; one that lies is not
asked again. A line that is too slow for all streams is left to fewer of them. In memory are a few pieces for each seed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from gridllm.errors import (
    Full,
    GaveWay,
    ModelError,
    NoRoomError,
    NotHeld,
    Refusal,
    SwarmError,
    WireError,
    WrongModel,
)
from gridllm.ids import ModelRoot, PeerId
from gridllm.models.borrowed import Borrowing
from gridllm.models.cached import CachedModel, Item, Part
from gridllm.models.line import Line
from gridllm.models.manifest import MAX_SMALL_FILE_BYTES, Manifest
from gridllm.models.parcels import Parcels
from gridllm.models.reading import Reading, TooMany
from gridllm.swarm.interface import Swarm
from gridllm.wire.weights import PIECE_BYTES, WEIGHTS_STREAM, Want

log = logging.getLogger(__name__)

SEEDS_AT_ONCE: Final = 8
STREAMS_PER_SEED: Final = 2  # small tensors are all waiting; two wait at once
WINDOW: Final = 4  # pieces asked for ahead on each stream
CONNECT_S: Final = 5.0
STRIKES: Final = 3  # failures of a seed in a row; then it is left alone until the next look
PAUSE_S: Final = 0.5  # after a failure; doubling, and half more or less, so that those who were sent away come singly
LOOKS: Final = 3  # in the directory, without a byte in between
CROWDED_LOOKS: Final = 40  # as many, while a seed that has others to serve may have time soon: some minutes
LOOK_EVERY_S: Final = 2.0

Addresses = Mapping[PeerId, tuple[str, ...]]
FindSeeds = Callable[[], Awaitable[Addresses]]
"""Looks up who may hold the model now; raises SwarmError."""
Progress = Callable[[int, int], None]
"""Called on the event loop with (bytes done, bytes in all)."""


async def obtain_weights(
    swarm: Swarm,
    root: ModelRoot,
    manifest: Manifest,
    cache_dir: Path,
    find: FindSeeds,
    *,
    name: str,
    blocks: tuple[int, int] | None = None,
    ends: bool | None = None,
    progress: Progress | None = None,
    borrowing: Borrowing | None = None,
) -> Path:
    """A folder with the wanted part of a model: what is not in the cache yet is fetched.

    Args:
        name: of the model, for people.
        blocks, ends: as for ``models.files.find_model``.
        borrowing: what may go where the disk has no room; this model is in use with it.

    Raises:
        ModelError: nobody hands it out, or the disk does not take it.
    """
    cached = CachedModel(cache_dir, root, manifest)
    await asyncio.to_thread(cached.prepare)
    try:
        items = await asyncio.to_thread(cached.lacking, blocks, ends)
    except NoRoomError:
        if borrowing is None or not await borrowing.make_room():
            raise
        items = await asyncio.to_thread(cached.lacking, blocks, ends)
    if items:
        await _Fetch(swarm, root, name, items, find, progress).run()
    return cached.folder


class _Liar(Exception):
    """A seed sent bytes that are not the manifest's."""


class _Fetch:
    """One run over everything that is lacking."""

    def __init__(
        self,
        swarm: Swarm,
        root: ModelRoot,
        name: str,
        items: list[Item],
        find: FindSeeds,
        progress: Progress | None,
    ) -> None:
        self._swarm = swarm
        self._root = root
        self._name = name
        self._find = find
        self._progress = progress
        self._parcels = Parcels([Part(item) for item in items])
        self._total = sum(item.size or 0 for item in items)
        self._done = 0
        self._line = Line(SEEDS_AT_ONCE * STREAMS_PER_SEED)
        self._liars: set[PeerId] = set()
        self._why = ""  # what went wrong last
        self._crowded = False  # a seed has it, and was busy with others when it was asked last

    async def run(self) -> None:
        """Until everything is here. Raises ModelError."""
        idle = 0
        try:
            while self._parcels.left:
                before, self._crowded = self._done, False
                seeds = await self._seeds()
                try:
                    await self._fetch_from_all(seeds)
                except ExceptionGroup as group:
                    raise group.exceptions[0] from group
                idle = 0 if self._done > before else idle + 1
                if self._parcels.left and idle >= (CROWDED_LOOKS if self._crowded else LOOKS):
                    raise ModelError(self._explanation())
                if self._parcels.left:
                    await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await asyncio.to_thread(self._parcels.drop)

    async def _seeds(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        """A few of those that may hold the model, in random order."""
        try:
            found = await self._find()
        except SwarmError as error:
            self._why = str(error)
            return []
        usable = [(peer, at) for peer, at in found.items() if peer not in self._liars and peer != self._swarm.peer]
        return random.sample(usable, min(SEEDS_AT_ONCE, len(usable)))

    async def _fetch_from_all(self, seeds: list[tuple[PeerId, tuple[str, ...]]]) -> None:
        """Side by side, until everything is here or no seed goes on. Raises an ExceptionGroup of ModelErrors."""
        wanted = [seed for _ in range(STREAMS_PER_SEED) for seed in seeds][: self._line.most]
        self._line.recover()
        async with asyncio.TaskGroup() as tasks:
            hands = {tasks.create_task(self._fetch_from(peer, addresses)) for peer, addresses in wanted}
            while hands and self._parcels.left:
                _, hands = await asyncio.wait(hands, return_when=asyncio.FIRST_COMPLETED)
            for hand in hands:  # still dialling a seed that is not needed any more
                hand.cancel()

    async def _fetch_from(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Take what is waiting, one after the other, until nothing is left that this seed holds, or it fails."""
        lacks: set[str] = set()
        strikes = 0
        while strikes < STRIKES and peer not in self._liars:
            before = self._done
            try:
                await self._one_stream(peer, addresses, lacks)
                return
            except (_Liar, TooMany, WrongModel):
                return
            except (SwarmError, WireError, Refusal) as error:
                self._why = f"{peer}: {error}"
                self._crowded = self._crowded or isinstance(error, Full | GaveWay)
                log.info("Weights from %s: %s", peer, error)
            strikes = 1 if self._done > before else strikes + 1
            await asyncio.sleep(PAUSE_S * 2 ** (strikes - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    async def _one_stream(self, peer: PeerId, addresses: tuple[str, ...], lacks: set[str]) -> None:
        """Until nothing is left to ask this seed for. Raises Swarm-, Wire-, ModelError, Refusal, _Liar, TooMany."""
        await self._swarm.connect(peer, addresses, timeout_s=CONNECT_S)
        stream = await self._swarm.open_stream(peer, WEIGHTS_STREAM, timeout_s=CONNECT_S, max_body_bytes=PIECE_BYTES)
        reading = Reading(stream, self._line)
        self._line.join(reading)
        try:
            while peer not in self._liars:
                part = await self._parcels.take(lacks)
                if part is None:
                    return
                try:
                    await self._fetch_part(reading, part)
                    await self._check(part, peer)
                except NotHeld:
                    lacks.add(part.item.name)
                finally:
                    self._done -= await self._parcels.put_back(part)
        finally:
            self._line.leave(reading)
            await stream.close()

    async def _fetch_part(self, reading: Reading, part: Part) -> None:
        """Ask for what it still lacks, a few pieces ahead."""
        item, asked, waiting = part.item, part.offset, 0
        while not part.complete:
            while waiting < WINDOW and (not waiting if part.size is None else asked < part.size):
                await reading.ask(Want(self._root, item.name, asked, item.file))
                asked, waiting = asked + PIECE_BYTES, waiting + 1
            size, body = await reading.answer(waiting)
            waiting -= 1
            if part.size is None and size <= MAX_SMALL_FILE_BYTES:
                part.size = size
            if size != part.size or len(body) != min(PIECE_BYTES, size - part.offset):
                raise WireError(f"Seed {reading.peer} sent {len(body)} bytes of {size} where others were asked for.")
            part.senders.add(reading.peer)
            await asyncio.to_thread(part.add, body)
            self._count(len(body))

    async def _check(self, part: Part, peer: PeerId) -> None:
        """Keep a part that is complete; one that is false is fetched again, and its only sender asked no more."""
        senders, got = set(part.senders), part.offset
        if await asyncio.to_thread(part.finish):
            self._parcels.arrived(part)
            return
        self._done -= got
        part.whole = True
        self._why = f"{peer}: {part.item.name} is not what the manifest names"
        log.warning("Weights from %s: %s is not what the manifest names", ", ".join(senders), part.item.name)
        if senders <= {peer}:
            self._liars.add(peer)
            raise _Liar

    def _count(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))

    def _explanation(self) -> str:
        last = f" (the last that went wrong: {self._why.rstrip('.')})" if self._why else ""
        return (
            f"Nobody hands out {self._parcels.left} parts of {self._name!r} that this machine lacks{last}. Run "
            f"gridllm seed --model {self._name} --path <folder> on a machine that has the files, or give their folder "
            "here with --path."
        )
