"""What a keeper answers over the network: strangers' bytes come in here, and the worst that they get is a refusal."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from gridllm.errors import BadPayment, LedgerError, Malformed, NodeFault, NotHeld, WireError
from gridllm.ledger import messages
from gridllm.ledger.messages import (
    AccountView,
    AccountViews,
    AskAccount,
    AskAccounts,
    AskEntries,
    AskEscrow,
    AskHistory,
    AskPass,
    AskProof,
    Documents,
    Heads,
    History,
    Message,
    Outcomes,
    Proof,
    Submit,
    pack,
    unpack,
)
from gridllm.ledger.paper import verify_delegation
from gridllm.swarm.interface import MAX_CALL_BYTES
from gridllm_bootstrap.keeping.patience import Patience
from gridllm_bootstrap.keeping.reserving import access_pass, allowance_left, day_of
from gridllm_bootstrap.limits import Tries

if TYPE_CHECKING:
    from gridllm.ids import PeerId
    from gridllm.ledger.fold import Account
    from gridllm.ledger.statements import Delegation
    from gridllm.ledger.store.store import LedgerStore
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.keeping.desk import Keeper

log = logging.getLogger(__name__)

WARN_EVERY_S: Final = 10.0
SPARE_BYTES: Final = 64 * 1024  # of an answer, for what is not statements
ROW_BYTES: Final = 192  # of a row of history, beside its statement
FULL_BYTES: Final = MAX_CALL_BYTES - SPARE_BYTES
MOST_HEADS: Final = 64  # that an answer names
MOST_EVIDENCE: Final = 16  # pieces, the first of them: one is enough against a keeper

M = TypeVar("M", bound=Message)
T = TypeVar("T")


class Calls:
    """One keeper's answers: ``await Calls(keeper, swarm).serve()``."""

    def __init__(
        self,
        keeper: Keeper,
        swarm: Swarm,
        *,
        vouched: Callable[[], bytes | None] = lambda: None,
        hear: Callable[[Heads], Awaitable[None]] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """
        Args:
            vouched: a head of the keeper's own log that others signed, to be shown beside the newest.
            hear: is told of heads and evidence that others bring.
        """
        self._keeper = keeper
        self._swarm = swarm
        self._clerk = keeper.clerk
        self._signed = keeper.clerk.rulebook.signed
        self._vouched = vouched
        self._hear = hear
        self._lines = Tries(1)
        self._patience = patience or Patience(swarm.seen_at)

    async def serve(self) -> None:
        """Answer from now on."""
        await self._on(messages.SUBMIT_CALL, Submit, lambda asked: 2 + len(asked.statements), self._submit)
        await self._on(messages.ESCROW_CALL, AskEscrow, lambda asked: 8 + len(asked.wishes), self._escrow)
        await self._on(messages.PASS_CALL, AskPass, lambda _: 4, self._pass)
        await self._on(messages.ACCOUNT_CALL, AskAccount, lambda _: 4, self._account)
        await self._on(messages.ACCOUNTS_CALL, AskAccounts, lambda asked: 8 + asked.limit / 16, self._accounts)
        await self._on(messages.HISTORY_CALL, AskHistory, lambda asked: 8 + asked.limit / 16, self._history)
        await self._on(messages.ENTRIES_CALL, AskEntries, lambda _: 16, self._entries)
        await self._on(messages.PROOF_CALL, AskProof, lambda _: 4, self._proof)
        await self._swarm.serve_calls(messages.HEADS_CALL, self._heads)

    async def _on(
        self,
        name: str,
        kind: type[M],
        units: Callable[[M], float],
        answer: Callable[[PeerId, M], Awaitable[Message]],
    ) -> None:
        """Answer calls of that name, each of which takes so many units of patience."""

        async def handle(peer: PeerId, payload: bytes) -> bytes:
            try:
                asked = unpack(payload, kind)
            except WireError as error:
                await self._patience.spend(peer, 1)
                raise Malformed(str(error)) from error
            await self._patience.spend(peer, units(asked))
            return pack(await answer(peer, asked))

        await self._swarm.serve_calls(name, handle)

    async def _submit(self, peer: PeerId, asked: Submit) -> Outcomes:
        with self._patience.turn(peer, len(asked.statements)):
            return Outcomes(await self._keeper.submit(asked.statements))

    async def _escrow(self, peer: PeerId, asked: AskEscrow) -> Documents:
        delegation = await self._delegation(peer, asked.delegation)
        return Documents(await self._keeper.escrows(delegation.account, asked.wishes))

    async def _pass(self, peer: PeerId, asked: AskPass) -> Documents:
        key = (await self._delegation(peer, asked.delegation)).account
        now_s = self._keeper.clock()

        def read(store: LedgerStore) -> bytes:
            account, escrowed, _ = store.standing(key, now_s, day_of(now_s))
            return access_pass(self._clerk, self._keeper.identity, key, account, escrowed, now_s)

        return Documents([await self._read(read)])

    async def _account(self, _: PeerId, asked: AskAccount) -> AccountView:
        key, now_s = _hex(asked.account), self._keeper.clock()

        def read(store: LedgerStore) -> AccountView:
            account, escrowed, gifted = store.standing(key, now_s, day_of(now_s))
            return _view(key, account, escrowed, allowance_left(self._clerk, gifted))

        return await self._read(read)

    async def _accounts(self, _: PeerId, asked: AskAccounts) -> AccountViews:
        now_s = self._keeper.clock()
        if not re.fullmatch("[0-9a-f]{0,64}", asked.after):
            raise Malformed("Accounts are listed after a key, of hex digits in lower case.")

        def read(store: LedgerStore) -> AccountViews:
            page = store.accounts(asked.after, asked.limit)
            escrowed = store.escrows(asked.after, page[-1][0], now_s) if page else {}
            return AccountViews([_view(key, account, escrowed.get(key, 0)) for key, account in page])

        return await self._read(read)

    async def _history(self, _: PeerId, asked: AskHistory) -> History:
        key = _hex(asked.account)
        rows = await self._read(lambda store: store.history(key, asked.since, asked.before, asked.limit))
        total = 0
        for count, row in enumerate(rows):
            total += len(row.statement) + ROW_BYTES
            if total > FULL_BYTES:
                return History(rows[:count])
        return History(rows)

    async def _heads(self, peer: PeerId, payload: bytes) -> bytes:
        try:
            brought = unpack(payload, Heads) if payload else Heads([])
        except WireError as error:
            await self._patience.spend(peer, 4)
            raise Malformed(str(error)) from error
        await self._patience.spend(peer, 4 * (1 + len(brought.heads) + len(brought.evidence)))
        if payload and self._hear is not None:
            await self._hear(brought)
        if brought.after:
            await self._keeper.want_head(brought.after)
        vouched = self._vouched()

        def read(store: LedgerStore) -> Heads:
            heads = [raw for log in sorted(store.sizes()) if (raw := store.head(log)) is not None]
            if vouched is not None and vouched not in heads:
                heads.append(vouched)
            return Heads(heads[:MOST_HEADS], store.evidence()[:MOST_EVIDENCE])

        return pack(await self._read(read))

    async def _entries(self, _: PeerId, asked: AskEntries) -> Documents:
        log = _hex(asked.log)
        return Documents(
            await self._read(lambda store: store.entries(log, asked.first, asked.limit, FULL_BYTES - 8 * 1024))
        )

    async def _proof(self, _: PeerId, asked: AskProof) -> Proof:
        log, index, first = _hex(asked.log), asked.index, asked.first
        if (index is None) == (first is None):
            raise Malformed("A proof is of one entry, by its index, or of one smaller log, by its size first.")

        def read(store: LedgerStore) -> list[bytes]:
            held = store.sizes().get(log, 0)
            if (
                not held
                or asked.size > held
                or (index is not None and index >= asked.size)
                or (first or 0) > asked.size
            ):
                raise NotHeld(f"This keeper holds {held} entries of the log of {log[:16]}…; there is no such proof.")
            if index is not None:
                return store.inclusion(log, index, asked.size)
            return store.consistency(log, first or 0, asked.size)

        return Proof(await self._read(read))

    async def _read(self, work: Callable[[LedgerStore], T]) -> T:
        """Queries. Raises NodeFault: what is wrong with the database is told to its maintainer alone."""
        try:
            return await self._keeper.read(work)
        except LedgerError as error:
            if not self._lines.take("", WARN_EVERY_S):
                log.warning("The ledger cannot be read: %s", error)
            raise NodeFault("The keeper cannot read its books now; the fault is its own.") from error

    async def _delegation(self, peer: PeerId, raw: bytes) -> Delegation:
        """Who asks. Raises BadPayment."""
        try:
            return await asyncio.to_thread(verify_delegation, raw, self._signed.grid, peer, self._keeper.clock())
        except LedgerError as error:
            raise BadPayment(str(error)) from error


def _hex(key: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", key):
        raise Malformed("A key has 64 hex digits, in lower case.")
    return key


def _view(key: str, account: Account, escrowed: int, allowance: int = 0) -> AccountView:
    return AccountView(
        account=key,
        granted=account.granted,
        earned=account.earned,
        spent=account.spent,
        received=account.received,
        sent=account.sent,
        escrowed=escrowed,
        allowance=allowance,
    )
