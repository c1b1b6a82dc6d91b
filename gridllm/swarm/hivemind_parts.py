"""The parts of hivemind that the swarm uses: its libp2p daemon and its DHT. The only import of hivemind.

``import hivemind`` brings its training half along, and torch with it: seconds and 200 MB that a first peer, a relay or
``gridllm join`` never uses. So these parts are imported beneath placeholders of its packages; they are taken away
again, and an ``import hivemind`` elsewhere works as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Final

from gridllm.errors import SwarmError
from gridllm.swarm.child import spawn

_HEAVY: Final = ("hivemind", "hivemind.dht", "hivemind.utils")  # packages whose ``__init__`` imports torch
_UTILS: Final = {
    "asyncio": ("as_aiter", "amap_in_executor", "switch_to_uvloop", "enter_asynchronously"),
    "logging": ("get_logger",),
    "serializer": ("MSGPackSerializer", "SerializerBase"),
    "timed_storage": (
        "MAX_DHT_TIME_DISCREPANCY_SECONDS",
        "DHTExpiration",
        "TimedStorage",
        "ValueWithExpiration",
        "get_dht_time",
    ),
}
"""What ``hivemind.utils`` offers without torch: its module → names."""


@contextlib.contextmanager
def _without_init(*names: str) -> Iterator[None]:
    """Let submodules of these packages be imported without running their ``__init__``."""
    placed = [name for name in names if name not in sys.modules]
    for name in placed:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise SwarmError(
                f"The package {name} is missing; install gridllm again: pip install --force-reinstall gridllm."
            )
        placeholder = ModuleType(name)
        placeholder.__path__ = list(spec.submodule_search_locations)
        placeholder.__spec__ = spec
        sys.modules[name] = placeholder
    if "hivemind.utils" in placed:
        for module, offered in _UTILS.items():
            found = vars(importlib.import_module(f"hivemind.utils.{module}"))
            vars(sys.modules["hivemind.utils"]).update({name: found[name] for name in offered})
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]


with _without_init(*_HEAVY):
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
