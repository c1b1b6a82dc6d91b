"""A node whose clients pay, one such client made by hand, and keepers that say what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gridllm.charter.document import SignedCharter
from gridllm.charter.economy import home_of
from gridllm.errors import KeeperSilent
from gridllm.identity.keys import Identity
from gridllm.ledger.fold import Ledger, apply
from gridllm.ledger.messages import Outcome
from gridllm.ledger.paper import Rulebook, sign
from gridllm.ledger.statements import Delegation, Pass, Voucher
from gridllm.node.counter.bill import Bill
from gridllm.node.counter.purse import Purse
from gridllm.node.counter.till import Till
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.swarm.memory import MemorySwarm
from gridllm.wire.messages import AnyMessage, Open, Payment
from tests.charters import ENTRY
from tests.ledgers import BLOCKS, NOW, SESSION, Scribe, hex_of, keeper_of, paid_grid
from tests.unit.notes import until

SID: Final = bytes.fromhex(SESSION)


class Clock:
    """Unix time that moves when told to."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """Every keeper in one: takes what the rules allow, unless told otherwise."""

    signed: SignedCharter
    silent: bool = False
    answer: Callable[[Any], Outcome] = lambda entry: Outcome("accepted")
    ledger: Ledger = field(default_factory=Ledger)
    heard: list[tuple[str, Any]] = field(default_factory=list)  # keeper, statement

    def home(self, account: str) -> str:
        return home_of(account, self.signed.charter.keepers)

    async def answers(self, keeper: str, within_s: float = 2.0) -> bool:
        await asyncio.sleep(0)
        return not self.silent

    async def submit(self, keeper: str, raws: Sequence[bytes]) -> list[Outcome]:
        await asyncio.sleep(0)
        if self.silent:
            raise KeeperSilent(keeper, "a test says so")
        outcomes = []
        for raw in raws:
            entry = Rulebook(self.signed, {ENTRY.root: BLOCKS}).read(raw)
            assert entry.spender is None or self.home(entry.spender) == keeper
            self.heard.append((keeper, entry.statement))
            outcome = self.answer(entry)
            if outcome.code == "accepted" and not apply(self.ledger, entry, 0):
                outcome = Outcome("known")
            outcomes.append(outcome)
        return outcomes

    def said(self, kind: type) -> list[Any]:
        return [statement for _, statement in self.heard if isinstance(statement, kind)]


class Payer:
    """An account with a connection of its own."""

    def __init__(self, scribe: Scribe, node: Identity, connection: Identity | None = None) -> None:
        self.identity = Identity.ephemeral()
        self.connection = connection or Identity.ephemeral()
        self.scribe = scribe
        self.node = node

    @property
    def account(self) -> str:
        return hex_of(self.identity)

    def delegation(self, **changes: Any) -> bytes:
        fields = {"account": self.account, "client": self.connection.peer, "issued": NOW, "expires": NOW + 3600}
        said = Delegation(**{"grid": self.scribe.signed.grid} | fields | changes)
        return sign(said, changes.get("signer", self.identity))

    def access(self, contribution: int = 0, available: int = 10**7, **changes: Any) -> bytes:
        keeper = keeper_of(self.scribe.signed, self.identity)
        fields = {"account": self.account, "contribution": contribution, "available": available, "issued": NOW}
        fields |= {"keeper": hex_of(keeper), "expires": NOW + 600, "grid": self.scribe.signed.grid}
        return sign(Pass(**fields | changes), keeper)

    def escrow(self, micro: int, **changes: Any) -> bytes:
        return self.scribe.escrow(self.identity, self.node, micro, **changes).raw

    def voucher(self, prefill: int = 0, decode: int = 0, **changes: Any) -> bytes:
        return self.scribe.voucher(self.identity, self.node, prefill, decode, **changes).raw

    def payment(self, micro: int = 0, contribution: int = 0, **changes: Any) -> Payment:
        escrow = self.escrow(micro, **changes) if micro else b""
        return Payment(self.delegation(), self.access(contribution), escrow)

    def open(self, payment: Payment | None = None, **changes: Any) -> Open:
        fields: dict[str, Any] = {
            "call": 1,
            "session": SID,
            "model": ENTRY.root,
            "dtype": "float32",
            "start": 0,
            "end": ENTRY.blocks,
            "rows": 1,
            "epoch": 0,
            "upstream": self.connection.peer,
            "next": None,
            "need": [0],
            "payment": payment,
        }
        return Open(**fields | changes)


def scribe(**economy: Any) -> Scribe:
    """A grid that pays 10 tokens ahead; ``economy`` are other fields of it."""
    return Scribe(paid_grid(**{"window_tokens": 10} | economy))


def till_of(scribe: Scribe, node: Identity, desk: Desk, purse: Purse, clock: Clock) -> Till:
    """The node's till."""
    return Till(scribe.signed, ENTRY, scribe.rules, hex_of(node), desk, purse, clock=clock)


def purse_of(folder: Path, clock: Clock) -> Purse:
    """To be entered."""
    return Purse(folder / "purse.db", clock=clock)


def keep(purse: Purse, bill: Bill, raw: bytes, scribe: Scribe) -> None:
    """What the till does with a voucher."""
    voucher = scribe.rules.read(raw).statement
    assert isinstance(voucher, Voucher)
    assert bill.pay(voucher)
    purse.keep(bill, raw, voucher)


class Wire:
    """A hand-made client's link to one node, and all it heard."""

    def __init__(self, swarm: MemorySwarm) -> None:
        self.swarm = swarm
        self.heard: list[AnyMessage] = []

    async def join(self, node: MemorySwarm) -> Wire:
        stream = await self.swarm.open_stream(node.peer, LINK_STREAM)
        self.link = Link(stream, on_message=lambda _, message, body: self.heard.append(message), opener=True)
        self.task = asyncio.create_task(self.link.run())
        return self

    async def hears(self, kind: type, count: int = 1, **fields: Any) -> Any:
        """The ``count``-th message of that kind with those fields."""

        def found() -> list[AnyMessage]:
            alike = (m for m in self.heard if isinstance(m, kind))
            return [m for m in alike if all(getattr(m, name) == value for name, value in fields.items())]

        try:
            await until(lambda: len(found()) >= count)
        except TimeoutError:
            raise AssertionError(f"no {kind.__name__} {fields}, but {self.heard}") from None
        return found()[count - 1]

    async def close(self) -> None:
        await self.link.close()
        await self.task
