"""One hop of a session: the node's place in the chain, and what it is asked so as to come into the chain's shape."""

from __future__ import annotations

from dataclasses import dataclass

from gridllm.errors import Refusal, SessionExists, SwarmError, UnknownSession
from gridllm.ids import PeerId, SessionId
from gridllm.wire.messages import Hop as NextHop
from gridllm.wire.messages import Open, Payment, Ready, Resume
from gridllm.wire.record import NodeRecord
from gridllm_client.node_link import Blamed, NodeLink
from gridllm_client.repair import Call
from gridllm_client.tab import Tab
from gridllm_client.terms import Patience, Terms


@dataclass(slots=True, eq=False)
class Hop:
    """One node's place in the chain."""

    record: NodeRecord
    start: int
    end: int
    link: NodeLink | None = None
    opened: bool = False  # the node holds the session
    tab: Tab | None = None  # what it is owed; None: it serves without pay
    payment: Payment | None = None  # what it is shown when it opens the session

    @property
    def peer(self) -> PeerId:
        """The node."""
        return self.record.peer

    @property
    def lost(self) -> bool:
        """Whether the node can no longer be reached over the link it was opened on."""
        return self.opened and (self.link is None or self.link.lost is not None)


class HopFailed(Exception):  # never leaves the client: tells a repair whom to replace
    """A hop could not be brought into the new shape."""

    def __init__(
        self,
        peer: PeerId,
        error: SwarmError | Refusal,
        blamed: PeerId | None = None,
        unreachable: tuple[PeerId, ...] = (),
    ) -> None:
        super().__init__(str(error))
        self.peer = peer
        self.error = error
        self.unreachable = unreachable
        """Other hops that could not be reached in the same attempt."""
        self.blamed = blamed
        """The next hop, when the node answered that it cannot reach it."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """One attempt to bring all hops of a session into the same shape."""

    session: SessionId
    epoch: int
    client: PeerId  # pushes to the head
    terms: Terms
    patience: Patience
    call: Call

    async def ask(self, link: NodeLink, hop: Hop, before: Hop | None, after: Hop | None, need: list[int]) -> Ready:
        """Ask the way the session stands in our books; when the node's books differ, the other way.

        Args:
            link: to the hop's node.
            before: the hop that pushes to this one; None: the client does.
            after: the hop that this one pushes to; None: it is the tail.
            need: per row, the position from which the next hop, or the client, must be sent again.

        Raises:
            Blamed: the node refuses.
            PeerLost: the link ended.
            CallTimeout: the node did not answer in time.
        """
        opened, resume = self._requests(hop, before, after, need)
        first = resume if hop.opened else opened
        try:
            return await link.ask(first, timeout_s=self._timeout_s(first))
        except Blamed as blamed:
            if isinstance(blamed.refusal, UnknownSession) and first is resume:
                return await link.ask(opened, timeout_s=self._timeout_s(opened))
            if isinstance(blamed.refusal, SessionExists) and first is opened:
                return await link.ask(resume, timeout_s=self._timeout_s(resume))
            raise

    def _requests(self, hop: Hop, before: Hop | None, after: Hop | None, need: list[int]) -> tuple[Open, Resume]:
        """Both ways to ask. Each neighbour's certificate goes along: a node works only with those that are admitted."""
        upstream, shown = (self.client, b"") if before is None else (before.peer, before.record.certificate)
        following = after.record if after is not None else None
        onward = None if following is None else NextHop(following.peer, following.addresses, following.certificate)
        resume = Resume(0, self.session, self.epoch, upstream, onward, need, self.call.step, self.call.valid(), shown)
        opened = Open(
            call=0,
            session=self.session,
            model=self.terms.model,
            dtype=self.terms.dtype_name,
            start=hop.start,
            end=hop.end,
            rows=self.terms.rows,
            epoch=self.epoch,
            upstream=upstream,
            next=onward,
            need=need,
            tokens=self.terms.tokens,
            upstream_certificate=shown,
            payment=hop.payment,
        )
        return opened, resume

    def _timeout_s(self, request: Open | Resume) -> float:
        return self.patience.open_s if isinstance(request, Open) else self.patience.resume_s
