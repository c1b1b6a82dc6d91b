"""How many nodes that serve would not reach new minimums."""

from __future__ import annotations

from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import Admission, Minimums
from gridllm.identity.keys import Identity
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork
from gridllm_bootstrap.notices.reach import count_short
from tests.certificates import certified, closed_grid
from tests.charters import ENTRY
from tests.unit.planning_records import node


async def test_nodes_below_are_counted() -> None:
    signed, network = closed_grid(models=[ENTRY]), MemoryNetwork()
    for number in range(2):
        swarm = network.join(Identity.ephemeral())
        raw = certified(signed, swarm.peer)
        record = node(number, 0, 8, peer=swarm.peer, model=ENTRY.model_root, certificate=raw)
        await Directory(swarm, signed.grid).publish(record)
    onlooker, board = network.join(Identity.ephemeral()), NoticeBoard(signed)
    for asked, short in ((50.0, 0), (150.0, 2)):  # certified for 100
        admission = Admission(required=True, serve=Minimums(decode_blocks_per_s=asked))
        assert await count_short(onlooker, signed, board, admission) == (short, 2)
