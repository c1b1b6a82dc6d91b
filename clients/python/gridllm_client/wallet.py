"""The participant's account, as this process spends from it: it signs, asks the home keeper, and checks what comes.

The account key is the participant's own (``gridllm id``); the process takes part under another one (decision 0002),
which a Delegation binds to the account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import Economy
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import BadPayment, KeeperSilent, LedgerError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import Wish
from gridllm.ledger.paper import Rulebook, sign, verify_pass
from gridllm.ledger.prices import Count
from gridllm.ledger.statements import MAX_LEDGER_STATEMENT_BYTES, Delegation, Escrow, Pass, TabKey, Voucher
from gridllm.ledger.trust import recent, trusted
from gridllm_client.tab import Tariff

log = logging.getLogger(__name__)

DELEGATION_S: Final = 86_400  # a connection's right to act for the account; it ends with the process, too
RENEW_S: Final = 3_600  # before that
YOUNG_S: Final = 2.0  # a pass so young says what a new one would

T = TypeVar("T")


class Wallet:
    """One account, used through one connection. Lives on the grid's event loop."""

    def __init__(
        self,
        signed: SignedCharter,
        identity: Identity,
        client: PeerId,
        keepers: Keepers,
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        tier: Callable[[str], int] | None = None,
    ) -> None:
        """
        Args:
            identity: of the account.
            client: peer id of this process's connection.
            path: file where the pass is kept for times in which the keeper is silent; None: nowhere.
            tier: contribution that the model of a root asks for (``Catalogue.contribution``); None: the charter's.
        """
        self.signed = signed
        self.account = identity.public_key.hex()
        self._identity = identity
        self._client = client
        self._keepers = keepers
        self._path = path
        self._clock = clock
        self.tier = tier or self.economy.tier
        """Contribution that the model of a root asks for, in micro-credits; 0: it is open to all."""
        self._blocks: dict[str, Sequence[int]] = {}
        self._rules = Rulebook(signed, self._blocks)
        self._delegation = b""
        self._delegated_until = 0
        self._pass = b""
        self._shown: Pass | None = None  # what it says
        self._asked_at = float("-inf")  # Unix time it was given at
        self._doubted = False  # somebody did not accept it
        self._fetching = asyncio.Lock()
        self._loaded = path is None

    @property
    def economy(self) -> Economy:
        """The charter's."""
        return self.signed.charter.economy

    def learn(self, model: str, blocks: Sequence[int]) -> None:
        """The grid's model of that root has blocks of so many parameters (``models.sizes.block_parameters``)."""
        self._blocks[model] = blocks

    def tariff(self, model: str, start: int, end: int) -> Tariff:
        """What a span costs. Raises LedgerError: the model was not learnt."""
        return Tariff.of(self.economy, self._rules.parameters(model, start, end))

    def delegation(self) -> bytes:
        """The account's word that this connection acts for it; signed anew before it expires."""
        now = int(self._clock())
        if self._delegated_until - now < RENEW_S:
            self._delegated_until = now + DELEGATION_S
            said = Delegation(
                grid=self.signed.grid,
                account=self.account,
                client=self._client,
                issued=now,
                expires=self._delegated_until,
            )
            self._delegation = sign(said, self._identity)
        return self._delegation

    @property
    def access(self) -> bytes:
        """The newest pass, which may have expired; b"" when there never was one."""
        return self._pass

    @property
    def contribution(self) -> int:
        """As the newest pass says (``ledger.fold.Account.contribution``), micro-credits."""
        return self._shown.contribution if self._shown is not None else 0

    @property
    def trusted(self) -> bool:
        """Whether a node may serve the account without escrow while its keeper is silent, by the newest pass."""
        shown = self._shown
        return shown is not None and recent(self.economy, shown, self._clock()) and trusted(self.economy, shown) > 0

    @property
    def aging(self) -> bool:
        """Whether the pass should be renewed; there is time left to do so beside other work."""
        shown = self._shown
        if shown is None or self._doubted:
            return True
        return shown.expires - self._clock() < (shown.expires - shown.issued) / 3

    async def renew(self) -> None:
        """Have a pass that holds for a while yet, if the keeper gives one; else the newest stays, good for trust.

        Raises:
            Refusal: the keeper declines.
        """
        async with self._fetching:
            await self._load()
            if not self.aging:
                return
            try:
                raw = await self._ask(partial(self._keepers.access_pass, self.account))
            except KeeperSilent as silent:
                log.info("The access pass could not be renewed: %s", silent)
                return
            self._pass, self._shown = raw, verify_pass(raw, self.signed)
            self._asked_at, self._doubted = self._clock(), False
            await self._save(raw)

    async def escrows(self, wishes: Sequence[Wish]) -> list[tuple[bytes, Escrow]]:
        """What the home keeper sets aside for all ``wishes``, or nothing of it; in their order, verified.

        Raises:
            KeeperSilent: it does not answer, or not what was asked.
            Insufficient: the account has less.
            Refusal: the keeper declines for another reason.
        """
        raws = await self._ask(partial(self._keepers.escrows, self.account, wishes=wishes))
        try:
            return [(raw, self._verified(raw, wish)) for raw, wish in zip(raws, wishes, strict=True)]
        except (LedgerError, ValueError) as error:
            home = self._keepers.home(self.account)
            raise KeeperSilent(home, f"its escrows cannot be used: {str(error).removesuffix('.')}") from error

    def voucher(self, tab: TabKey, count: Count, micro: int) -> bytes:
        """The account owes the payee ``micro`` for ``count``, in this session so far."""
        return sign(
            Voucher(
                grid=self.signed.grid,
                session=tab.session,
                payer=self.account,
                payee=tab.payee,
                model=tab.model,
                start=tab.start,
                end=tab.end,
                issued=int(self._clock()),
                prefill=count.prefill,
                decode=count.decode,
                micro=micro,
            ),
            self._identity,
        )

    async def balance(self) -> int:
        """Micro-credits, escrow included, by the home keeper's books. Raises KeeperSilent, Refusal."""
        view = await self._keepers.account(self.account)
        return view.granted + view.earned + view.received - view.spent - view.sent

    def forget(self) -> None:
        """Somebody did not accept what was shown: sign the delegation anew, and have the pass asked for again."""
        self._delegated_until = 0
        self._doubted = self._clock() - self._asked_at > YOUNG_S

    async def _ask(self, question: Callable[[bytes], Awaitable[T]]) -> T:
        """Ask the home keeper; a delegation that it does not accept is signed anew, once."""
        try:
            return await question(self.delegation())
        except BadPayment:
            self.forget()
            return await question(self.delegation())

    def _verified(self, raw: bytes, wish: Wish) -> Escrow:
        said = self._rules.read(raw).statement
        if not isinstance(said, Escrow):
            raise LedgerError("it is no escrow")
        if said.tab != TabKey(wish.session, self.account, wish.payee, wish.model, wish.start, wish.end):
            raise LedgerError("it is of another tab")
        if said.micro < wish.micro:
            raise LedgerError(f"it holds {said.micro} of the {wish.micro} micro-credits asked for")
        if said.expires <= self._clock():
            raise LedgerError("it has expired")
        return said

    async def _load(self) -> None:
        """The pass of an earlier process, for times in which the keeper is silent."""
        if self._loaded or self._path is None:
            return
        self._loaded = True
        path = self._path
        with contextlib.suppress(OSError, LedgerError):
            raw = await asyncio.to_thread(_read, path)
            shown = verify_pass(raw, self.signed)
            if shown.account == self.account:
                self._pass, self._shown, self._doubted = raw, shown, True

    async def _save(self, raw: bytes) -> None:
        if self._path is None:
            return
        try:
            await asyncio.to_thread(_write, self._path, raw)
        except OSError as error:
            log.info("The pass was not kept for times in which the keeper is silent: %s", error)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_LEDGER_STATEMENT_BYTES)


def _write(path: Path, raw: bytes) -> None:
    make_private_dir(path.parent)
    write_atomically(path, raw, mode=0o600)
