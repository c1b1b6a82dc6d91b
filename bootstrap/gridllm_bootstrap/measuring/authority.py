"""The admission authority: a maintainer's key on line, which measures candidates and signs what it saw.

One stream for each candidate: Hello, a place in the queue, the examination (``admission/examination/verifier.py`` leads
it), the verdict. It shares its process with the first peer, so nothing here may hold up the event loop, and whatever
strangers send or keep waiting is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from gridllm.admission.cards import keep_card
from gridllm.admission.examination.background import in_background, warm_up
from gridllm.admission.examination.conversation import MAX_ANSWER_BYTES, Conversation
from gridllm.admission.examination.judge import SeenRoots
from gridllm.admission.figures import Figures
from gridllm.admission.messages import ADMISSION_STREAM, Hello, Queued, Verdict
from gridllm.errors import CallTimeout, Full, GridError, NodeFault, OutOfTurn, PeerLost, Refusal, SwarmError, TooSoon
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.giving_way import Terms
from gridllm.swarm.places import places_of
from gridllm.swarm.seats import Seats
from gridllm.tasks import end
from gridllm_bootstrap.limits import Limits, OpenStreams
from gridllm_bootstrap.measuring.certifying import Certifier
from gridllm_bootstrap.measuring.dialback import DialBack
from gridllm_bootstrap.measuring.entrance import certificate_to_renew, check_hello, check_not_revoked
from gridllm_bootstrap.measuring.events import Event
from gridllm_bootstrap.measuring.verdicts import verdict_on
from gridllm_bootstrap.measuring.waiting import AT_ONCE, Ticket, WaitingRoom

if TYPE_CHECKING:
    from gridllm.admission.certificate import Certificate
    from gridllm.admission.examination.stages import Pace
    from gridllm.admission.examination.verifier import Examination, Examined
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.identity.keys import Identity
    from gridllm.models.manifest import Manifest
    from gridllm.swarm.interface import Stream, Swarm

log = logging.getLogger(__name__)

HELLO_S: Final = 5.0  # from opening the stream
EXAMINATION_S: Final = 300.0  # an honest machine takes 10 to 40 s
FAREWELL_S: Final = 5.0  # the candidate closes; if we did, about one verdict in 2000 would be lost
MAX_STREAMS_OF_ONE: Final = 2  # a second one while the first is noticed to be dead
GREETING: Final = 256  # streams that have not said Hello
GREETED: Final = Terms(first_s=2.0, bytes_per_s=1.0, least_s=0.0, most_s=2.0, turn_s=0.0)  # while others come
FULL: Final = "This authority talks to too many machines at present; try again in some minutes."

__all__ = ["Authority", "Event", "Examine"]

Examine = Callable[["Stream", "Examination"], Awaitable["Examined"]]


class Authority:
    """``async with Authority(…)``: takes candidates in until the block is left."""

    def __init__(
        self,
        swarm: Swarm,
        signed: SignedCharter,
        maintainer: Identity,
        board: NoticeBoard,
        manifests: Mapping[ModelRoot, Manifest],
        *,
        at_once: int = AT_ONCE,
        limits: Limits | None = None,
        dial_back: DialBack | None = None,
        examine: Examine | None = None,
        pace: Pace | None = None,
        tell: Callable[[Event], None] = lambda _: None,
        strict: Callable[[PeerId], bool] = lambda _: False,
        on_certified: Callable[[Certificate], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            manifests: of all models that the grid serves; may grow.
            strict: whether a renewal carries nothing over from the old certificate, by peer.
            on_certified: called with each certificate that is signed here.
            examine: ``verifier.examine``; tests have their own.
            pace: of examinations; None: the full one.
        """
        self._swarm = swarm
        self._signed = signed
        self._maintainer = maintainer
        self._board = board
        self._manifests = manifests
        self._room = WaitingRoom(at_once)
        self._limits = limits or Limits()
        self._dial_back = dial_back or DialBack()
        self._examine = examine
        self._pace = pace
        self._tell = tell
        self._strict = strict
        self._on_certified = on_certified
        self._clock = clock
        self._seen = SeenRoots()
        self._streams: Counter[PeerId] = Counter()
        self._greeting = Seats(GREETING, MAX_STREAMS_OF_ONE, GREETED, FULL)  # they have not said Hello
        self._open_streams = OpenStreams()
        self._ready = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._certifier = Certifier(signed, maintainer, board, clock=clock, on_certified=self._certified)

    async def __aenter__(self) -> Self:
        await self._swarm.serve_streams(ADMISSION_STREAM, self._receive, max_body_bytes=MAX_ANSWER_BYTES)
        await self._certifier.serve(self._swarm)
        self._opening = asyncio.create_task(self._open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opening is not None:
            await end(self._opening)
        await self._dial_back.close()

    @property
    def crowd(self) -> tuple[int, int]:
        """How many are examined now, and how many wait."""
        return self._room.examined, self._room.waiting

    def present(self, peer: PeerId) -> bool:
        """Whether ``peer`` is examined now, or waits for it."""
        return peer in self._streams

    async def _open(self) -> None:
        """Load what examinations need, then tell the grid of this authority, again and again."""
        if self._examine is None:
            try:
                await in_background(warm_up)
            except Exception:
                log.exception("This authority cannot load what it measures with")
                return
            finally:
                self._ready.set()  # those who wait are told of the fault
        self._ready.set()
        await keep_card(self._swarm, self._signed.grid, self._maintainer)

    async def _receive(self, stream: Stream) -> None:
        """One candidate's stream, from its Hello to its end."""
        conversation, peer = Conversation(stream), stream.peer
        self._streams[peer] += 1
        try:
            await self._conduct(conversation)
        except Refusal as refusal:
            await self._turn_away(conversation, refusal)
        except GridError as error:
            self._tell(Event("left", peer, str(error)))
        except Exception:
            log.exception("The examination of %s failed", peer)
            fault = NodeFault("This authority failed to measure the machine; the fault is its own. Try another.")
            await self._turn_away(conversation, fault)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    async def _turn_away(self, conversation: Conversation, refusal: Refusal) -> None:
        self._tell(Event("refused", PeerId(conversation.peer), str(refusal), refusal.code))
        with suppress(GridError):
            await conversation.end(refusal)
        await _await_end(conversation.stream)

    async def _conduct(self, conversation: Conversation) -> None:
        peer = PeerId(conversation.peer)
        if self._streams[peer] > MAX_STREAMS_OF_ONE:
            raise Full("There are too many conversations with this machine already; try again in some minutes.")
        async with self._greeting.one(peer, self._swarm.seen_at) as seat, seat.waiting(2 * HELLO_S):
            hello, _ = await conversation.read(timeout_s=HELLO_S)
        if not isinstance(hello, Hello):
            raise OutOfTurn("A conversation with an authority begins with Hello.")
        places = await self._places_of(peer)
        with self._open_streams.one(places):
            await self._hear(conversation, hello, peer, places)

    async def _hear(self, conversation: Conversation, hello: Hello, peer: PeerId, places: tuple[str, ...]) -> None:
        too_soon: TooSoon | None = None
        try:
            self._limits.count(peer, places, self._board.admission.certificate_s)
        except TooSoon as refusal:
            too_soon = refusal  # said below: what is wrong for good is worth more to people
        entry = check_hello(hello, peer, self._signed, self._board, self._clock())
        if too_soon is not None:
            raise too_soon
        if entry.model_root not in self._manifests:
            self._limits.give_back(peer, places)
            raise NodeFault(
                f"This authority has no manifest of {entry.name} yet, which was listed a moment ago; try again in a "
                "minute, or another authority."
            )
        async with AsyncExitStack() as stack:
            try:
                ticket = await stack.enter_async_context(self._room.visit(places_of(places)))
            except Full:  # of ours: one that a candidate sends later on undoes nothing
                self._limits.give_back(peer, places)
                raise
            verdict = await self._in_turn(ticket, conversation, hello, entry)
        await conversation.tell(verdict)
        await _await_end(conversation.stream)

    async def _in_turn(self, ticket: Ticket, conversation: Conversation, hello: Hello, entry: ModelEntry) -> Verdict:
        """The verdict, once those before this one were examined."""

        async def tell(place: int, waiting: int) -> None:
            await conversation.tell(Queued(place=place, waiting=waiting))

        if await self._room.turn(ticket, tell, conversation.stream.read) is not None:
            raise OutOfTurn("A candidate that waits says nothing until its examination begins.")
        return await self._judged(conversation, hello, entry)

    async def _judged(self, conversation: Conversation, hello: Hello, entry: ModelEntry) -> Verdict:
        from gridllm.admission.examination.verifier import Examination, Examined, examine

        await self._ready.wait()
        peer, admission = PeerId(conversation.peer), self._board.admission
        old = certificate_to_renew(hello, peer, self._signed, self._board, self._clock())
        self._tell(Event("examining", peer, "renewal" if old else ""))
        examination = Examination(
            grid=self._signed.grid,
            authority_hex=self._maintainer.public_key.hex(),
            peer=peer,
            entry=entry,
            manifest=self._manifests[entry.model_root],
            admission=admission,
            hello=hello,
            renewal=old is not None,
            held_bytes=0 if old is None else old.figures.memory_bytes,
            seen=self._seen,
            dial_back=lambda: self._reachable(peer, hello),
        )
        try:
            async with asyncio.timeout(EXAMINATION_S):
                leads = self._examine or partial(examine, pace=self._pace)
                examined = await leads(conversation.stream, examination)
        except TimeoutError:
            examined = Examined(
                Figures(), "silent", f"The examination was not over in {EXAMINATION_S:.0f} s, and was ended."
            )
        now_s = self._clock()
        check_not_revoked(peer, self._board, now_s)  # it may have happened meanwhile
        verdict = verdict_on(
            examined,
            hello,
            peer,
            self._board.admission,
            self._maintainer,
            self._signed.grid,
            now_s=now_s,
            old=old,
            strict=self._strict(peer),
        )
        self._tell(Event("admitted" if verdict.admitted else "failed", peer, verdict.text, verdict.reason))
        return verdict

    async def _reachable(self, peer: PeerId, hello: Hello) -> bool:
        return await self._dial_back.reachable(peer, hello.addresses, await self._places_of(peer))

    async def _places_of(self, peer: PeerId) -> tuple[str, ...]:
        with suppress(SwarmError):
            return await self._swarm.seen_at(peer)
        return ()

    def _certified(self, certificate: Certificate) -> None:
        self._on_certified(certificate)
        self._tell(Event("certified", PeerId(certificate.peer), ", ".join(certificate.roles)))


async def _await_end(stream: Stream) -> None:
    """Give the other side time to read what was said last and to close."""
    with suppress(PeerLost, TimeoutError, CallTimeout, GridError):
        async with asyncio.timeout(FAREWELL_S):
            while True:
                await stream.read()
