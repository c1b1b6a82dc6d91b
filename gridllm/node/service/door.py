"""Whom a node works with: peers of a chain show an admission certificate, clients need none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gridllm.admission.gate import Gatekeeper
from gridllm.errors import CertificateError, NotAdmitted
from gridllm.ids import ModelRoot, PeerId
from gridllm.node.service.session import NodeSession
from gridllm.wire.messages import Hop, Open, Resume


class Door:
    """Asks the gate about the peers that sessions name, for this node's own model and dtype."""

    def __init__(
        self,
        gate: Gatekeeper | None,
        model: ModelRoot,
        dtype: str,
        own_fault: Callable[[], CertificateError | None],
    ) -> None:
        """
        Args:
            gate: None lets everybody in.
            own_fault: why this node itself is not admitted now; None when it is.
        """
        self._gate = gate
        self._model = model
        self._dtype = dtype
        self._own_fault = own_fault

    def check_request(self, asked: Open | Resume, client: PeerId) -> None:
        """Check everyone that a client wants to bring together here.

        Raises:
            NotAdmitted: this node, the upstream or the next hop is not admitted; ``blamed`` says which.
        """
        if self._gate is None or not self._gate.required:
            return
        own = self._own_fault()
        if own is not None:
            raise NotAdmitted(f"This node may not serve now ({own.rule}); try another. {own}")
        self._check(PeerId(asked.upstream), asked.upstream_certificate, client, "take steps from")
        if asked.next is not None:
            self._check(PeerId(asked.next.peer), asked.next.certificate, None, "push to")

    def check_upstream(self, session: NodeSession) -> None:
        """Check that steps may still be taken from the session's upstream.

        Raises:
            NotAdmitted: its certificate expired or was revoked since.
        """
        self._check(session.upstream, session.upstream_certificate, session.client, "take steps from")

    def faults(self, sessions: Iterable[NodeSession]) -> Iterator[tuple[NodeSession, NotAdmitted]]:
        """Living sessions with a neighbour that is admitted no longer, and who that is; the next hop before others."""
        if self._gate is None or not self._gate.required:
            return
        known: dict[tuple[PeerId, bytes, str], NotAdmitted | None] = {}  # sessions share neighbours
        for session in sessions:
            for neighbour in _neighbours(session):
                if neighbour not in known:
                    known[neighbour] = self._refusal(*neighbour)
                if (refusal := known[neighbour]) is not None:
                    yield session, refusal
                    break

    def _check(self, peer: PeerId, certificate: bytes, client: PeerId | None, purpose: str) -> None:
        if peer != client and (refusal := self._refusal(peer, certificate, purpose)) is not None:
            raise refusal

    def _refusal(self, peer: PeerId, certificate: bytes, purpose: str) -> NotAdmitted | None:
        """Why this node does not work with ``peer`` in that way; None: it does."""
        if self._gate is None:
            return None
        try:
            self._gate.check(certificate, peer, model=self._model, dtype=self._dtype)
        except CertificateError as error:
            refusal = NotAdmitted(f"This node does not {purpose} {peer} ({error.rule}): {error}")
            refusal.blamed = peer
            return refusal
        return None


def _neighbours(session: NodeSession) -> Iterator[tuple[PeerId, bytes, str]]:
    hop: Hop | None = session.next
    if hop is not None:
        yield PeerId(hop.peer), hop.certificate, "push to"
    if session.upstream != session.client:
        yield session.upstream, session.upstream_certificate, "take steps from"
