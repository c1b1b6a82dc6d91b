"""The way to the keepers of the grid's books: found by their cards, called, and left alone while they are silent."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from gridllm.admission.cards import AuthorityCard, find_keepers
from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import home_of
from gridllm.errors import (
    KeeperSilent,
    LedgerError,
    NodeFault,
    PeerLost,
    Refusal,
    SwarmError,
    Unreachable,
    WireError,
)
from gridllm.ids import PeerId
from gridllm.ledger import messages
from gridllm.ledger.messages import Heads, pack, unpack
from gridllm.swarm.interface import Swarm

ASK_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5  # for which a keeper that did not answer is left alone; doubles with each time
LONGEST_PAUSE_S: Final = 30.0
FRESH_S: Final = 3.0  # a keeper that answered so recently answers now

M = TypeVar("M", bound=messages.Message)
Find = Callable[[Swarm, SignedCharter], Awaitable[list[AuthorityCard]]]


@dataclass(slots=True)
class _Line:
    """What is known of one keeper."""

    keeper: str
    card: AuthorityCard | None = None
    connected: bool = False  # as far as is known
    heard_at: float = float("-inf")  # on the clock of ``Keepers``
    silent_until: float = float("-inf")
    pause_s: float = 0.0
    why: str = ""  # it is left alone until then


class KeeperLines:
    """One peer's way to all keepers."""

    def __init__(
        self,
        swarm: Swarm,
        signed: SignedCharter,
        *,
        find: Find = find_keepers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.signed = signed
        self.swarm = swarm
        self._find = find
        self._clock = clock
        self._lines = {keeper: _Line(keeper) for keeper in signed.charter.keepers}
        self._read_at = float("-inf")  # when the cards were last read
        self._reading = asyncio.Lock()

    @property
    def all(self) -> list[str]:
        """Every keeper's key in hex, as the charter lists them."""
        return list(self._lines)

    def home(self, account: str) -> str:
        """The keeper that alone lets ``account`` spend; both are keys in hex."""
        return home_of(account, self.signed.charter.keepers)

    def left_alone_s(self, keeper: str) -> float:
        """For how many seconds a silent keeper is not asked again; 0: it may be asked."""
        return max(0.0, self._line(keeper).silent_until - self._clock())

    async def ask(
        self, keeper: str, call: str, message: messages.Message | None, kind: type[M], *, timeout_s: float = ASK_S
    ) -> M:
        """One call to a keeper, with all that leads to it, within ``timeout_s``.

        Raises:
            KeeperSilent: it does not answer, or not in the ledger's words.
            Refusal: what it says.
            LedgerError: the charter lists no such keeper.
        """
        line = self._line(keeper)
        if (left_s := self.left_alone_s(keeper)) > 0:
            raise KeeperSilent(keeper, line.why, left_s)
        payload = b"" if message is None else pack(message)
        try:
            async with asyncio.timeout(timeout_s):
                answer = unpack(await self._reach(line, call, payload, timeout_s), kind)
        except TimeoutError as error:
            raise self._fell_silent(line, f"nothing came within {timeout_s:g} s") from error
        except (SwarmError, WireError, NodeFault) as error:
            raise self._fell_silent(line, str(error).removesuffix(".")) from error
        except Refusal:
            self._heard(line)
            raise
        self._heard(line)
        return answer

    async def answers(self, keeper: str, within_s: float = 2.0) -> bool:
        """Whether the keeper answers this peer now. One that was silent a moment ago is not asked again."""
        if self._clock() - self._line(keeper).heard_at < FRESH_S:
            return True
        try:
            await self.ask(keeper, messages.HEADS_CALL, None, Heads, timeout_s=within_s)
        except Refusal:
            return True
        except SwarmError:
            return False
        return True

    def useless(self, keeper: str, why: str) -> KeeperSilent:
        """To be raised where a keeper's answer parses, but cannot be used: it counts as silence."""
        return self._fell_silent(self._line(keeper), why)

    def _line(self, keeper: str) -> _Line:
        line = self._lines.get(keeper)
        if line is None:
            known = ", ".join(f"{key[:16]}…" for key in self._lines)
            raise LedgerError(f"The grid has no ledger keeper {keeper[:64]!r}; its charter lists: {known}.")
        return line

    async def _reach(self, line: _Line, call: str, payload: bytes, timeout_s: float) -> bytes:
        """The raw answer; where the keeper is not where it was, its card is read again."""
        known, now = line.card, self._clock()
        if known is None:
            await self._read_cards(now)
        try:
            return await self._call(line, call, payload, timeout_s)
        except (Unreachable, PeerLost):
            line.connected = False
            if known is None:
                raise  # its card was read just now
        await self._read_cards(now)
        return await self._call(line, call, payload, timeout_s)

    async def _call(self, line: _Line, call: str, payload: bytes, timeout_s: float) -> bytes:
        if line.card is None:
            raise SwarmError("no peer of the grid announces it")
        peer = PeerId(line.card.peer)
        if not line.connected:
            await self.swarm.connect(peer, tuple(line.card.addresses), timeout_s=timeout_s / 2)
            line.connected = True
        return await self.swarm.call(peer, call, payload, timeout_s=timeout_s)

    async def _read_cards(self, asked_at: float) -> None:
        async with self._reading:
            if self._read_at > asked_at:
                return  # while this one waited for its turn
            for card in await self._find(self.swarm, self.signed):
                line = self._line(card.maintainer)
                if line.card is None or (line.card.peer, line.card.addresses) != (card.peer, card.addresses):
                    line.connected = False
                line.card = card
            self._read_at = self._clock()

    def _heard(self, line: _Line) -> None:
        line.heard_at, line.pause_s, line.silent_until = self._clock(), 0.0, float("-inf")

    def _fell_silent(self, line: _Line, why: str) -> KeeperSilent:
        """Note it; the pause is spread so that those who waited do not all come back at once."""
        line.heard_at, line.connected, line.why = float("-inf"), False, why
        if line.silent_until <= self._clock():  # else it is another call's failure of the same silence
            line.pause_s = min(LONGEST_PAUSE_S, 2 * line.pause_s or FIRST_PAUSE_S)
            line.silent_until = self._clock() + line.pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
        return KeeperSilent(line.keeper, why, self.left_alone_s(line.keeper))
