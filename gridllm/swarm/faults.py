"""What hivemind and its daemon raise, in the swarm's own errors and in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from gridllm.errors import SwarmError, Unreachable
from gridllm.ids import PeerId
from gridllm.swarm.hivemind_parts import P2PDaemonError, P2PHandlerError, PeerID

DAEMON_FAULTS: Final = (P2PDaemonError, P2PHandlerError, OSError, EOFError)


@contextmanager
def faults_as(kind: type[SwarmError], text: str) -> Iterator[None]:
    """Raise the daemon's faults in this block as ``kind``: ``text``, and why."""
    try:
        yield
    except DAEMON_FAULTS as error:
        raise kind(f"{text}: {reason_of(error)}.") from error


def reason_of(error: BaseException) -> str:
    """Hivemind's text without its frame, on one line; of many addresses that failed, only how they failed."""
    text = str(error).replace("Connect failed. msg=", "")
    dials = dict.fromkeys(line.rsplit("] ", 1)[-1].rsplit(": ", 1)[-1] for line in text.splitlines() if "* [" in line)
    return " ".join((", ".join(dials) or text).split()).rstrip(".") or type(error).__name__


def hivemind_id(peer: PeerId) -> Any:
    """The peer as hivemind names it. Raises Unreachable."""
    try:
        return PeerID.from_base58(peer)
    except ValueError as error:
        raise Unreachable(f"{peer!r} is not a peer id.") from error
