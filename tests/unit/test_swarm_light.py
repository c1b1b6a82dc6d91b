"""First peers, relays and ``gridllm join`` load no torch: the swarm does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

SWARM = "import sys, gridllm.swarm.libp2p, gridllm.swarm.directory; print('torch' in sys.modules)"
AFTERWARDS = """
import gridllm.swarm.hivemind_parts as parts, hivemind
from hivemind.dht import DHTNode
from hivemind.p2p import P2P
from hivemind.utils import MPFuture
print(P2P is parts.P2P and DHTNode is parts.DHTNode and hivemind.DHT.__module__ == "hivemind.dht.dht")
"""
BEFORE = """
import hivemind, hivemind.dht, gridllm.swarm.hivemind_parts as parts
print(hivemind.dht.DHTNode is parts.DHTNode)
"""


@pytest.mark.parametrize(("code", "said"), [(SWARM, "False"), (AFTERWARDS, "True"), (BEFORE, "True")])
def test_hivemind_is_imported_in_part_and_stays_whole_for_others(code: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout.strip(), done.returncode) == (said, 0), done.stderr
