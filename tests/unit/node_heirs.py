"""Another model for a volunteer to go over to, the notices that crown it, and a client that talks to both."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from gridllm.charter.contest import CROWN_TYPE, LISTING_TYPE, Crown, Listing
from gridllm.charter.document import ModelEntry
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm.ids import ModelRoot
from gridllm.models.manifest import build_manifest, root
from gridllm.node.succession import making_way, succession, waiting
from gridllm.swarm.directory import Directory
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Close, Open, Output, Ready, Refused, RowSlice, Step
from gridllm.wire.record import NodeRecord
from gridllm.wire.tensor import pack, unpack
from tests.certificates import SIGNERS
from tests.unit.node_life import Life
from tests.unit.notes import until
from tests.unit.tiny_models import COMMON, LAYERS, make_model

M = TypeVar("M", bound=AnyMessage)

_serials = itertools.count(1)


@cache
def heir(folder: Path) -> ModelEntry:
    """A tiny random model in ``folder``, as the leaderboard would list it."""
    make_model("llama", folder)
    manifest = build_manifest(folder)
    return ModelEntry(
        name="heir",
        root=root(manifest),
        source="local",
        blocks=LAYERS,
        parameters=1,
        hidden_size=COMMON["hidden_size"],
        dtype="float32",
    )


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a node that goes over look around all the time."""
    for module in (succession, waiting, making_way):
        monkeypatch.setattr(module, "LOOK_S", 0.05)


def crown(life: Life, entry: ModelEntry) -> None:
    """The maintainers list a model and crown it."""
    now = int(time.time())
    listing = Listing(grid=life.signed.grid, model=entry, submission="ab" * 32, contribution=0, issued=now)
    crowned = Crown(
        grid=life.signed.grid,
        serial=next(_serials),
        root=entry.root,
        submission="ab" * 32,
        verdict="cd" * 32,
        issued=now,
    )
    life.board.add(sign_statement(listing, LISTING_TYPE, SIGNERS))
    life.board.add(sign_statement(crowned, CROWN_TYPE, SIGNERS))


async def records_of(life: Life, entry: ModelEntry) -> list[NodeRecord]:
    """Who announces that model."""
    onlooker = life.network.join(Identity.ephemeral())
    try:
        return await Directory(onlooker, life.signed.grid).nodes(ModelRoot(entry.root))
    finally:
        await onlooker.close()


class Caller:
    """One client with one link to the volunteer."""

    def __init__(self, life: Life) -> None:
        self.swarm = life.network.join(Identity.ephemeral())
        self.heard: list[tuple[AnyMessage, bytearray]] = []
        self._life = life
        self._calls = itertools.count(1)

    async def join(self) -> None:
        stream = await self.swarm.open_stream(self._life.identity.peer, LINK_STREAM)
        self.link = Link(stream, on_message=lambda _, m, body: self.heard.append((m, body)), opener=True)
        self._life.links.append(asyncio.create_task(self.link.run()))

    async def hears(self, kind: type[M], session: bytes) -> tuple[M, bytearray]:
        """The next such message of the session; others are dropped."""
        found: list[tuple[M, bytearray]] = []

        def look() -> bool:
            while self.heard and not found:
                message, body = self.heard.pop(0)
                if isinstance(message, kind) and getattr(message, "session", None) == session:
                    found.append((message, body))
            return bool(found)

        await until(look)
        return found[0]

    def ask(self, entry: ModelEntry, session: bytes, end: int) -> None:
        """Ask for a session on blocks 0:end."""
        self.link.send(
            Open(
                call=next(self._calls),
                session=session,
                model=entry.root,
                dtype="float32",
                start=0,
                end=end,
                rows=1,
                epoch=0,
                upstream=self.swarm.peer,
                next=None,
                need=[0],
            )
        )

    async def open(self, entry: ModelEntry, session: bytes, end: int) -> None:
        self.ask(entry, session, end)
        await self.hears(Ready, session)

    async def refused(self, entry: ModelEntry, session: bytes, end: int) -> str:
        """The code with which a session is refused."""
        self.ask(entry, session, end)
        refusal, _ = await self.hears(Refused, session)
        return refusal.code

    async def step(self, entry: ModelEntry, session: bytes, number: int) -> torch.Tensor:
        """Take one token, at position ``number`` - 1, through the span → [1, hidden_size]."""
        generator = torch.Generator().manual_seed(number)
        hidden = torch.randn(1, entry.hidden_size, generator=generator)
        self.link.send(Step(session, 0, number, [RowSlice(0, 0, number - 1, 1, 1)]), pack(hidden))
        _, body = await self.hears(Output, session)
        return unpack(body, tokens=1, hidden_size=entry.hidden_size, dtype=torch.float32)

    def close(self, session: bytes) -> None:
        self.link.send(Close(session))


def said(life: Life, text: str) -> bool:
    """Whether the node told its volunteer."""
    return any(text in line for line in life.notes.lines)


async def served(life: Life, entry: ModelEntry) -> None:
    """Wait until the node serves that model."""
    await until(lambda: any(record.model == entry.root for record in life.notes.served))
