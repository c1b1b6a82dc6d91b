"""Real processes on a grid that asks for certificates: who has none is left out, who loses it leaves the chains."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gridllm.admission.certificate import CERTIFICATE_TYPE, Certificate
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
from tests.swarm.grid import BUSY_S, ProcessGrid, process_grid
from tests.swarm.outsider import OUTSIDER

pytestmark = pytest.mark.timeout(420)

PROMPT = "Once upon a time"
GENERATIONS = 200
WITHIN_S = 60.0  # a revoked node leaves all chains


def certify(grid: ProcessGrid, key: Path) -> PeerId:
    """Put a certificate for the node with this key where ``gridllm serve`` looks first."""
    signed = Pins(grid.data_dir).current()
    maintainer = load(Home(grid.maintainer / "data" / "gridllm" / "bootstrap").maintainer_key("test"))
    peer, entry, now = load_or_create(key).peer, signed.charter.models[0], int(time.time())
    certificate = Certificate(
        grid=signed.grid,
        peer=peer,
        model=entry.root,
        dtype=entry.dtype,
        roles=["serve"],
        figures=Figures(decode_blocks_per_s=500.0),
        issued=now,
        expires=now + 86_400,
        measured_by=[maintainer.public_key.hex()],
    )
    Certificates(grid.data_dir).save(signed, sign_statement(certificate, CERTIFICATE_TYPE, [maintainer]))
    return peer


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGrid]:
    """Admitted nodes on 0:4, 4:8 and 4:8."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("grid")
    with process_grid(folder, admission=()) as grid:
        for number in range(3):
            certify(grid, folder / f"node{number}.key")
        grid.add("0:4", "4:8", "4:8")
        yield grid


@pytest.fixture(scope="module")
def outsider(grid: ProcessGrid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerId]:
    key = tmp_path_factory.mktemp("outsider") / "key"
    args = grid.serve_args("--identity", str(key), "--blocks", "0:8")
    with Running(grid.home, *args, program=OUTSIDER) as running:
        line = running.wait_for("serving blocks ")
        yield PeerId(line.split(" as ", 1)[1].split(" ", 1)[0])


@pytest.fixture(scope="module")
def client(grid: ProcessGrid) -> Iterator[Grid]:
    with Grid(grid.data_dir) as client:
        yield client


def test_status_does_not_list_it_unless_asked(grid: ProcessGrid, outsider: PeerId) -> None:
    admitted = {node.peer for node in grid.nodes}
    plain, full = (gridllm(grid.home, "status", "--json", *more) for more in ((), ("--all",)))
    (model,) = json.loads(plain.stdout)["models"]
    assert {node["peer"] for node in model["nodes"]} == admitted
    assert all(80_000 < node["certificate"]["left_s"] <= 86_400 for node in model["nodes"])
    assert all(node["blocks_per_s"] <= 500 for node in model["nodes"])
    assert outsider not in plain.stdout
    (model,) = json.loads(full.stdout)["models"]
    assert {node["peer"] for node in model["nodes"]} == admitted
    (left_out,) = model["not_admitted"]
    assert (left_out["peer"], left_out["rule"], left_out["state"]) == (outsider, "missing", "serving")


def test_it_is_never_used_in_200_generations(grid: ProcessGrid, outsider: PeerId, client: Grid) -> None:
    model = client.model("demo")
    texts = set()
    for _ in range(GENERATIONS):
        made = model.complete(PROMPT, max_new_tokens=3, temperature=0)
        assert outsider not in {peer for peer, _, _ in made.chain}
        texts.add(made.text)
    assert len(texts) == 1
    assert served_by(client, outsider) == 0, "the outsider was given work"
    assert served_by(client, PeerId(grid.nodes[0].peer)) > GENERATIONS


def served_by(client: Grid, peer: PeerId) -> int:
    """Tokens that a node says it took through its blocks."""
    import msgspec

    async def ask() -> bytes:
        swarm = client._net.swarm
        assert swarm is not None
        await swarm.connect(peer, (), timeout_s=BUSY_S)
        return await swarm.call(peer, METRICS_CALL, b"", timeout_s=BUSY_S)

    return int(msgspec.msgpack.decode(client._runtime.run(ask()))["tokens"])


async def test_nodes_neither_hear_it_nor_push_to_it(grid: ProcessGrid, outsider: PeerId) -> None:
    signed = Pins(grid.data_dir).current()
    node, entry = PeerId(grid.nodes[1].peer), signed.charter.models[0]
    swarm = await open_swarm(
        Identity.ephemeral(), initial_peers=[grid.address], client_only=True, namespace=signed.grid
    )
    heard: asyncio.Queue[AnyMessage] = asyncio.Queue()
    try:
        await swarm.connect(node, (), timeout_s=BUSY_S)
        stream = await swarm.open_stream(node, LINK_STREAM, timeout_s=BUSY_S)
        link = Link(stream, on_message=lambda _, message, __: heard.put_nowait(message), opener=True)
        running = asyncio.create_task(link.run())
        stolen = (await record_of(grid, grid.nodes[0].peer)).certificate
        for upstream, shown, following in (
            (outsider, b"", None),
            (outsider, stolen, None),
            (swarm.peer, b"", Hop(outsider, [], b"")),
            (swarm.peer, b"", Hop(outsider, [], stolen)),
        ):
            fields = {"model": entry.root, "dtype": entry.dtype, "start": 4, "end": 8, "rows": 1, "epoch": 1}
            opened = Open(
                call=1,
                session=bytes(16),
                upstream=upstream,
                upstream_certificate=shown,
                next=following,
                need=[0],
                **fields,
            )
            link.send(opened)
            refused = await asyncio.wait_for(heard.get(), 60)
            assert isinstance(refused, Refused)
            assert (refused.code, refused.peer) == ("not_admitted", outsider)
            assert ("(holder)" if stolen in (shown, following and following.certificate) else "(missing)") in (
                refused.message
            )
        await link.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await swarm.close()


async def record_of(grid: ProcessGrid, peer: str):
    from gridllm.swarm.directory import Directory

    signed = Pins(grid.data_dir).current()
    swarm = await open_swarm(
        Identity.ephemeral(), initial_peers=[grid.address], client_only=True, namespace=signed.grid
    )
    try:
        records = await Directory(swarm, signed.grid).nodes(signed.charter.models[0].model_root)
        return next(record for record in records if record.peer == peer)
    finally:
        await swarm.close()


def test_a_revoked_node_leaves_the_chain_of_a_running_generation(grid: ProcessGrid, client: Grid) -> None:
    """Text goes on throughout, and stays the same."""
    model = client.model("demo")
    before = model.complete(PROMPT, max_new_tokens=200, temperature=0)
    victim = before.chain[-1][0]
    command = ("bootstrap", "revoke", victim, "--why", "a test", "--for", "1h")
    revoking = threading.Thread(target=gridllm, args=(grid.maintainer, *command))
    began = time.monotonic()
    revoking.start()
    while True:
        made = model.complete(PROMPT, max_new_tokens=200, temperature=0)
        assert made.text == before.text
        if victim not in {peer for peer, _, _ in made.chain}:
            break
        assert time.monotonic() - began < WITHIN_S, f"still in use {WITHIN_S:.0f} s after its revocation"
    revoking.join()
    listed = json.loads(gridllm(grid.home, "status", "--json").stdout)["models"][0]["nodes"]
    assert victim not in {node["peer"] for node in listed}
