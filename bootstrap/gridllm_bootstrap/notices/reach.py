"""How many of the nodes that serve now would reach new minimums, by what their certificates say."""

from __future__ import annotations

from gridllm.admission.certificate import verify_signatures
from gridllm.admission.figures import roles_met
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import SignedCharter
from gridllm.charter.entering import visiting
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.errors import GridError
from gridllm.swarm.directory import Directory
from gridllm.swarm.interface import Swarm


async def ask_who_falls_short(signed: SignedCharter, pins: Pins) -> str:
    """A sentence for the maintainer; nothing where no peer of the grid answers, or nobody serves."""
    board = NoticeBoard(signed, pins.notices_path(signed))
    if not board.admission.required:
        return ""
    try:
        async with visiting(signed, pins) as swarm:
            short, nodes = await count_short(swarm, signed, board, board.admission)
    except GridError:
        return ""
    if nodes == 0:
        return ""
    return f"Of {nodes} admitted node{'' if nodes == 1 else 's'} that serve now, {short} would not reach them."


async def count_short(swarm: Swarm, signed: SignedCharter, board: NoticeBoard, admission: Admission) -> tuple[int, int]:
    """How many certified nodes fall short of the minimums to serve, and how many there are.

    Raises:
        SwarmError: the grid does not answer.
    """
    directory = Directory(swarm, signed.grid, Gatekeeper(signed, board).admit)
    figures = {
        record.peer: verify_signatures(record.certificate, signed).figures
        for entry in Catalogue(signed, board).entries
        for record in await directory.nodes(entry.model_root)
        if record.certificate
    }
    return sum("serve" not in roles_met(one, admission) for one in figures.values()), len(figures)
