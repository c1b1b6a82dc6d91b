"""A candidate that cheats, as a process of its own: ``python -m tests.swarm.cheater_process KIND ADDRESS [TIMES]``.

It takes the way that everyone takes (``admit``), under a new name each time, prints one JSON line with each outcome,
and exits with 0 when it was admitted at last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridllm.admission.examination.prover import Prover
    from tests.swarm.authorities import Candidate

WAIT_S = 150.0
MEMORY_BYTES = 96 << 20  # above what the default minimums ask for the demo model


def program(kind: str, address: str, *more: str) -> tuple[str, ...]:
    """For ``Running(home, program=…)``."""
    return (sys.executable, "-m", "tests.swarm.cheater_process", kind, address, *more)


async def attempt(one: Candidate, prover: type[Prover], **offered: Any) -> dict[str, Any]:
    """One way through admission; what came of it."""
    from gridllm.admission.admit import NotAdmittedHere, admit
    from gridllm.admission.certificate import verify_signatures
    from gridllm.admission.examination.prover import answer_examination
    from gridllm.charter.board import NoticeBoard
    from gridllm.errors import GridError
    from tests.swarm.authorities import Watching

    candidacy = one.candidacy(memory_bytes=MEMORY_BYTES, **offered)

    async def answer(stream: Any, hello: Any, watcher: Any) -> Any:
        return await answer_examination(stream, prover(candidacy, one.signed.grid, one.swarm.peer), hello, watcher)

    outcome: dict[str, Any] = {"peer": one.swarm.peer, "admitted": False, "reason": "", "text": "", "figures": {}}
    try:
        raw = await admit(
            one.swarm, one.signed, NoticeBoard(one.signed), candidacy, Watching(), wait_s=WAIT_S, answer=answer
        )
    except NotAdmittedHere as refusal:
        figures = {} if refusal.figures is None else refusal.figures.model_dump()
        return outcome | {"reason": refusal.reason, "text": refusal.text, "figures": figures}
    except GridError as error:
        return outcome | {"reason": type(error).__name__, "text": str(error)}
    certificate = verify_signatures(raw, one.signed)
    return outcome | {
        "admitted": True,
        "figures": certificate.figures.model_dump(),
        "roles": list(certificate.roles),
        "certificate": raw.decode(),
    }


async def cheat(kind: str, address: str) -> dict[str, Any]:
    """What came of one cheat."""
    import torch

    from tests.swarm import cheaters
    from tests.swarm.authorities import candidate

    torch.set_num_threads(1)
    async with candidate(address) as one:
        if kind == "throttles":
            return await attempt(one, cheaters.Throttler, roles=("relay",), upload_mbit_s=cheaters.BOAST_MBIT_S)
        if kind == "relay":
            return await attempt(one, cheaters.Prover, roles=("relay",))
        if kind == "replays":
            tape = cheaters.Tape()
            first = await attempt(one, cheaters.recorder(tape))
            if not first["admitted"]:
                return first
            return await attempt(one, cheaters.player(tape))
        if kind == "copies":
            tape = cheaters.Tape()
            async with candidate(address) as other:
                leaving = cheaters.recorder(tape, leave_after_fill=True)
                given = await attempt(other, leaving)
            return await attempt(one, cheaters.player(tape)) | {"from": given["peer"]}
        return await attempt(one, cheaters.CHEATS[kind])


def main() -> None:
    import uvloop

    kind, address, *times = sys.argv[1:]
    admitted = False
    for _ in range(int(times[0]) if times else 1):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(cheat(kind, address))
        admitted = outcome["admitted"]
        print("OUTCOME " + json.dumps(outcome), flush=True)  # noqa: T201 - what it is for
    sys.exit(0 if admitted else 1)


if __name__ == "__main__":
    main()
