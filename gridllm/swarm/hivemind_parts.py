"""The parts of hivemind that the swarm uses: its libp2p daemon and its DHT. The only import of hivemind.

``import hivemind`` brings its training half along: 1.5 s and 46 MB that a node never uses. So these parts are imported
beneath a placeholder of the package; it is taken away again, and an ``import hivemind`` elsewhere works as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

from gridllm.errors import SwarmError
from gridllm.swarm.child import spawn


@contextlib.contextmanager
def _without_init(name: str) -> Iterator[None]:
    """Let submodules of the package ``name`` be imported without running its ``__init__``."""
    if name in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise SwarmError(
            f"The package {name} is missing; install gridllm again: pip install --force-reinstall gridllm."
        )
    placeholder = ModuleType(name)
    placeholder.__path__ = list(spec.submodule_search_locations)
    placeholder.__spec__ = spec
    sys.modules[name] = placeholder
    try:
        yield
    finally:
        del sys.modules[name]


with _without_init("hivemind"):
    from hivemind.dht.node import DHTNode
    from hivemind.dht.routing import DHTID
    from hivemind.dht.storage import DHTLocalStorage
    from hivemind.dht.validation import DHTRecord, RecordValidatorBase
    from hivemind.p2p import P2P, P2PDaemonError, P2PHandlerError, PeerID, p2p_daemon
    from hivemind.p2p.p2p_daemon_bindings.utils import raise_if_failed, read_pbmsg_safe, write_pbmsg
    from hivemind.proto import p2pd_pb2
    from hivemind.utils.logging import use_hivemind_log_handler
    from hivemind.utils.multiaddr import Multiaddr

use_hivemind_log_handler("nowhere")  # its messages go where ours go


def _with_our_spawn() -> ModuleType:
    """``asyncio`` but for how it starts a process (``child.py``); hivemind leaves no other choice of it."""
    ours = ModuleType("asyncio")
    vars(ours).update(vars(asyncio))
    vars(ours)["subprocess"] = SimpleNamespace(**vars(asyncio.subprocess) | {"create_subprocess_exec": spawn})
    return ours


p2p_daemon.asyncio = _with_our_spawn()

__all__ = [
    "DHTID",
    "P2P",
    "DHTLocalStorage",
    "DHTNode",
    "DHTRecord",
    "Multiaddr",
    "P2PDaemonError",
    "P2PHandlerError",
    "PeerID",
    "RecordValidatorBase",
    "p2pd_pb2",
    "raise_if_failed",
    "read_pbmsg_safe",
    "write_pbmsg",
]
