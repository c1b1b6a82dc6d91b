"""Every question to the keepers of the grid's books, as a method.

::

    keepers = Keepers(swarm, signed)
    view = await keepers.account(account)  # its home keeper's word
    outcomes = await keepers.submit(keepers.home(account), vouchers)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from gridllm.errors import LedgerError, TooSoon
from gridllm.ledger import messages
from gridllm.ledger.keeper_lines import ASK_S, KeeperLines, M
from gridllm.ledger.messages import AccountView, Documents, Heads, HistoryRow, Outcome, Wish
from gridllm.ledger.paper import verify_pass
from gridllm.ledger.statements import MAX_LEDGER_STATEMENT_BYTES
from gridllm.swarm.interface import MAX_CALL_BYTES

SUBMIT_S: Final = 15.0  # a full batch waits for those before it, and for the disk
PAGE_S: Final = 15.0  # a MiB, over a slow line
PATIENT_S: Final = 90.0  # for a keeper that answered so much that others come first: whoever reads all of it waits
WAIT_S: Final = 0.5  # between two tries of that
SPARE_BYTES: Final = 16 * 1024  # of a call, for what is not statements


class Keepers(KeeperLines):
    """One peer's way to all keepers, and what there is to ask.

    Every method that asks raises ``KeeperSilent`` where no usable answer comes (at once while that keeper is left
    alone), and the ``Refusal`` that the keeper says.
    """

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
                raise self.useless(keeper, why)
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
            raise self.useless(home, f"its pass cannot be used: {error}") from error
        return raw

    # reading

    async def account(self, account: str, *, keeper: str | None = None) -> AccountView:
        """How an account stands, as its home keeper says, or another ``keeper``."""
        asked = keeper or self.home(account)
        message = messages.AskAccount(account)
        view = await self._read(asked, messages.ACCOUNT_CALL, message, AccountView, timeout_s=ASK_S)
        if view.account != account:
            raise self.useless(asked, "it spoke of another account")
        return view

    async def accounts(self, keeper: str, after: str = "", limit: int = messages.MAX_PAGE) -> list[AccountView]:
        """One page of all accounts, by their keys; shorter than ``limit``: the last."""
        message = messages.AskAccounts(after, limit)
        return (await self._read(keeper, messages.ACCOUNTS_CALL, message, messages.AccountViews)).accounts

    async def history(
        self, account: str, *, since: int = 0, before: int | None = None, limit: int = 100, keeper: str | None = None
    ) -> list[HistoryRow]:
        """Statements that name the account, newest first; ``before``: the ``cursor`` of the page before's last."""
        message = messages.AskHistory(account, since, before, limit)
        asked = keeper or self.home(account)
        return (await self._read(asked, messages.HISTORY_CALL, message, messages.History)).rows

    async def heads(self, keeper: str, brought: Heads | None = None, *, after: int = 0) -> Heads:
        """The newest head of each log that the keeper holds, its own and its copies of others'.

        Args:
            brought: what others showed, for the keeper to compare with what it was shown itself.
            after: a head of its own log signed later than this is wanted (Unix time); it may come with the next answer.
        """
        if after:
            brought = Heads(
                [] if brought is None else brought.heads, [] if brought is None else brought.evidence, after
            )
        return await self._read(keeper, messages.HEADS_CALL, brought, Heads, timeout_s=ASK_S)

    async def entries(self, keeper: str, log: str, first: int, limit: int = messages.MAX_PAGE) -> list[bytes]:
        """Entries of ``log`` from ``first`` on, as ``keeper`` holds it: as many as fit a call."""
        message = messages.AskEntries(log, first, limit)
        return (await self._read(keeper, messages.ENTRIES_CALL, message, Documents)).documents

    async def proof(
        self, keeper: str, log: str, size: int, *, index: int | None = None, first: int | None = None
    ) -> list[bytes]:
        """That entry ``index`` is in the log of ``size``; with ``first`` instead, that the smaller log begins it."""
        message = messages.AskProof(log, size, index, first)
        return (await self._read(keeper, messages.PROOF_CALL, message, messages.Proof)).hashes

    async def _read(
        self, keeper: str, call: str, message: messages.Message | None, kind: type[M], *, timeout_s: float = PAGE_S
    ) -> M:
        """Ask, and again later where the keeper says that this peer had its share for now."""
        give_up_at = self._clock() + PATIENT_S
        while True:
            try:
                return await self.ask(keeper, call, message, kind, timeout_s=timeout_s)
            except TooSoon:
                if self._clock() >= give_up_at:
                    raise
            await asyncio.sleep(WAIT_S)


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
