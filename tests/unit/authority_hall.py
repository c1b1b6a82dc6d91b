"""Admission authorities in an in-memory network, with an examination that says what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from gridllm.admission.examination.candidacy import Candidacy
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.prover import hello_of
from gridllm.admission.examination.stages import Examination, Examined
from gridllm.admission.figures import Figures
from gridllm.admission.messages import ADMISSION_STREAM, AnyMessage, Hello
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter, sign_charter
from gridllm.charter.fetch import serve_charter
from gridllm.charter.minimums import Admission, Minimums
from gridllm.charter.notices import REVOCATION_TYPE, Revocation
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm_bootstrap.limits import Limits
from gridllm_bootstrap.measuring.authority import Authority, Event
from gridllm_bootstrap.measuring.dialback import DialBack
from tests.charters import ENTRY, MAINTAINERS, charter

ADMISSION = Admission(
    required=True,
    certificate_s=3600,
    serve=Minimums(decode_blocks_per_s=10.0, memory_bytes=1000, version="0.0.1"),
    relay=Minimums(upload_mbit_s=50.0),
    seed=Minimums(upload_mbit_s=50.0),
)
GOOD = Figures(
    decode_blocks_per_s=100.0,
    batch_blocks_per_s=300.0,
    prefill_blocks_per_s=500.0,
    memory_bytes=2000,
    upload_mbit_s=10.0,
    download_mbit_s=10.0,
    version="0.1",
)
CANDIDACY = Candidacy(
    entry=ENTRY,
    manifest=cast(Any, None),  # nothing is computed here
    dtype="float32",
    roles=("serve",),
    device="cpu",
    threads=1,
    memory_bytes=2000,
    disk_bytes=0,
)


def signed_charter(threshold: int = 2, **changes: object) -> SignedCharter:
    return sign_charter(charter(threshold=threshold, admission=ADMISSION, **changes), MAINTAINERS)


@dataclass
class Watching:
    """A Watcher that remembers."""

    notes: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)

    def stage(self, name: str, done: float) -> None:
        pass

    def queued(self, place: int, waiting: int) -> None:
        self.places.append((place, waiting))

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    async def until(self, text: str) -> str:
        while True:
            for sentence in self.notes:
                if text in sentence:
                    return sentence
            await asyncio.sleep(0.01)


@dataclass
class Office:
    """One authority and what it saw. ``examine`` may be replaced, ``gate`` closed to hold examinations up."""

    swarm: MemorySwarm
    board: NoticeBoard
    figures: Figures = GOOD
    reason: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[Event] = field(default_factory=list)
    examined: list[Examination] = field(default_factory=list)
    dialled: list[bool] = field(default_factory=list)
    authority: Authority = field(init=False)
    stop: Callable[[], Any] = field(init=False)

    async def examine(self, _stream: Stream, examination: Examination) -> Examined:
        self.examined.append(examination)
        assert examination.dial_back is not None
        self.dialled.append(await examination.dial_back())
        await self.gate.wait()
        return Examined(self.figures, self.reason, "Because." if self.reason else "")

    @property
    def peer(self) -> PeerId:
        return self.swarm.peer

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    async def until(self, kind: str, count: int = 1) -> None:
        while self.kinds().count(kind) < count:  # noqa: ASYNC110 - events are plain data
            await asyncio.sleep(0.005)


class Hall:
    """A network with authorities of the maintainers given by number."""

    def __init__(self, signed: SignedCharter) -> None:
        self.network = MemoryNetwork()
        self.signed = signed
        self.offices: dict[int, Office] = {}
        self._stack = AsyncExitStack()

    async def open(self, number: int, *, at_once: int = 2, limits: Limits | None = None, **options: Any) -> Office:
        office = Office(self.network.join(Identity.ephemeral()), NoticeBoard(self.signed))
        office.gate.set()
        await serve_charter(office.swarm, self.signed.raw, {})

        async def second() -> MemorySwarm:
            return self.network.join(Identity.ephemeral())

        office.authority = Authority(
            office.swarm,
            self.signed,
            MAINTAINERS[number],
            office.board,
            {ENTRY.model_root: cast(Any, None)},
            at_once=at_once,
            limits=limits or Limits(tries=100),
            dial_back=DialBack(second),
            examine=lambda stream, examination: office.examine(stream, examination),
            tell=office.events.append,
            **options,
        )
        await self._stack.enter_async_context(office.authority)
        self.offices[number] = office
        return office

    def candidate(self) -> MemorySwarm:
        return self.network.join(Identity.ephemeral())

    def kill(self, number: int) -> None:
        self.network.kill(self.offices[number].peer)

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def hall(signed: SignedCharter, *numbers: int, **options: Any) -> AsyncIterator[Hall]:
    made = Hall(signed)
    try:
        for number in numbers:
            await made.open(number, **options)
        async with asyncio.timeout(60):
            yield made
    finally:
        await made.close()


def hello(signed: SignedCharter, swarm: MemorySwarm, **changes: object) -> Hello:
    import msgspec

    return msgspec.structs.replace(hello_of(CANDIDACY, signed.grid, swarm.addresses), **changes)


async def say(swarm: MemorySwarm, office: Office, *headers: bytes, body: bytes = b"") -> Conversation:
    """A stream to the authority on which ``headers`` were sent."""
    conversation = Conversation(await swarm.open_stream(office.peer, ADMISSION_STREAM))
    for header in headers:
        await conversation.stream.write(header, body)
    return conversation


async def heard(conversation: Conversation) -> AnyMessage:
    try:
        message, _ = await conversation.read(timeout_s=60.0)
    except GridError:
        await conversation.stream.close()  # as candidates do
        raise
    return message


def revoke(
    signed: SignedCharter, peer: PeerId, *, ago_s: float = 0.0, for_s: float = 3600.0, now_s: float | None = None
) -> bytes:
    issued = int((time.time() if now_s is None else now_s) - ago_s)
    statement = Revocation(grid=signed.grid, peer=peer, why="a test", issued=issued, until=int(issued + for_s))
    return sign_statement(statement, REVOCATION_TYPE, MAINTAINERS)
