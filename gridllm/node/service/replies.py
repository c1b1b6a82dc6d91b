"""What a node says to a client or a neighbour besides results: refusals, its own faults, a next hop that is lost."""

from __future__ import annotations

import logging

from gridllm.errors import GridError, NextHopLost, NodeFault, Refusal
from gridllm.node.service.session import NodeSession
from gridllm.swarm.link import Link
from gridllm.wire.messages import AnyMessage, Refused

log = logging.getLogger(__name__)


def send(link: Link, message: AnyMessage, body: bytes | memoryview = b"") -> None:
    """Send to a peer that may be gone; its link's end is handled where the link runs."""
    try:
        link.send(message, body)
    except GridError as error:
        log.debug("Could not send %s to %s: %s", type(message).__name__, link.peer, error)


def refused(refusal: Refusal, session: bytes | None = None, call: int | None = None) -> Refused:
    """The message that carries a refusal."""
    return Refused(call, session, refusal.code, str(refusal)[:1024], refusal.blamed)


def fault(error: Exception) -> NodeFault:
    """What a peer is told of a failure that is this node's own; the log has the rest."""
    log.error("A request failed", exc_info=error)
    return NodeFault(f"The node failed to serve the request: {type(error).__name__}: {error}.")


def tell_unsent(session: NodeSession, error: GridError) -> None:
    """A client that is gone has noticed itself; a next hop that is gone, its client must hear of."""
    if session.next is not None:
        tell_next_lost(session, str(error))


def tell_next_lost(session: NodeSession, reason: str) -> None:
    """Tell the client that its session cannot be pushed on."""
    peer = session.next.peer if session.next is not None else None
    text = f"The push to {peer} failed: {reason}"
    send(session.client_link, Refused(None, session.id, NextHopLost.code, text[:1024], peer))
