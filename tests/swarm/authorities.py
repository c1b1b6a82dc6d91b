"""Maintainers as real processes, each with an admission authority, and candidates in the test's own process."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gridllm.admission.examination.candidacy import Candidacy
from gridllm.charter.document import SignedCharter
from gridllm.charter.fetch import fetch_charter, fetch_manifest
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.manifest import Manifest, verify_manifest
from gridllm.swarm.interface import Swarm
from gridllm.swarm.libp2p import open_swarm
from tests.command import Running, gridllm
from tests.ports import free_port
from tests.swarm.grid import BUSY_S, LOOPBACK

NAME = "club"


class Council:
    """``count`` maintainers of one grid, of whom ``threshold`` must agree; founded by command, run by command."""

    def __init__(
        self,
        folder: Path,
        *,
        count: int,
        threshold: int,
        admission: tuple[str, ...] = (),
        pace: str = "brief",
        cold: bool = False,
    ) -> None:
        self.homes = [folder / f"maintainer{number}" for number in range(count)]
        self.running: dict[int, Running] = {}
        self._pace = pace  # of examinations
        self._cold = cold  # first peers start in interpreters of their own, where their memory is looked at
        self.keys: list[str] = []
        self.addresses: list[str] = []
        maddrs = []
        for home in self.homes:
            listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
            maddrs.append(("--host-maddrs", listen, "--announce-maddrs", listen))
            made = json.loads(self._done(home, "key", "--name", NAME, *maddrs[-1], "--json"))
            self.keys.append(made["maintainer"])
            self.addresses += made["first_peers"]
        others = [flag for key in self.keys[1:] for flag in ("--maintainer", key)]
        others += [flag for address in self.addresses[1:] for flag in ("--first-peer", address)]
        wishes = ("--name", NAME, "--model", "demo", "--threshold", str(threshold), *admission)
        self._done(self.homes[0], "init", *wishes, *others, *maddrs[0])
        if threshold > 1:
            file = folder / "passed-round.json"
            shutil.copy(self.homes[0] / "data" / "gridllm" / "bootstrap" / "grids" / NAME / "founding.json", file)
            for home in (*self.homes[1:threshold], self.homes[0], *self.homes[threshold:]):
                self._done(home, "sign", str(file))

    def start(self, *numbers: int) -> None:
        """Run these maintainers' first peers, until each can be dialled."""
        for number in numbers:
            run = ("bootstrap", "run", "--json", "--pace", self._pace)
            self.running[number] = Running(self.homes[number], *run, cold=self._cold)
        for number in numbers:
            self.running[number].wait_for('"authority"')

    def kill(self, number: int) -> None:
        """``kill -9``; the libp2p daemon follows by itself."""
        process = self.running.pop(number).process
        process.send_signal(signal.SIGKILL)
        process.wait(60)

    def events(self, number: int) -> list[dict[str, object]]:
        """What this maintainer's process said of candidates."""
        said = [json.loads(line) for line in self.running[number].output if line.startswith("{")]
        return [one for one in said if one["event"] == "candidate"]

    def close(self) -> None:
        """End all of them."""
        for running in self.running.values():
            running.__exit__(None, None, None)

    def _done(self, home: Path, *args: str) -> str:
        done = gridllm(home, "bootstrap", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass
class Watching:
    """A Watcher that remembers."""

    notes: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)

    def stage(self, name: str, done: float) -> None:
        if not self.stages or self.stages[-1] != name:
            self.stages.append(name)

    def queued(self, place: int, waiting: int) -> None:
        self.places.append((place, waiting))

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


@dataclass(frozen=True)
class Candidate:
    """A machine of this process that has joined the grid and is not admitted yet."""

    swarm: Swarm
    signed: SignedCharter
    manifest: Manifest

    def candidacy(self, *, memory_bytes: int = 96 << 20, **changes: object) -> Candidacy:
        """What it offers: one thread."""
        fields: dict[str, object] = {
            "entry": self.signed.charter.models[0],
            "manifest": self.manifest,
            "dtype": "float32",
            "roles": ("serve",),
            "device": "cpu",
            "threads": 1,
            "memory_bytes": memory_bytes,
            "disk_bytes": 1 << 30,
        }
        return Candidacy(**(fields | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def candidate(*addresses: str, identity: Identity | None = None) -> AsyncIterator[Candidate]:
    """Enter the grid of the first peers at ``addresses``."""
    first = PeerId(addresses[0].rsplit("/", 1)[-1])
    asking = await open_swarm(Identity.ephemeral(), initial_peers=[addresses[0]], client_only=True)
    try:
        signed = await fetch_charter(asking, first, timeout_s=BUSY_S)
        entry = signed.charter.models[0]
        raw = await fetch_manifest(asking, first, entry.model_root, timeout_s=BUSY_S)
        manifest = verify_manifest(raw, entry.model_root)
    finally:
        await asking.close()
    swarm = await open_swarm(
        identity or Identity.ephemeral(), initial_peers=addresses, host_maddrs=[LOOPBACK], namespace=signed.grid
    )
    try:
        yield Candidate(swarm, signed, manifest)
    finally:
        await swarm.close()
