"""Cheaters as real processes, before a real authority, real nodes and a real client: each is refused, and told why."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.admission.certificate import CERTIFICATE_TYPE, SKEW_S, Certificate
from gridllm.admission.figures import Figures
from gridllm.admission.store import Certificates
from gridllm.charter.pin import Pins
from gridllm.identity.keys import Identity, load, load_or_create
from gridllm.identity.statement import sign_statement
from gridllm.ids import PeerId
from gridllm.node.service.switchboard import METRICS_CALL
from gridllm.swarm.libp2p import open_swarm
from gridllm.swarm.link import LINK_STREAM, Link
from gridllm.wire.messages import AnyMessage, Hop, Open, Refused
from gridllm_bootstrap.home import Home
from gridllm_client import Grid
from tests.command import Running, gridllm
from tests.swarm import cheater_node, cheater_process
from tests.swarm.cheaters import REASONS
from tests.swarm.grid import BUSY_S, ProcessGrid

pytestmark = pytest.mark.timeout(400)

LOW = tuple(
    flag
    for name in ("decode", "batch", "prefill", "upload", "download")
    for flag in (f"--min-{name}", "0.1", *((f"--min-{name}", "relay=1") if name.endswith("load") else ()))
)
MINIMUMS = (*LOW, "--min-memory", "1MiB", "--min-disk", "1MiB")
SECONDS = 160.0  # for one cheater's process
LANES = 2  # as many as the authority measures together
GENERATIONS = 25
BOAST = 1e6  # blocks/s that an altered certificate says

Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    grid = ProcessGrid(tmp_path_factory.mktemp("grid"))
    try:
        grid.found("demo", admission=MINIMUMS)
        yield grid
    finally:
        grid.close()


@pytest.fixture(scope="module")
def outcomes(grid: ProcessGrid) -> Iterator[dict[str, Future[Outcome]]]:
    """What becomes of each kind of cheater, and of an honest machine, two at a time."""

    def come(kind: str) -> Outcome:
        program = cheater_process.program(kind, grid.address)
        with Running(grid.home.parent / kind, program=program) as running:
            line = running.wait_for("OUTCOME ", SECONDS)
            assert running.wait() == (0 if '"admitted": true' in line else 1)
        outcome: Outcome = json.loads(line.split("OUTCOME ", 1)[1])
        return outcome

    with ThreadPoolExecutor(LANES) as pool:
        yield {kind: pool.submit(come, kind) for kind in ("honest", *REASONS, "relay")}


@pytest.mark.parametrize("kind", REASONS)
def test_who_cheats_in_the_examination_is_told_his_reason(outcomes: dict[str, Future[Outcome]], kind: str) -> None:
    outcome = outcomes[kind].result(SECONDS)
    assert (outcome["admitted"], outcome["reason"]) == (False, REASONS[kind]), outcome
    assert 40 < len(outcome["text"]) <= 1024
    assert outcome["text"].endswith(".")
    assert "Traceback" not in outcome["text"]


def test_an_honest_machine_is_admitted_among_them(outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes["honest"].result(SECONDS)
    assert outcome["admitted"], outcome
    assert "serve" in outcome["roles"]


def test_who_asks_to_relay_gets_no_certificate_to_serve(outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes["relay"].result(SECONDS)
    assert outcome["admitted"], outcome
    assert "serve" not in outcome["roles"]
    assert outcome["figures"]["decode_blocks_per_s"] == 0


# Certificates


def certified(grid: ProcessGrid, peer: PeerId, **changes: Any) -> bytes:
    """What the maintainer signs."""
    signed = Pins(grid.data_dir).current()
    maintainer = load(Home(grid.maintainer / "data" / "gridllm" / "bootstrap").maintainer_key("test"))
    entry, now = signed.charter.models[0], int(time.time())
    fields: dict[str, Any] = {
        "grid": signed.grid,
        "peer": peer,
        "model": entry.root,
        "dtype": entry.dtype,
        "roles": ["serve"],
        "figures": Figures(decode_blocks_per_s=500.0),
        "issued": now,
        "expires": now + 86_400,
        "measured_by": [maintainer.public_key.hex()],
    }
    return sign_statement(Certificate(**(fields | changes)), CERTIFICATE_TYPE, [maintainer])


def raised(raw: bytes) -> bytes:
    """The same certificate with other figures, under the same signatures."""
    envelope = json.loads(raw)
    says = json.loads(base64.b64decode(envelope["payload"]))
    says["figures"]["decode_blocks_per_s"] = BOAST
    spelt = json.dumps(says, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps(envelope | {"payload": base64.b64encode(spelt).decode()}).encode()


RULES = {"altered": "forged", "stolen": "holder", "expired": "expired", "other-identity": "holder", "relay": "role"}
"""Cheat → the rule that its certificate breaks."""


@pytest.fixture(scope="module")
def honest(grid: ProcessGrid) -> tuple[PeerId, bytes]:
    """A node on all blocks, and its certificate."""
    peer = load_or_create(grid.home.parent / "node0.key").peer
    raw = certified(grid, peer)
    Certificates(grid.data_dir).save(Pins(grid.data_dir).current(), raw)
    grid.add("0:8")
    return peer, raw


@pytest.fixture(scope="module")
def cheats(
    grid: ProcessGrid, honest: tuple[PeerId, bytes], outcomes: dict[str, Future[Outcome]]
) -> Iterator[dict[str, tuple[PeerId, bytes]]]:
    """A node that serves on each kind of bad certificate, its peer and what it shows."""
    folder, now = grid.home.parent / "cheats", int(time.time())
    folder.mkdir()
    keys = {kind: load_or_create(folder / f"{kind}.key").peer for kind in RULES}
    shown = {
        "altered": raised(certified(grid, keys["altered"])),
        "stolen": honest[1],
        "expired": certified(grid, keys["expired"], issued=now - 2000, expires=now - 2 * SKEW_S),
        "other-identity": outcomes["honest"].result(SECONDS)["certificate"].encode(),
        "relay": certified(grid, keys["relay"], roles=["relay", "seed"]),
    }
    with ExitStack() as stack:
        started = []
        for kind, raw in shown.items():
            file: Path = folder / f"{kind}.json"
            file.write_bytes(raw)
            args = grid.serve_args("--identity", str(folder / f"{kind}.key"), "--blocks", "0:8")
            started.append(stack.enter_context(Running(grid.home, *args, program=cheater_node.program(file))))
        for running in started:
            running.wait_for("serving blocks ", 120)
        yield {kind: (keys[kind], raw) for kind, raw in shown.items()}


def test_status_names_what_is_wrong_with_each(grid: ProcessGrid, cheats: dict[str, tuple[PeerId, bytes]]) -> None:
    plain, full = (gridllm(grid.home, "status", "--json", *more) for more in ((), ("--all",)))
    assert not any(peer in plain.stdout for peer, _ in cheats.values())
    (model,) = json.loads(full.stdout)["models"]
    left_out = {node["peer"]: node for node in model["not_admitted"]}
    assert {kind: left_out[peer]["rule"] for kind, (peer, _) in cheats.items()} == RULES
    for node in left_out.values():
        assert node["state"] == "serving"
        assert node["why"].endswith(".")


def test_a_client_never_uses_them(
    grid: ProcessGrid, honest: tuple[PeerId, bytes], cheats: dict[str, tuple[PeerId, bytes]]
) -> None:
    with Grid(grid.data_dir) as client:
        model = client.model("demo")
        for _ in range(GENERATIONS):
            made = model.complete("Once upon a time", max_new_tokens=3, temperature=0)
            assert [peer for peer, _, _ in made.chain] == [honest[0]]
        assert served_by(client, honest[0]) > GENERATIONS
        for kind, (peer, _) in cheats.items():
            assert served_by(client, peer) == 0, kind


def served_by(client: Grid, peer: PeerId) -> int:
    """Tokens that a node says it took through its blocks."""

    async def ask() -> bytes:
        swarm = client._net.swarm
        assert swarm is not None
        await swarm.connect(peer, (), timeout_s=BUSY_S)
        return await swarm.call(peer, METRICS_CALL, b"", timeout_s=BUSY_S)

    return int(msgspec.msgpack.decode(client._runtime.run(ask()))["tokens"])


async def test_an_honest_node_takes_no_push_from_them_and_pushes_to_none(
    grid: ProcessGrid, honest: tuple[PeerId, bytes], cheats: dict[str, tuple[PeerId, bytes]]
) -> None:
    signed = Pins(grid.data_dir).current()
    entry = signed.charter.models[0]
    swarm = await open_swarm(
        Identity.ephemeral(), initial_peers=[grid.address], client_only=True, namespace=signed.grid
    )
    heard: asyncio.Queue[AnyMessage] = asyncio.Queue()
    try:
        await swarm.connect(honest[0], (), timeout_s=BUSY_S)
        stream = await swarm.open_stream(honest[0], LINK_STREAM, timeout_s=BUSY_S)
        link = Link(stream, on_message=lambda _, message, __: heard.put_nowait(message), opener=True)
        running = asyncio.create_task(link.run())
        span: dict[str, Any] = {"model": entry.root, "dtype": entry.dtype, "start": 0, "end": 8, "rows": 1, "epoch": 1}
        for kind, (peer, raw) in cheats.items():
            for upstream, shown, following in ((peer, raw, None), (swarm.peer, b"", Hop(peer, [], raw))):
                asked = Open(
                    call=1,
                    session=bytes(16),
                    upstream=upstream,
                    upstream_certificate=shown,
                    next=following,
                    need=[0],
                    **span,
                )
                link.send(asked)
                refused = await asyncio.wait_for(heard.get(), 60)
                assert isinstance(refused, Refused), (kind, refused)
                assert (refused.code, refused.peer) == ("not_admitted", peer)
                assert f"({RULES[kind]})" in refused.message
        await link.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await swarm.close()
