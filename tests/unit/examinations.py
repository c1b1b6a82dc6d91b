"""Whole examinations over the in-memory network, of a tiny model and at a pace of tenths of a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gridllm.admission.examination.candidacy import Candidacy
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.judge import SeenRoots
from gridllm.admission.examination.prover import Prover, answer_examination, hello_of
from gridllm.admission.examination.verifier import Examination, Examined, Pace, examine
from gridllm.admission.messages import ADMISSION_STREAM, Hello, Verdict
from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import Admission
from gridllm.errors import GridError
from gridllm.identity.keys import Identity
from gridllm.ids import GridId
from gridllm.models.manifest import Manifest, build_manifest, root
from gridllm.swarm.interface import Stream
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from tests.unit.tiny_models import LAYERS, make_model

GRID = GridId("ab" * 32)
MAINTAINER = "cd" * 32
MIB = 2**20
QUICK = Pace(
    echoes=2,
    transfer_s=0.05,
    first_transfer_bytes=64 * 1024,
    most_transfer_bytes=MIB,
    dial_back_s=0.5,
    chase_share=0.02,
    last_chase_share=0.01,
    chase_patience=100.0,
    pages=2,
    segments=4,
    first_steps=4,
    calibrated_s=0.01,
    round_s=0.04,
    rounds=2,
    patience_s=20.0,
)


@cache
def tiny_manifest() -> Manifest:
    """Of a random Llama with five blocks of width 48."""
    with TemporaryDirectory() as folder:
        make_model("llama", Path(folder))
        return build_manifest(Path(folder))


def candidacy(**changes: Any) -> Candidacy:
    """A machine that would serve the tiny model."""
    manifest = tiny_manifest()
    entry = ModelEntry(
        name="tiny",
        root=root(manifest),
        source="local",
        blocks=LAYERS,
        parameters=1,
        hidden_size=48,
        dtype="float32",
    )
    fields: dict[str, Any] = {
        "entry": entry,
        "manifest": manifest,
        "dtype": "float32",
        "roles": ("serve",),
        "device": "cpu",
        "threads": 1,
        "memory_bytes": 8 * MIB,
        "disk_bytes": 10**9,
    }
    return Candidacy(**(fields | changes))


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.places: list[tuple[int, int]] = []

    def stage(self, name: str, done: float) -> None:
        self.stages.append((name, done))

    def queued(self, place: int, waiting: int) -> None:
        self.places.append((place, waiting))

    def note(self, sentence: str) -> None:
        raise AssertionError(sentence)


class Room:
    """One authority that examines whoever comes, and what came of it."""

    def __init__(self, *, pace: Pace = QUICK, **examination: Any) -> None:
        self.network = MemoryNetwork()
        self.authority: MemorySwarm = self.network.join(Identity.ephemeral())
        self.seen = SeenRoots()
        self.outcomes: list[Examined | GridError] = []
        self._pace = pace
        self._examination = examination

    async def open(self) -> Room:
        await self.authority.serve_streams(ADMISSION_STREAM, self._serve)
        return self

    async def visit(
        self,
        prover: type[Prover] = Prover,
        *,
        identity: Identity | None = None,
        watcher: Notes | None = None,
        **changes: Any,
    ) -> Examined:
        """One candidate's examination as the authority saw it; raises what the candidate met with."""
        candidate = candidacy(**changes)
        swarm = self.network.join(identity or Identity.ephemeral())
        try:
            stream = await swarm.open_stream(self.authority.peer, ADMISSION_STREAM)
            mine = prover(candidate, GRID, swarm.peer)
            verdict = await answer_examination(stream, mine, hello_of(candidate, GRID, ()), watcher or Notes())
            outcome = self.outcomes[-1]
            if isinstance(outcome, GridError):
                raise outcome
            assert (verdict.reason, verdict.text) == (outcome.reason, outcome.text)
            return outcome
        finally:
            await swarm.close()

    async def _serve(self, stream: Stream) -> None:
        talk = Conversation(stream)
        hello, _ = await talk.read(timeout_s=5)
        assert isinstance(hello, Hello)
        manifest = tiny_manifest()
        fields: dict[str, Any] = {
            "grid": GRID,
            "authority_hex": MAINTAINER,
            "peer": stream.peer,
            "entry": candidacy().entry,
            "manifest": manifest,
            "admission": Admission(),
            "hello": hello,
            "seen": self.seen,
        }
        try:
            examined = await examine(stream, Examination(**(fields | self._examination)), self._pace)
        except GridError as error:
            self.outcomes.append(error)
            return
        self.outcomes.append(examined)
        await talk.tell(verdict_of(examined))
        await asyncio.sleep(0.2)


def verdict_of(examined: Examined) -> Verdict:
    """As an authority says it, unsigned."""
    return Verdict(
        admitted=examined.admitted,
        reason=examined.reason,
        text=examined.text,
        figures=examined.figures.model_dump_json().encode(),
        measurement=b"",
    )


async def authority_script(
    script: Callable[[Conversation], Awaitable[None]],
    *,
    prover: type[Prover] = Prover,
    certificate: bytes = b"",
    **changes: Any,
) -> None:
    """An honest candidate meets an authority that follows ``script``; raises what the candidate met with."""
    network = MemoryNetwork()
    authority, here = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())

    async def serve(stream: Stream) -> None:
        talk = Conversation(stream)
        await talk.read(timeout_s=5)  # Hello
        await script(talk)

    await authority.serve_streams(ADMISSION_STREAM, serve)
    candidate = candidacy(**changes)
    mine = prover(candidate, GRID, here.peer)
    try:
        stream = await here.open_stream(authority.peer, ADMISSION_STREAM)
        await answer_examination(stream, mine, hello_of(candidate, GRID, (), certificate), Notes())
    finally:
        await here.close()
        if authority._tasks:  # what was said last is read still
            await asyncio.wait(authority._tasks, timeout=1.0)
        await authority.close()
