"""Asking the keepers of the grid's books: where they are, who is silent, and each question as a method.

::

    keepers = Keepers(swarm, signed)
    view = await keepers.account(account)  # its home keeper's word
    outcomes = await keepers.submit(keepers.home(account), vouchers)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
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
from gridllm.ledger.messages import AccountView, Documents, Heads, HistoryRow, Outcome, Wish, pack, unpack
from gridllm.ledger.paper import verify_pass
from gridllm.ledger.statements import MAX_LEDGER_STATEMENT_BYTES
from gridllm.swarm.interface import MAX_CALL_BYTES, Swarm

ASK_S: Final = 5.0
SUBMIT_S: Final = 15.0  # a full batch waits for those before it, and for the disk
PAGE_S: Final = 15.0  # a MiB, over a slow line
FIRST_PAUSE_S: Final = 0.5  # for which a keeper that did not answer is left alone; doubles with each time
LONGEST_PAUSE_S: Final = 30.0
FRESH_S: Final = 3.0  # a keeper that answered so recently answers now
SPARE_BYTES: Final = 16 * 1024  # of a call, for what is not statements

M = TypeVar("M", bound=messages._Message)
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


class Keepers:
    """One peer's way to all keepers. Every method that asks raises ``KeeperSilent`` where no usable answer comes (at
    once while that keeper is left alone), and the ``Refusal`` that the keeper says.
    """

    def __init__(
        self,
        swarm: Swarm,
        signed: SignedCharter,
        *,
        find: Find = find_keepers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.signed = signed
        self._swarm = swarm
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

    # asking

    async def ask(
        self, keeper: str, call: str, message: messages._Message | None, kind: type[M], *, timeout_s: float = ASK_S
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
            raise self._silent(line, f"nothing came within {timeout_s:g} s") from error
        except (SwarmError, WireError, NodeFault) as error:
            raise self._silent(line, str(error).removesuffix(".")) from error
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

    # spending and earning

    async def submit(self, keeper: str, raws: Sequence[bytes]) -> list[Outcome]:
        """Hand in statements, in as many calls as it takes; what became of each, in their order.

        A call that fails leaves those before it taken; to hand all in again does no harm.

        Raises:
            LedgerError: one is longer than any statement.
        """
        outcomes: list[Outcome] = []
        for piece in pieces(raws):
            said = await self.ask(
                keeper, messages.SUBMIT_CALL, messages.Submit(piece), messages.Outcomes, timeout_s=SUBMIT_S
            )
            if len(said.outcomes) != len(piece):
                why = f"it spoke of {len(said.outcomes)} statements, not {len(piece)}"
                raise self._silent(self._line(keeper), why)
            outcomes += said.outcomes
        return outcomes

    async def escrows(self, account: str, delegation: bytes, wishes: Sequence[Wish]) -> list[bytes]:
        """Escrows of the account's home keeper for all wishes, or none. Raises Insufficient, NotHome, BadPayment."""
        message = messages.AskEscrow(delegation, list(wishes))
        return (await self.ask(self.home(account), messages.ESCROW_CALL, message, Documents)).documents

    async def access_pass(self, account: str, delegation: bytes) -> bytes:
        """A pass of the account's home keeper, its signature checked. Raises NotHome, BadPayment."""
        home = self.home(account)
        said = await self.ask(home, messages.PASS_CALL, messages.AskPass(delegation), Documents)
        try:
            (raw,) = said.documents
            if verify_pass(raw, self.signed).account != account:
                raise LedgerError("the pass is another account's")
        except (ValueError, LedgerError) as error:
            raise self._silent(self._line(home), f"its pass cannot be used: {error}") from error
        return raw

    # reading

    async def account(self, account: str, *, keeper: str | None = None) -> AccountView:
        """How an account stands, as its home keeper says, or another ``keeper``."""
        asked = keeper or self.home(account)
        view = await self.ask(asked, messages.ACCOUNT_CALL, messages.AskAccount(account), AccountView)
        if view.account != account:
            raise self._silent(self._line(asked), "it spoke of another account")
        return view

    async def accounts(self, keeper: str, after: str = "", limit: int = messages.MAX_PAGE) -> list[AccountView]:
        """One page of all accounts, by their keys; shorter than ``limit``: the last."""
        message = messages.AskAccounts(after, limit)
        said = await self.ask(keeper, messages.ACCOUNTS_CALL, message, messages.AccountViews, timeout_s=PAGE_S)
        return said.accounts

    async def history(
        self, account: str, *, since: int = 0, before: int | None = None, limit: int = 100, keeper: str | None = None
    ) -> list[HistoryRow]:
        """Statements that name the account, newest first; ``before``: the ``cursor`` of the page before's last."""
        message = messages.AskHistory(account, since, before, limit)
        asked = keeper or self.home(account)
        return (await self.ask(asked, messages.HISTORY_CALL, message, messages.History, timeout_s=PAGE_S)).rows

    async def heads(self, keeper: str) -> Heads:
        """The newest head of each log that the keeper holds, its own and its copies of others'."""
        return await self.ask(keeper, messages.HEADS_CALL, None, Heads)

    async def entries(self, keeper: str, log: str, first: int, limit: int = messages.MAX_PAGE) -> list[bytes]:
        """Entries of ``log`` from ``first`` on, as ``keeper`` holds it: as many as fit a call."""
        message = messages.AskEntries(log, first, limit)
        return (await self.ask(keeper, messages.ENTRIES_CALL, message, Documents, timeout_s=PAGE_S)).documents

    async def proof(
        self, keeper: str, log: str, size: int, *, index: int | None = None, first: int | None = None
    ) -> list[bytes]:
        """That entry ``index`` is in the log of ``size``; with ``first`` instead, that the smaller log begins it."""
        message = messages.AskProof(log, size, index, first)
        return (await self.ask(keeper, messages.PROOF_CALL, message, messages.Proof)).hashes

    # the way there

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
            await self._swarm.connect(peer, tuple(line.card.addresses), timeout_s=timeout_s / 2)
            line.connected = True
        return await self._swarm.call(peer, call, payload, timeout_s=timeout_s)

    async def _read_cards(self, asked_at: float) -> None:
        async with self._reading:
            if self._read_at > asked_at:
                return  # while this one waited for its turn
            for card in await self._find(self._swarm, self.signed):
                line = self._line(card.maintainer)
                if line.card is None or (line.card.peer, line.card.addresses) != (card.peer, card.addresses):
                    line.connected = False
                line.card = card
            self._read_at = self._clock()

    def _heard(self, line: _Line) -> None:
        line.heard_at, line.pause_s, line.silent_until = self._clock(), 0.0, float("-inf")

    def _silent(self, line: _Line, why: str) -> KeeperSilent:
        """Note it; the pause is spread so that those who waited do not all come back at once."""
        line.heard_at, line.connected, line.why = float("-inf"), False, why
        if line.silent_until <= self._clock():  # else it is another call's failure of the same silence
            line.pause_s = min(LONGEST_PAUSE_S, 2 * line.pause_s or FIRST_PAUSE_S)
            line.silent_until = self._clock() + line.pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load
        return KeeperSilent(line.keeper, why, self.left_alone_s(line.keeper))


def pieces(raws: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Statements in as many lists as calls are needed to carry them.

    Raises:
        LedgerError: one is longer than any statement.
    """
    piece: list[bytes] = []
    held = 0
    for raw in raws:
        if len(raw) > MAX_LEDGER_STATEMENT_BYTES:
            raise LedgerError(f"A statement of {len(raw)} bytes exceeds the ledger's {MAX_LEDGER_STATEMENT_BYTES}.")
        if piece and (len(piece) == messages.MAX_BATCH or held + len(raw) + 8 > MAX_CALL_BYTES - SPARE_BYTES):
            yield piece
            piece, held = [], 0
        piece.append(raw)
        held += len(raw) + 8  # its length and type in msgpack
    if piece:
        yield piece
