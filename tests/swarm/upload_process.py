"""Two processes that tests kill: a leaderboard that takes one upload, and its author.

    python -m tests.swarm.upload_process serve FOLDER PORT            prints its address
    python -m tests.swarm.upload_process send FOLDER ADDRESS PAUSE    prints of each stream: bytes there, bytes in all

``FOLDER`` holds the model, its manifest, both keys and the vault; PAUSE are seconds before each piece.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from gridllm.identity.keys import Identity, load_or_create
from gridllm.ids import PeerId
from gridllm.ledger.paper import sign
from gridllm.ledger.statements import Delegation
from gridllm.models.manifest import Manifest, parse_manifest, root
from gridllm.swarm.libp2p import open_swarm
from gridllm_leaderboard.checking.facts import facts_of
from gridllm_leaderboard.upload import sending
from gridllm_leaderboard.upload.interface import Expected
from gridllm_leaderboard.upload.receiving import Receiving
from gridllm_leaderboard.upload.sending import Bundle, send_bundle
from gridllm_leaderboard.vault.vault import Vault

GRID, SUBMISSION = "9" * 64, "5" * 64


def manifest_in(folder: Path) -> Manifest:
    return parse_manifest((folder / "manifest.json").read_bytes())


def tell(fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


class OneDesk:
    """Awaits one model, of whoever says so."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        facts = facts_of(manifest)
        self._expected = Expected(root(manifest), facts.weights, facts.size, facts.parameters)

    async def expected(self, submission: str, account: str) -> Expected:
        return self._expected

    async def arrived(self, submission: str) -> None:
        with (self._folder / "arrived").open("a") as file:
            file.write(f"{submission}\n")

    async def refused(self, submission: str, why: str) -> None:
        (self._folder / "refused").write_text(why)


async def serve(folder: Path, port: str) -> None:
    identity = load_or_create(folder / "leaderboard.key")
    swarm = await open_swarm(identity, host_maddrs=(f"/ip4/127.0.0.1/tcp/{port}",))
    desk = OneDesk(folder, manifest_in(folder))
    await Receiving(Vault(folder / "vault", spare_bytes=0), GRID, desk).serve(swarm)
    tell(swarm.addresses[0])
    await asyncio.sleep(600)


async def send(folder: Path, address: str, pause_s: float) -> None:
    sending.BATCH = 1  # type: ignore[misc]  # so that each piece leaves before the next pause
    swarm = await open_swarm(Identity.ephemeral(), client_only=True, initial_peers=[address])
    author = load_or_create(folder / "author.key")
    bundle = Bundle(folder / "model", manifest_in(folder))
    read = bundle.read

    def slowly(digest: str, offset: int) -> bytes:
        time.sleep(pause_s)
        return read(digest, offset)

    bundle.read = slowly  # type: ignore[method-assign]

    async def find() -> tuple[PeerId, tuple[str, ...]]:
        return PeerId(address.rpartition("/")[2]), (address,)

    begun = [False]

    def delegation() -> bytes:
        begun[0] = True
        now = int(time.time())
        account = author.public_key.hex()
        return sign(Delegation(grid=GRID, account=account, client=swarm.peer, issued=now, expires=now + 600), author)

    def show(done: int, total: int) -> None:
        if begun[0]:
            begun[0] = False
            tell([done, total])

    await send_bundle(swarm, find, SUBMISSION, delegation, bundle, show)
    await swarm.close()


if __name__ == "__main__":
    command, where, what, *pause = sys.argv[1:]
    uvloop.run(serve(Path(where), what) if command == "serve" else send(Path(where), what, float(pause[0])))
