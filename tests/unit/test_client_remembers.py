"""A client keeps the addresses of nodes it met: when the first peers are gone, it enters by these."""

from __future__ import annotations

import time
from pathlib import Path

from gridllm.charter.document import sign_charter
from gridllm.charter.pin import Pins
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.record import NodeRecord
from gridllm_client.net import MAX_REMEMBERED, Net, remember
from tests.charters import MAINTAINERS, charter

SIGNED = sign_charter(charter(), MAINTAINERS[:2])


def places(count: int) -> dict[PeerId, tuple[str, ...]]:
    peers = [Identity.ephemeral().peer for _ in range(count)]
    return {peer: (f"/ip4/127.0.0.1/tcp/{4000 + at}/p2p/{peer}",) for at, peer in enumerate(peers)}


def test_nodes_in_use_come_first_and_not_all_are_kept(tmp_path: Path) -> None:
    pins, seen = Pins(tmp_path), places(3 * MAX_REMEMBERED)
    used = list(seen)[-2:]
    remember(pins, SIGNED, seen, used)
    kept = pins.known_peers(SIGNED)
    assert len(kept) == MAX_REMEMBERED
    assert set(list(kept)[-2:]) == set(used), "the latest last"
    assert kept.items() <= seen.items()


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "grids").write_text("no folder")
    remember(Pins(tmp_path), SIGNED, places(1), [])


async def test_who_leaves_the_grid_knows_more_than_its_first_peers(tmp_path: Path) -> None:
    pins, network = Pins(tmp_path), MemoryNetwork()
    pins.pin(SIGNED)
    node, (entry,) = network.join(Identity.ephemeral()), SIGNED.charter.models
    record = NodeRecord(
        peer=node.peer,
        version="0",
        model=entry.root,
        start=0,
        end=entry.blocks,
        state="serving",
        dtype=entry.dtype,
        blocks_per_s=1.0,
        free_tokens=1,
        total_tokens=1,
        next_hop_ms={},
        addresses=[f"/ip4/127.0.0.1/tcp/4000/p2p/{node.peer}"],
        since=time.time(),
    )
    await Directory(node, SIGNED.grid).publish(record)
    net = Net(SIGNED, pins)
    await net.enter(network.join(Identity.ephemeral()), None)
    assert len((await net.status())[entry.name]) == 1
    await net.leave()
    assert pins.initial_peers(SIGNED) == (*SIGNED.charter.first_peers, *record.addresses)
