"""A grid with credit as real processes, and accounts that cheat in it: each over a connection of its own, by hand."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gridllm.charter.economy import home_of
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.metering import Meter
from gridllm.ledger.paper import sign
from gridllm.ledger.prices import Count, window_price
from gridllm.ledger.statements import Transfer, Voucher, account_of
from gridllm.swarm.libp2p import open_swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Close, Open, Output, Owing, Pay, Payment, Ready, Refused, RowSlice, Step
from tests.command import COMMAND, Running, gridllm
from tests.ports import free_port
from tests.swarm.book_grid import BookGrid, Guest
from tests.swarm.grid import BUSY_S, LOOPBACK, SERVING

PATIENCE_S = 120.0  # the machine may be busy with other tests


@dataclass
class Node:
    """One ``gridllm serve`` of the whole model."""

    running: Running
    address: str
    peer: PeerId = field(default_factory=lambda: PeerId(""))

    @property
    def account(self) -> str:
        return account_of(self.peer)


class TradeGrid(BookGrid):
    """Maintainers that keep books, and nodes that are paid."""

    def __init__(self, folder: Path, *flags: str, count: int = 2, threshold: int = 2) -> None:
        super().__init__(folder, *flags, count=count, threshold=threshold)
        self.folder = folder
        self.nodes: list[Node] = []
        for number in range(count):
            self.keep(number)
        self.home = self.join("volunteer")

    @property
    def window(self) -> int:
        """Micro-credits that a node of the whole model serves beyond a voucher."""
        economy = self.signed.charter.economy
        parameters = self.rules.parameters(self.entry.root, 0, self.entry.blocks)
        return window_price(economy.prices, parameters, economy.window_tokens) + 1

    def join(self, name: str) -> Path:
        """A participant's home."""
        home = self.folder / name
        done = gridllm(home, "join", "--no-admission", self.addresses[0])
        assert done.returncode == 0, done.stderr
        return home

    def serve(self, count: int, *flags: str, program: tuple[str, ...] = COMMAND) -> list[Node]:
        """So many more nodes, of the whole model unless ``flags`` say otherwise."""
        for _ in range(count):
            key = self.folder / f"node{len(self.nodes)}.key"
            listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
            blocks = () if "--blocks" in flags else ("--blocks", f"0:{self.entry.blocks}")
            args = ("serve", "--host-maddrs", listen, "--threads", "1", "--identity", str(key), *blocks, *flags)
            self.nodes.append(Node(Running(self.home, *args, program=program), listen))
        for node in self.nodes[-count:]:
            line = node.running.wait_for(SERVING, 120)
            node.peer = PeerId(line.split(" as ", 1)[1].split(" ", 1)[0])
        return self.nodes[-count:]

    def home_number(self, account: Identity) -> int:
        """Which maintainer keeps the account's books."""
        home = home_of(account.public_key.hex(), self.signed.charter.keepers)
        return next(n for n, one in enumerate(self.maintainers) if one.public_key.hex() == home)

    def account_at(self, number: int) -> Identity:
        """A fresh account that this maintainer keeps."""
        return next(one for one in iter(Identity.ephemeral, None) if self.home_number(one) == number)

    def verify(self) -> tuple[int, dict[str, Any]]:
        """``gridllm ledger verify --json``, as anybody may run it."""
        done = gridllm(self.home, "ledger", "verify", "--json", timeout_s=180)
        return done.returncode, json.loads(done.stdout) if done.stdout else {"text": done.stderr}

    def cost(self, count: Count) -> int:
        """Of so many tokens through the whole model."""
        return self.rules.price(self.entry.root, 0, self.entry.blocks, count)

    def close(self) -> None:
        for node in self.nodes:
            node.running.__exit__(None, None, None)
        super().close()


class Crook(Guest):
    """One connection, and an account that it acts for."""

    def __init__(self, grid: TradeGrid, identity: Identity, keepers: Keepers, account: Identity) -> None:
        super().__init__(grid, identity, keepers)
        self.trade = grid
        self.key = account
        self.lines: list[Wire] = []

    @property
    def account(self) -> str:
        return self.key.public_key.hex()

    async def granted(self, micro: int) -> None:
        """The maintainers give it credit."""
        assert await self.submit(self.key, self.trade.grant(self.key, micro)) == ["accepted"]

    async def balance(self, account: str | None = None) -> int:
        view = await self.keepers.account(account or self.account)
        return view.granted + view.earned + view.received - view.spent - view.sent

    async def paid_to(self, payee: str) -> int:
        """What the payee has earned, as this account's keeper knows it: what other keepers took comes by mirroring."""
        return (await self.keepers.account(payee, keeper=self.keepers.home(self.account))).earned

    async def escrow(self, node: str, session: str, micro: int, account: Identity | None = None) -> bytes:
        wish = self.wish(node, session, micro)
        key = account or self.key
        (raw,) = await self.keepers.escrows(key.public_key.hex(), self.delegation(key), [wish])
        return raw

    def wish(self, node: str, session: str, micro: int) -> Any:
        wish = self.trade.wish(self.key, session, micro)
        return type(wish)(wish.session, node, wish.model, wish.start, wish.end, wish.micro)

    def voucher(self, payee: str, session: str, count: Count, key: Identity | None = None, **changes: Any) -> bytes:
        """Any field may be given; the signature is always right for what it says."""
        payer = key or self.key
        tab = {"session": session, "payer": payer.public_key.hex(), "payee": payee, "model": self.trade.entry.root}
        fields = {
            "start": 0,
            "end": self.trade.entry.blocks,
            "grid": self.trade.signed.grid,
            "issued": int(time.time()),
        }
        said = {"prefill": count.prefill, "decode": count.decode, "micro": self.trade.cost(count)}
        signer = changes.pop("signer", payer)
        return sign(Voucher(**(tab | fields | said | changes)), signer)

    def transfer(self, payee: str, micro: int) -> bytes:
        fields = {"payer": self.account, "payee": payee, "micro": micro, "memo": "", "serial": secrets.token_hex(16)}
        return sign(Transfer(grid=self.trade.signed.grid, issued=int(time.time()), **fields), self.key)

    async def access(self) -> bytes:
        """A pass of its home keeper."""
        return await self.keepers.access_pass(self.account, self.delegation(self.key))

    async def wire(self, node: Node) -> Wire:
        """A link to the node."""
        await self.keepers.swarm.connect(node.peer, (node.address,), timeout_s=BUSY_S)
        made = Wire(self, node)
        await made.begin()
        self.lines.append(made)
        return made


class Wire:
    """A hand-made client's link to one node, one session on it, and all it heard."""

    def __init__(self, crook: Crook, node: Node, session: str = "") -> None:
        self.crook, self.node = crook, node
        self.session = session or secrets.token_hex(16)
        self.heard: list[AnyMessage] = []
        self.meter = Meter()  # of what came back
        self.sent = Meter()
        self._news = asyncio.Event()
        self._steps = 0
        self._position = 0
        self.stopped: Owing | Refused | None = None
        """Why the last step was not taken at once."""

    @property
    def sid(self) -> bytes:
        return bytes.fromhex(self.session)

    @property
    def served(self) -> int:
        """What the node computed for this session, micro-credits: each output was taken through all blocks."""
        return self.crook.trade.cost(self.meter.count)

    async def begin(self) -> None:
        stream = await self.crook.keepers.swarm.open_stream(self.node.peer, LINK_STREAM, timeout_s=BUSY_S)
        self.link = Link(stream, on_message=self._hear, opener=True)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with suppress(GridError):
            await self.link.run()

    def _hear(self, _: Link, message: AnyMessage, body: bytearray) -> None:
        if isinstance(message, Output) and message.session == self.sid:
            self.meter.add(message.rows, message.step)
        self.heard.append(message)
        self._news.set()

    async def hears(self, *kinds: type, within_s: float = PATIENCE_S) -> Any:
        """The next message of one of these kinds; it is taken from what was heard."""
        async with asyncio.timeout(within_s):
            while True:
                for at, message in enumerate(self.heard):
                    if isinstance(message, kinds):
                        return self.heard.pop(at)
                self._news.clear()
                await self._news.wait()

    async def open(self, escrow: bytes = b"", **changes: Any) -> Ready | Refused:
        """Ask for a session."""
        key = self.crook.key
        if "payment" not in changes:
            access = changes.pop("access", None) or await self.crook.access()
            changes["payment"] = Payment(changes.pop("delegation", self.crook.delegation(key)), access, escrow)
        entry = self.crook.trade.entry
        fields: dict[str, Any] = {"call": 1, "session": self.sid, "model": entry.root, "dtype": entry.dtype, "start": 0}
        fields |= {"end": entry.blocks, "rows": 1, "epoch": 0, "upstream": self.crook.identity.peer, "next": None}
        self.link.send(Open(**(fields | {"need": [0]} | changes)))
        answer: Ready | Refused = await self.hears(Ready, Refused)
        return answer

    def step(self, tokens: int = 1, *, call: int = 0) -> None:
        """Send one call, or a piece of the one of that number."""
        entry = self.crook.trade.entry
        self._steps = call or self._steps + 1
        width = 4 if entry.dtype == "float32" else 2
        values = np.full(tokens * entry.hidden_size, 0.01, np.float32)
        body = values.tobytes() if width == 4 else (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        rows = [RowSlice(0, 0, self._position, tokens, tokens)]
        self._position += tokens
        self.sent.add(rows, self._steps)
        self.link.send(Step(self.sid, 0, self._steps, rows), body)

    async def steps(self, count: int) -> int:
        """One token after the other, until the node waits or refuses; how many came back."""
        for done in range(count):
            self.step()
            said = await self.hears(Output, Owing, Refused)
            if not isinstance(said, Output):
                self.stopped = said
                return done
        return count

    async def steps_held(self) -> int:
        """After a payment: how many outputs come of the step that waited, one or none."""
        if not isinstance(self.stopped, Owing):
            return 0
        said = await self.hears(Output, Owing, Refused)
        self.stopped = None if isinstance(said, Output) else said
        return int(isinstance(said, Output))

    def begin_session(self) -> None:
        """Another one on the same link."""
        self.session, self.meter, self.sent = secrets.token_hex(16), Meter(), Meter()
        self._steps = self._position = 0
        self.stopped = None
        self.heard.clear()

    def pay(self, voucher: bytes = b"", **more: bytes) -> None:
        self.link.send(Pay(self.sid, voucher, **more))

    def leave(self) -> None:
        """Close the session, whatever is owed."""
        self.link.send(Close(self.sid))

    async def close(self) -> None:
        await self.link.close()
        self._task.cancel()
        await asyncio.wait([self._task])


@asynccontextmanager
async def crook(grid: TradeGrid, account: Identity | None = None, *, credit: int = 0) -> AsyncIterator[Crook]:
    """Enter the grid under a new name, with so much credit."""
    identity = Identity.ephemeral()
    swarm = await open_swarm(identity, initial_peers=grid.addresses, host_maddrs=[LOOPBACK], namespace=grid.signed.grid)
    made = Crook(grid, identity, Keepers(swarm, grid.signed), account or Identity.ephemeral())
    try:
        if credit:
            await made.granted(credit)
        yield made
    finally:
        for line in made.lines:
            await line.close()
        await swarm.close()


async def until(holds: Any, *, within_s: float = PATIENCE_S, every_s: float = 0.3) -> Any:
    """What ``holds`` returns, once that is true."""
    async with asyncio.timeout(within_s):
        while True:
            with suppress(GridError):
                if found := await holds():
                    return found
            await asyncio.sleep(every_s)
