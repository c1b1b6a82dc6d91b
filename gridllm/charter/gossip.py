"""How notices travel: every member hands out what its board holds, asks others in turn, and passes on what is new.

A notice proves itself, so it does not matter whom it comes from. Asking heals what passing on missed.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gridllm.charter.board import NoticeBoard
from gridllm.charter.notices import MAX_NOTICE_BYTES
from gridllm.errors import GridError, Malformed, WireError
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm.wire.strict import UNPARSABLE

log = logging.getLogger(__name__)

NOTICES_CALL: Final = "gridllm.notices"  # request: my board's digest, offset; answer: a Page, or nothing when equal
NOTICE_CALL: Final = "gridllm.notice"  # request: one envelope, pushed by anyone; answer: 1 when it was news, else 0

PAGE_BYTES: Final = 512 * 1024  # calls must stay under 1 MB
MAX_PAGES: Final = 64  # more than the 10 000 notices a board holds
ASKED_AT_ONCE: Final = 3
TOLD_AT_ONCE: Final = 8
MAX_WASTED: Final = 256  # envelopes of one peer that were verified for nothing, about half a second's work
MAX_TOLD: Final = 32  # notices passed on to one peer at a change
EVERY_S: Final = (8.0, 12.0)  # drawn anew each time, so that members do not ask at the same moment
FIRST_S: Final = 1.0  # a member that has just entered asks soon
FAULT_PAUSE_S: Final = 5.0  # after a fault of ours
LOOK_AT_FILE_S: Final = 2.0  # for what another process of this machine was told
TIMEOUT_S: Final = 4.0  # for one call, and for connecting

_request = struct.Struct("!32sI")  # digest, position in the answering board's order

Peers = Callable[[], Sequence[tuple[PeerId, tuple[str, ...]]]]
"""Whom to talk to at present: peer and multiaddrs."""

Envelope = Annotated[bytes, Meta(max_length=MAX_NOTICE_BYTES)]


class Page(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A part of a board."""

    total: Annotated[int, Meta(ge=0, le=1_000_000)]  # notices on it
    notices: Annotated[list[Envelope], Meta(max_length=20_000)]  # from the position asked for


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Page)


async def serve_notices(swarm: Swarm, board: NoticeBoard) -> None:
    """Answer both calls from now on."""

    async def answer_notices(_peer: PeerId, payload: bytes) -> bytes:
        try:
            digest, offset = _request.unpack(payload)
        except struct.error as error:
            raise Malformed(f"A request for notices has {_request.size} bytes, not {len(payload)}.") from error
        return b"" if digest == board.digest else _encoder.encode(page_of(board.raws(), offset))

    async def answer_notice(_peer: PeerId, payload: bytes) -> bytes:
        return b"\1" if await board.take([payload]) else b"\0"

    await swarm.serve_calls(NOTICES_CALL, answer_notices)
    await swarm.serve_calls(NOTICE_CALL, answer_notice)


def page_of(raws: Sequence[bytes], offset: int) -> Page:
    """As many notices from ``offset`` on as fit, at least one if there is one. Pure."""
    chosen: list[bytes] = []
    size = 0
    for raw in raws[offset:]:
        size += len(raw) + 8
        if chosen and size > PAGE_BYTES:
            break
        chosen.append(raw)
    return Page(len(raws), chosen)


async def fetch_notices(swarm: Swarm, peer: PeerId, board: NoticeBoard, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Take over what ``peer``'s board holds beyond ours. True when ours changed.

    Raises:
        SwarmError, Refusal: the peer did not answer (``timeout_s`` counts for each page).
        WireError, NoticeError: its answer does not parse, or holds something that is no notice of this grid.
    """
    before, mine, position, wasted = board.digest, board.digest, 0, 0
    for _ in range(MAX_PAGES):
        answer = await swarm.call(peer, NOTICES_CALL, _request.pack(mine, position), timeout_s=timeout_s)
        if not answer:
            break
        page = _page(peer, answer)
        held = set(board.raws())
        unknown = [raw for raw in page.notices if raw not in held]
        if unknown and not await board.take(unknown):
            wasted += len(
                unknown
            )  # what is held, in other spellings: an honest board has few, a liar as many as it likes
        position += len(page.notices)
        if not page.notices or position >= page.total or wasted > MAX_WASTED:
            break
    return board.digest != before


async def push_notice(swarm: Swarm, peer: PeerId, raw: bytes, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell ``peer`` one notice. True when it was news there.

    Raises:
        SwarmError, Refusal: the peer did not answer, or did not accept it.
    """
    return await swarm.call(peer, NOTICE_CALL, raw, timeout_s=timeout_s) == b"\1"


@asynccontextmanager
async def gossiping(swarm: Swarm, board: NoticeBoard, peers: Peers, *, serve: bool = True) -> AsyncIterator[None]:
    """Exchange notices for as long as the context lasts; with ``serve``, answer others' questions, too."""
    if serve:
        await serve_notices(swarm, board)
    task = asyncio.create_task(Gossip(swarm, board, peers).run())
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Gossip:
    """Keeps a board like those of its peers; see ``gossiping``."""

    def __init__(
        self, swarm: Swarm, board: NoticeBoard, peers: Peers, *, every_s: tuple[float, float] = EVERY_S
    ) -> None:
        self._swarm = swarm
        self._board = board
        self._peers = peers
        self._every_s = every_s
        self._answered: set[PeerId] = set()  # at the last try
        self._told = set(map(_digest, board.raws()))  # what was here before need not be passed on
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Ask and tell until cancelled; what peers do wrong is logged only."""
        stop_listening = self._board.listen(self._changed.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                for deed in (self._ask_in_turn, self._tell_changes, self._look_at_file):
                    tasks.create_task(_go_on(deed))
        finally:
            stop_listening()

    async def _ask_in_turn(self) -> None:
        await asyncio.sleep(min(FIRST_S, *self._every_s))
        while True:
            await self._with_some(ASKED_AT_ONCE, self._ask)
            await asyncio.sleep(random.uniform(*self._every_s))  # noqa: S311 - spreads load

    async def _tell_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            news = [raw for raw in self._board.raws() if _digest(raw) not in self._told]
            self._told = set(map(_digest, self._board.raws()))
            if news:
                await self._with_some(TOLD_AT_ONCE, functools.partial(self._tell, news=news))

    async def _look_at_file(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_FILE_S)
            await self._board.reread()

    async def _with_some(self, most: int, deed: Callable[[PeerId], Awaitable[object]]) -> None:
        """Do it with a few random peers at a time, most of them such as answered before: many may be long gone."""
        others = {peer: addresses for peer, addresses in self._peers() if peer != self._swarm.peer}
        proven = [peer for peer in others if peer in self._answered]
        chosen = random.sample(proven, min(most - 1, len(proven)))
        rest = [peer for peer in others if peer not in chosen]
        chosen += random.sample(rest, min(most - len(chosen), len(rest)))
        await asyncio.gather(*(self._with_one(peer, others[peer], deed) for peer in chosen))

    async def _with_one(
        self, peer: PeerId, addresses: tuple[str, ...], deed: Callable[[PeerId], Awaitable[object]]
    ) -> None:
        self._answered.discard(peer)
        try:
            await self._swarm.connect(peer, addresses, timeout_s=TIMEOUT_S)
            await deed(peer)
        except GridError as error:
            log.debug("No notices exchanged with %s: %s", peer, error)
        except Exception:
            log.exception("The exchange of notices with %s failed", peer)
        else:
            self._answered.add(peer)

    async def _ask(self, peer: PeerId) -> None:
        await fetch_notices(self._swarm, peer, self._board)

    async def _tell(self, peer: PeerId, news: Sequence[bytes]) -> None:
        for raw in news[:MAX_TOLD]:  # with more of them, asking is the better way
            await push_notice(self._swarm, peer, raw)


def _page(peer: PeerId, answer: bytes) -> Page:
    """Raises WireError."""
    try:
        return _decoder.decode(answer)
    except UNPARSABLE as error:
        raise WireError(f"Peer {peer} sent notices that do not parse: {error}.") from error


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


async def _go_on(deed: Callable[[], Awaitable[object]]) -> None:
    """Do it again after whatever ends it: a process that hears no notices would go on trusting who was revoked."""
    while True:
        try:
            await deed()
        except Exception:
            log.exception("The exchange of notices failed; it goes on")
        await asyncio.sleep(FAULT_PAUSE_S)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Gossip of notices ended: %s", error, exc_info=error)
