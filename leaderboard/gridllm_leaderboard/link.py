"""The way to a grid's leaderboard: found by its card, called, its lists fetched and checked.

::

    async with asking_leaderboard(signed, pins) as link:
        page = await link.ask(RANK_CALL, AskRank(), Rank)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from gridllm.charter.board import NoticeBoard
from gridllm.charter.contest import Rules
from gridllm.charter.document import SignedCharter
from gridllm.charter.entering import visiting
from gridllm.charter.news import hear_news
from gridllm.charter.pin import Pins
from gridllm.errors import CallTimeout, LeaderboardError, SwarmError, Unreachable, WireError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.paper import sign as sign_paper
from gridllm.ledger.statements import Delegation
from gridllm.swarm.interface import Swarm
from gridllm_leaderboard.messages import FILE_CALL, LINES_CALL, AskFile, AskLines, Message, Piece, pack, unpack
from gridllm_leaderboard.results import MAX_LINES_BYTES, lines_root

log = logging.getLogger(__name__)

DELEGATION_S: Final = 3600
ASK_S: Final = 15.0  # for one call
CONNECT_S: Final = 5.0
FIND_S: Final = 20.0  # a leaderboard that was started a moment ago has to spread its card

M = TypeVar("M", bound=Message)
_Question = Callable[[int], Message]  # offset → what to ask


@dataclass(frozen=True, slots=True)
class LeaderboardLink:
    """A line to the leaderboard, for as long as ``asking_leaderboard`` lasts."""

    swarm: Swarm
    signed: SignedCharter
    board: NoticeBoard
    rules: Rules
    peer: PeerId  # the leaderboard's
    addresses: tuple[str, ...]

    async def ask(self, call: str, message: Message, kind: type[M], timeout_s: float = ASK_S) -> M:
        """One call.

        Raises:
            SwarmError: no answer within ``timeout_s``; the connection is made anew once.
            Refusal: what the leaderboard says.
            WireError: an answer that does not parse.
        """
        payload = pack(message)
        try:
            answer = await self.swarm.call(self.peer, call, payload, timeout_s=timeout_s)
        except Unreachable:
            await self.swarm.connect(self.peer, self.addresses, timeout_s=CONNECT_S)
            answer = await self.swarm.call(self.peer, call, payload, timeout_s=timeout_s)
        return unpack(answer, kind)

    def delegation(self, identity: Identity, now_s: float) -> bytes:
        """An account's word that this connection acts for it, for an hour from ``now_s`` (Unix time)."""
        account, now = identity.public_key.hex(), int(now_s)
        grid, peer = self.signed.grid, self.swarm.peer
        said = Delegation(grid=grid, account=account, client=peer, issued=now, expires=now + DELEGATION_S)
        return sign_paper(said, identity)

    async def lines(self, root: str) -> bytes:
        """A list of items or results, whole and checked against its Merkle root.

        Raises:
            LeaderboardError: what came is another list.
            NotHeld: the leaderboard has none of that root.
            SwarmError, WireError: see ``ask``.
        """
        raw = await self._pieces(LINES_CALL, lambda offset: AskLines(root, offset), f"the list {root[:16]}…")
        if await asyncio.to_thread(lines_root, raw) != root:
            raise LeaderboardError(f"The leaderboard sent another list than the one asked for ({root[:16]}…).")
        return raw

    async def file(self, task: str, name: str) -> bytes:
        """A public file of a task, whole; the caller checks it against the task's commitment. Raises as ``lines``."""
        if name not in ("task.yaml", "practice.jsonl"):
            raise LeaderboardError(f"Of a task task.yaml and practice.jsonl are public, not {name!r}.")
        where = f"{name} of the task {task!r}"
        return await self._pieces(FILE_CALL, lambda offset: AskFile(task, name, offset), where)  # type: ignore[arg-type]

    async def _pieces(self, call: str, question: _Question, what: str) -> bytes:
        held = bytearray()
        while True:
            piece = await self.ask(call, question(len(held)), Piece)
            held += piece.data
            lacking = piece.total - len(held)
            if piece.total > MAX_LINES_BYTES or lacking < 0 or (lacking and not piece.data):
                raise WireError(f"The leaderboard sent a malformed piece of {what} ({len(held)} of {piece.total}).")
            if not lacking:
                return bytes(held)


@asynccontextmanager
async def asking_leaderboard(
    signed: SignedCharter, pins: Pins, *, identity: Identity | None = None
) -> AsyncIterator[LeaderboardLink]:
    """Join the grid as somebody who asks, and find its leaderboard, for as long as the block lasts.

    Args:
        identity: whose peer this is; None: a fresh one, which is right unless the leaderboard should know it.

    Raises:
        LeaderboardError: the grid has no leaderboard.
        SwarmError: the grid or its leaderboard cannot be reached.
    """
    async with visiting(signed, pins, identity) as swarm:
        board = NoticeBoard(signed, pins.notices_path(signed))
        yield await linked(swarm, signed, board, pins)


async def linked(swarm: Swarm, signed: SignedCharter, board: NoticeBoard, pins: Pins) -> LeaderboardLink:
    """A line through a swarm that is open already; learns first which rules hold. Raises as ``asking_leaderboard``."""
    await hear_news(swarm, board, pins.peers(signed))
    rules = board.rules
    if rules is None:
        raise LeaderboardError(
            f"The grid {signed.charter.name!r} has no leaderboard; its maintainers open one with: "
            "gridllm leaderboard init"
        )
    peer, addresses = await _reached(swarm, signed, rules)
    return LeaderboardLink(swarm, signed, board, rules, peer, addresses)


async def _reached(swarm: Swarm, signed: SignedCharter, rules: Rules) -> tuple[PeerId, tuple[str, ...]]:
    """Where the leaderboard is, once there is a connection: one that is just being started again is waited for."""
    from gridllm.admission.cards import find_leaderboard

    deadline = asyncio.get_running_loop().time() + FIND_S
    error = SwarmError(
        f"The leaderboard of {signed.charter.name!r} is offline; try again when its maintainer runs: "
        "gridllm leaderboard run"
    )
    while True:
        card = await find_leaderboard(swarm, signed, rules)
        if card is not None:
            peer, addresses = PeerId(card.peer), tuple(card.addresses)
            try:
                await swarm.connect(peer, addresses, timeout_s=CONNECT_S)
                return peer, addresses
            except (Unreachable, CallTimeout) as unreached:
                log.info("The leaderboard is out of reach: %s", unreached)
                error = Unreachable(
                    f"The leaderboard of {signed.charter.name!r} does not answer at {' or '.join(addresses)}; try "
                    "again when its maintainer runs: gridllm leaderboard run"
                )
        if asyncio.get_running_loop().time() >= deadline:
            raise error
        await asyncio.sleep(1.0)
