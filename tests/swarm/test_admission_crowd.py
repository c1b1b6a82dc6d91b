"""Twenty candidates at once before one authority: all are answered, and it stays small and quick meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from gridllm.charter.fetch import CHARTER_CALL
from gridllm.ids import PeerId
from tests.command import Running
from tests.swarm.authorities import Council, candidate

CANDIDATES = 20
MOST_PSS_BYTES = 600 * 1024**2
MOST_CHARTER_S = 1.0


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_crowd(tmp_path: Path) -> None:
    # Twenty on two cores slow each other's lines, which is no fault of the authority.
    line = ("--min-upload", "0.5", "--min-download", "0.5")
    council = Council(tmp_path, count=1, threshold=1, admission=line, pace="full", cold=True)
    try:
        council.start(0)
        address = council.addresses[0]
        itself = psutil.Process(council.running[0].pid)
        program = (sys.executable, "-m", "tests.swarm.crowd")
        pss: list[int] = []
        waits: list[float] = []
        with Running(tmp_path / "crowd", address, str(CANDIDATES), program=program, cold=True) as crowd:
            async with candidate(address) as onlooker:
                first = PeerId(address.rsplit("/", 1)[-1])
                while crowd.process.poll() is None:
                    asked = time.monotonic()
                    await onlooker.swarm.call(first, CHARTER_CALL, b"", timeout_s=30)
                    waits.append(time.monotonic() - asked)
                    if len(waits) % 10 == 0:
                        family = [itself, *itself.children(recursive=True)]
                        pss.append(sum(one.memory_full_info().pss for one in family))
                    await asyncio.sleep(0.2)
        told = [json.loads(line) for line in crowd.output if line.startswith("{")]
        assert [one["error"] for one in told] == [""] * CANDIDATES, crowd.output
        places = [one["places"] for one in told if one["places"]]
        assert len(places) == CANDIDATES - 2, "the others were told their place"
        assert all(seen == sorted(seen, reverse=True) for seen in ([place for place, _ in one] for one in places))
        assert max(pss) < MOST_PSS_BYTES
        assert max(waits) < MOST_CHARTER_S
    finally:
        council.close()
