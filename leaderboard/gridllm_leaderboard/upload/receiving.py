"""The leaderboard's side of uploads: who may bring what, and how many at once; who is silent or slow gives way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from gridllm.errors import (
    BadPayment,
    Full,
    GridError,
    LedgerError,
    Malformed,
    ModelError,
    NodeFault,
    OutOfTurn,
    PeerLost,
    Refusal,
    TooSoon,
    WireError,
)
from gridllm.ids import PeerId
from gridllm.ledger.paper import verify_delegation
from gridllm.swarm.giving_way import Terms
from gridllm.swarm.interface import Stream, Swarm
from gridllm.swarm.places import SeenAt, nowhere
from gridllm.swarm.seats import Seats
from gridllm_leaderboard.messages import UPLOAD_STREAM
from gridllm_leaderboard.upload.intake import Intake
from gridllm_leaderboard.upload.interface import Uploads
from gridllm_leaderboard.upload.wire import (
    PIECE_BYTES,
    Begin,
    Declined,
    FromLeaderboard,
    Whole,
    encode,
    from_author,
)
from gridllm_leaderboard.vault.vault import Vault

log = logging.getLogger(__name__)

STREAMS: Final = 32  # uploads at once; each holds a few MB
GREETING: Final = 224  # streams beyond these whose peer has not said yet whom it acts for; each holds a frame at most
STREAMS_PER_PEER: Final = 2
UPLOADS_PER_ACCOUNT: Final = 4
FIRST_S: Final = 10.0  # for the first frame
GIVE_WAY_S: Final = 60.0  # for an older stream of the same upload to let go: its disk may be slow
STALLED_S: Final = 20.0  # a peer that takes nothing for so long is left
GREETED: Final = Terms(first_s=2.0, bytes_per_s=1.0, least_s=0.0, most_s=2.0, turn_s=0.0)  # while others come
BROUGHT: Final = Terms(first_s=10.0, bytes_per_s=PIECE_BYTES / 30, least_s=0.2, most_s=30.0, turn_s=300.0)
"""While others wait: a piece in 30 s, as long as ``intake.PIECE_S``; of small tensors, five pieces a second."""
FULL: Final = "The leaderboard is handling as many uploads as it can; try again soon."


@dataclass(eq=False)
class _Hand:
    """The stream that brings an upload."""

    account: str
    stream: Stream
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Receiving:
    """Takes uploads: ``await Receiving(vault, grid, desk).serve(swarm)``."""

    def __init__(
        self,
        vault: Vault,
        grid: str,
        desk: Uploads,
        *,
        clock: Callable[[], float] = time.time,
        streams: int = STREAMS,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._grid = grid
        self._desk = desk
        self._clock = clock
        self._streams = streams
        self._seen_at: SeenAt = nowhere
        self._open: Counter[PeerId] = Counter()
        self._greeting = Seats(GREETING, STREAMS_PER_PEER, GREETED, FULL, clock=ticks)  # streams that have not begun
        self._bringing = Seats(streams, STREAMS_PER_PEER, BROUGHT, FULL, clock=ticks)
        self._hands: dict[str, _Hand] = {}  # by submission

    @property
    def uploads(self) -> int:
        """Those that are brought now."""
        return len(self._hands)

    async def serve(self, swarm: Swarm) -> None:
        """Take uploads from now on, for as long as ``swarm`` lives. Raises SwarmError."""
        self._seen_at = swarm.seen_at
        await swarm.serve_streams(UPLOAD_STREAM, self._on_stream, max_body_bytes=PIECE_BYTES)

    async def _on_stream(self, stream: Stream) -> None:
        peer = stream.peer
        most = self._streams + 2 * GREETING  # with those that gave way, and are told so
        if self._open.total() >= most or self._open[peer] >= STREAMS_PER_PEER:
            await _end(stream, Full(FULL))
            return
        self._open[peer] += 1
        try:
            await self._take(stream)
            await _say(stream, Whole())
        except PeerLost as error:
            log.debug("An upload of %s ended: %s", peer, error)
        except Refusal as refusal:
            await _end(stream, refusal)
        except WireError as error:
            await _end(stream, Malformed(str(error)))
        except TimeoutError:
            await _end(stream, TooSoon("Nothing came for too long; what is here stays, and the upload can be resumed."))
        except (GridError, OSError) as error:
            log.warning("An upload of %s failed: %s", peer, error)
            await _end(stream, NodeFault("The leaderboard failed to take this upload; tell its maintainer."))
        finally:
            self._open[peer] -= 1
            self._open += Counter()  # drops what is at zero
            await stream.close()

    async def _take(self, stream: Stream) -> None:
        begin, account = await self._greet(stream)
        expected = await self._desk.expected(begin.submission, account)
        async with (
            self._turn(begin.submission, account, stream),
            self._bringing.one(stream.peer, self._seen_at) as seat,
        ):
            try:
                await Intake(self._vault, stream, expected, begin, seat).run()
            except ModelError as error:
                await self._desk.refused(begin.submission, str(error))
                raise Malformed(str(error)) from error
            await self._desk.arrived(begin.submission)

    async def _greet(self, stream: Stream) -> tuple[Begin, str]:
        """What a stream brings, and for whom. Raises Full, GaveWay: it said nothing while others came."""
        async with self._greeting.one(stream.peer, self._seen_at) as seat:
            async with seat.waiting(FIRST_S):
                header, body = await stream.read()
            begin = from_author(header)
            if not isinstance(begin, Begin) or body:
                raise OutOfTurn("An upload begins by saying of which submission it is.")
            try:
                return begin, verify_delegation(begin.delegation, self._grid, stream.peer, self._clock()).account
            except LedgerError as error:
                raise BadPayment(str(error)) from error

    @contextlib.asynccontextmanager
    async def _turn(self, submission: str, account: str, stream: Stream) -> AsyncIterator[None]:
        """One stream brings an upload. The newer goes before: the older may be of a process that was killed.

        Raises:
            Full: the account has too many under way, or an older stream does not let go.
        """
        try:
            async with asyncio.timeout(GIVE_WAY_S):
                while (older := self._hands.get(submission)) is not None:
                    await _end(older.stream, OutOfTurn("Another process is uploading the files of this submission."))
                    await older.gone.wait()
        except TimeoutError:
            raise Full("An earlier upload of this submission has not ended yet; try again soon.") from None
        if sum(hand.account == account for hand in self._hands.values()) >= UPLOADS_PER_ACCOUNT:
            raise Full("This account has as many uploads under way as it may; wait until one has ended.")
        hand = self._hands[submission] = _Hand(account, stream)
        try:
            yield
        finally:
            del self._hands[submission]
            hand.gone.set()


async def _say(stream: Stream, message: FromLeaderboard) -> None:
    with contextlib.suppress(GridError, TimeoutError):
        async with asyncio.timeout(STALLED_S):
            await stream.write(encode(message))


async def _end(stream: Stream, refusal: Refusal) -> None:
    await _say(stream, Declined(refusal.code, str(refusal)[:1024]))
    await stream.close()
