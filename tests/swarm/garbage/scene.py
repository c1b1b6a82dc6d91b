"""The node under attack, who attacks it, and who must not notice."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from gridllm.charter.pin import Pins
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.node.service.switchboard import PING_CALL
from gridllm.swarm.directory import Directory
from gridllm.wire.messages import Open, RowSlice
from gridllm_client.grid import Grid
from tests.swarm.garbage.stranger import ANSWER_S, RawLink, Stranger
from tests.swarm.grid import ProcessGrid

CACHE_TOKENS = 2048
PROMPT, TOKENS = "Once upon a time", 60
SID = b"n" * 16
ROW = [RowSlice(0, 0, 0, 1, 1)]
NOBODY = Identity.ephemeral().peer


class Bystander(threading.Thread):
    """A client that generates the same text again and again."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.texts: list[str] = []
        self.repairs: list[str] = []
        self.trouble: Exception | None = None
        self.over = threading.Event()
        self._home = home

    def run(self) -> None:
        try:
            with Grid(self._home) as grid:
                model = grid.model("demo")
                while not self.over.is_set():
                    made = model.complete(PROMPT, max_new_tokens=TOKENS, temperature=0)
                    self.repairs += [event.text for event in made.events if event.kind == "repaired"]
                    self.texts.append(made.text)
        except Exception as error:  # noqa: BLE001 - told in the test's thread
            self.trouble = error

    def wait_for_text(self) -> None:
        """Until a text that was begun after now is complete."""
        count, deadline = len(self.texts), time.monotonic() + 150
        while len(self.texts) < count + 2 and self.trouble is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.trouble is None, self.trouble
        assert len(self.texts) >= count + 2, "the other client came to a halt"


class Scene:
    """The node under attack, the first of two; who attacks; who must not notice."""

    def __init__(self, running: ProcessGrid, bystander: Bystander) -> None:
        self.running = running
        self.bystander = bystander
        self.signed = Pins(running.home / "data" / "gridllm").current()
        self.entry = self.signed.charter.models[0]
        self.node = PeerId(running.nodes[0].peer)
        self.second = PeerId(running.nodes[1].peer)
        self.watched_at = 0.0
        self.stranger = Stranger([running.address], self.signed.grid)

    def run(self, work: Any, timeout_s: float = 200.0) -> Any:
        return self.stranger.run(work, timeout_s)

    def open(self, **changes: Any) -> Open:
        """A sound Open of a session of one row that ends at the node."""
        fields: dict[str, Any] = {
            "call": 1,
            "session": os.urandom(16),
            "model": self.entry.root,
            "dtype": "float32",
            "start": 0,
            "end": 4,
            "rows": 1,
            "epoch": 1,
            "upstream": self.stranger.peer,
            "next": None,
            "need": [0] * changes.get("rows", 1),
        }
        return Open(**fields | changes)

    async def link(self) -> RawLink:
        return await self.stranger.link(self.node)

    async def call(self, name: str, payload: bytes) -> bytes:
        """One call of the stranger's to the node."""
        return await self.stranger.swarm.call(self.node, name, payload, timeout_s=ANSWER_S)

    async def lives(self) -> None:
        """The node answers."""
        assert await self.call(PING_CALL, b"there?") == b"there?"

    async def introduce(self, stranger: Stranger) -> None:
        """Connect a stranger to the nodes."""
        for record in await Directory(stranger.swarm, stranger.grid).nodes(self.entry.model_root):
            with contextlib.suppress(GridError):
                await stranger.swarm.connect(record.peer, tuple(record.addresses))

    def tensor(self, tokens: int, value: float = 0.5) -> bytes:
        """Hidden states that the node takes."""
        return struct.pack("<f", value) * (tokens * self.entry.hidden_size)


def fuzz(examples: int) -> settings:
    """Hypothesis for tests against a process: no deadline, the scene shared."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
