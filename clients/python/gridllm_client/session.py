"""A session: rows of hidden states that advance through a chain of nodes, and survive the loss of any of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import torch

from gridllm.errors import BadPayment, PeerLost, Refusal, StaleEpoch, UsageError
from gridllm.ids import PeerId
from gridllm.wire.messages import MAX_ROWS, Ack, Output, Owing, Refused, RowSlice, Step
from gridllm.wire.replay import ReplayBuffer
from gridllm.wire.tensor import pack, unpack
from gridllm_client.chain import Chain
from gridllm_client.frames import call_tokens, calls, chunk_tokens, frames
from gridllm_client.links import LinkPool
from gridllm_client.mending import Mender
from gridllm_client.outputs import Outputs
from gridllm_client.pace import Pace
from gridllm_client.paying import Payer
from gridllm_client.repair import Call
from gridllm_client.routes import Routes
from gridllm_client.tab import Bill
from gridllm_client.terms import OnEvent, Patience, Terms, short


class Session:
    """Rows advancing through a chain of nodes.

    One ``forward`` at a time; everything runs on one event loop. Close it when done.
    """

    def __init__(
        self,
        pool: LinkPool,
        routes: Routes,
        terms: Terms,
        *,
        patience: Patience | None = None,
        on_event: OnEvent | None = None,
        pace: Pace | None = None,
        payer: Payer | None = None,
    ) -> None:
        """
        Args:
            pace: counts how fast it is served; None: nobody wants to know.
            payer: pays the nodes; None: they serve without pay.
        """
        if not 1 <= terms.rows <= MAX_ROWS:
            raise UsageError(f"A session has 1 to {MAX_ROWS} rows, not {terms.rows}; split the batch.")
        self.terms = terms
        self._patience = patience or Patience()
        self._chain = Chain(pool, routes, terms, self._patience, self, payer)
        self._replay = ReplayBuffer(terms.rows, terms.hidden_size, terms.dtype)
        self._mender = Mender(self._chain, self._replay, self._patience, on_event)
        self._step = 0
        self._outputs: Outputs | None = None  # of the latest call
        self._wake: asyncio.Future[None] | None = None
        self._last_sign = 0.0
        self._busy = False
        self._pace = pace
        self._payer = payer
        self.closed = False

    @property
    def lengths(self) -> list[int]:
        """Tokens per row."""
        return list(self._replay.lengths)

    @property
    def chain(self) -> tuple[tuple[PeerId, int, int], ...]:
        """(peer, first block, one past the last) of every hop, head first; empty before the session is opened."""
        return self._chain.shape

    @property
    def bills(self) -> tuple[Bill, ...]:
        """What each node metered and was paid; complete once the session is closed, empty where nobody pays."""
        return self._payer.bills if self._payer is not None else ()

    async def open(self) -> None:
        """Choose a chain and open the session on it; ``forward`` does so too.

        Raises:
            RouteError: no chain covers the model.
            Refusal: the account has too little credit, or may not use the model.
        """
        if self._chain.hops:
            return
        try:
            await self._mender.mend(Call.of(0, (), self._replay.lengths))
        except BaseException:
            self.close()
            raise
        if self._pace is not None:
            self._pace.begin()

    async def forward(self, slices: Sequence[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
        """Take rows through all blocks of the model.

        Args:
            slices: what happens to which row; each ``keep`` at least 1.
            hidden: [sum(tokens), hidden_size] in the order of ``slices``, the session's dtype, on the CPU.

        Returns:
            [sum(keep), hidden_size]: the trailing ``keep`` positions of each slice, in the order of ``slices``.

        Raises:
            RouteError: a node was lost and nobody can take its place.
            Refusal: the nodes will not do it, and no other node would.
            UsageError: the session is closed, busy, or the slices do not fit its rows.
        """
        self._begin(slices)
        try:
            most = call_tokens(self.terms.hidden_size, self.terms.dtype)
            if hidden.shape[0] <= most:
                return await self._forward(slices, hidden)
            parts: dict[int, list[torch.Tensor]] = {s.row: [] for s in slices}
            for piece, part, asked in calls(slices, hidden, most):
                out = await self._forward(piece, part)
                offset = 0
                for s, wanted in zip(piece, asked, strict=True):
                    offset += s.keep
                    parts[s.row].append(out[offset - wanted : offset])
            return torch.cat([part for s in slices for part in parts[s.row]])
        finally:
            self._busy = False

    async def _forward(self, slices: Sequence[RowSlice], hidden: torch.Tensor) -> torch.Tensor:
        """One call: everything of it is under way at once."""
        loop = asyncio.get_running_loop()
        await self._look_after_certificates()
        self._step += 1
        call = Call.of(self._step, slices, self._replay.lengths)
        self._replay.append(slices, hidden)
        outputs = self._outputs = Outputs(call, slices, self.terms.hidden_size, self.terms.dtype)
        self._mender.stalls = 0
        self._mender.waiting_since = self._last_sign = time.monotonic()
        stall = loop.call_later(self._patience.stall_s, self._on_stall, call)
        completed = False
        smooth = bool(self._chain.hops) and not self._mender.trouble
        try:
            if smooth and self._payer is not None:
                smooth = await self._charge(self._payer, slices)
            if smooth:
                self._send(call, slices, hidden)
            else:
                await self._mender.mend(call)
            while not call.complete:
                if self._mender.fatal is not None:
                    raise self._mender.fatal
                if self._mender.trouble:
                    smooth = False
                    await self._mender.mend(call)
                else:
                    self._wake = loop.create_future()
                    await self._wake
            completed = True
            if self._payer is not None:
                self._payer.came_back(self._chain.hops)
            if smooth and self._pace is not None and self.terms.rows == hidden.shape[0] == 1:
                took_s = time.monotonic() - self._mender.waiting_since
                self._pace.step(self._chain.epoch, self._chain.hops, took_s)
            return outputs.hidden
        finally:
            stall.cancel()
            if not completed:
                self.close()  # rows and books may differ from here on

    def history(self, row: int) -> torch.Tensor:
        """What was fed to ``row`` so far: [tokens, hidden_size]."""
        need = [0 if r == row else length for r, length in enumerate(self._replay.lengths)]
        parts = [hidden for _, hidden in self._replay.from_positions(need)]
        return torch.cat([torch.empty(0, self.terms.hidden_size, dtype=self.terms.dtype), *parts])

    def close(self) -> None:
        """Free the session on all nodes; never waits; idempotent."""
        self.closed = True
        if self._pace is not None:
            self._pace.end()
        self._chain.close()
        if self._payer is not None:
            self._payer.close()

    def on_output(self, peer: PeerId, output: Output, body: bytearray) -> None:
        """Take in what the tail sent."""
        outputs, chain = self._outputs, self._chain
        if outputs is None or output.epoch != chain.epoch or not chain.hops or peer != chain.hops[-1].peer:
            return
        self._last_sign = time.monotonic()
        try:
            hidden = unpack(
                body,
                tokens=sum(s.tokens for s in output.rows),
                hidden_size=self.terms.hidden_size,
                dtype=self.terms.dtype,
            )
        except Refusal as refusal:
            self._mender.replace(peer, f"node {short(peer)} returned a bad tensor: {refusal}")
            self._wake_up()
            return
        outputs.take(output.rows, hidden)
        if outputs.call.complete:
            self._wake_up()

    def on_refused(self, peer: PeerId, refused: Refused) -> None:
        """A step was declined, or a node cannot push on."""
        if refused.code == StaleEpoch.code:
            return  # the step of a shape that is no more
        blamed = PeerId(refused.peer) if refused.peer is not None else None
        self._mender.refused(peer, Refusal.from_wire(refused.code, refused.message), blamed)
        self._wake_up()

    def on_ack(self, peer: PeerId, ack: Ack) -> None:
        """A node is alive and working."""
        self._last_sign = time.monotonic()

    def on_owing(self, peer: PeerId, owing: Owing) -> None:
        """A node paused the session: pay what it is owed by this side's own count, or leave it."""
        hop = next((hop for hop in self._chain.hops if hop.peer == peer), None)
        if hop is None:
            return
        try:
            if self._payer is None:
                raise BadPayment("it asks to be paid")
            if self._payer.owing(hop, owing):
                self._last_sign = time.monotonic()  # no sign of work else: a node could ask for ever
        except BadPayment as fault:
            self._mender.replace(peer, f"node {short(peer)}: {fault}")
            self._wake_up()

    def on_leaving(self, peer: PeerId, grace_s: int) -> None:
        """Move to another node before the next step, if there is one."""
        self._mender.leaving(peer)

    def on_lost(self, peer: PeerId, error: PeerLost) -> None:
        """The link to a hop ended."""
        self._mender.lost(peer, error)
        self._wake_up()

    def on_notices(self) -> None:
        """Move off nodes that were revoked, at once."""
        for peer, fault in self._chain.standing.unadmitted():
            self._mender.unadmitted(peer, fault)
            self._wake_up()

    async def _charge(self, payer: Payer, slices: Sequence[RowSlice]) -> bool:
        """Count the call and pay ahead for it; whether it can be sent into the chain as it stands."""
        payer.tend(self._chain.hops)
        if not await payer.charge(self._chain.hops, slices, self._step):
            self._chain.begin_anew()
            self._mender.trouble.asked = True
            self._mender.trouble.note("the escrow is used up")
        return not self._mender.trouble

    async def _look_after_certificates(self) -> None:
        """Move off nodes whose admission ran out; hand round the new certificates of those that renewed theirs."""
        if not self._chain.standing.recheck_due():
            return
        if await self._chain.standing.renew_aged():
            self._mender.trouble.asked = True
            self._mender.trouble.note("certificates were renewed")
        for peer, fault in self._chain.standing.unadmitted():
            self._mender.unadmitted(peer, fault)

    def _begin(self, slices: Sequence[RowSlice]) -> None:
        if self.closed:
            raise UsageError("The session is closed; open a new one.")
        if self._busy:
            raise UsageError("The session is busy with another forward call; await that one first.")
        lengths = self._replay.lengths
        for s in slices:
            if not (s.row < self.terms.rows and s.source < self.terms.rows and s.position <= lengths[s.source]):
                raise UsageError(f"{s} does not fit a session of {self.terms.rows} rows with {lengths} tokens.")
            if not 1 <= s.keep <= s.tokens:
                raise UsageError(f"{s} must keep at least 1 and at most {s.tokens} of its positions.")
        self._busy = True

    def _send(self, call: Call, slices: Sequence[RowSlice], hidden: torch.Tensor) -> None:
        chain = self._chain
        link = chain.hops[0].link
        if link is None:
            self._mender.trouble.asked = True
            return
        try:
            if hidden.shape[0] > 1:
                chunk = chunk_tokens(len(chain.hops), self.terms.hidden_size, self.terms.dtype)
                for rows, part in frames(slices, call.before, hidden, chunk):
                    link.send(Step(chain.id, chain.epoch, self._step, rows), pack(part))
            else:
                link.send(Step(chain.id, chain.epoch, self._step, list(slices)), pack(hidden))
        except PeerLost as error:
            self.on_lost(link.peer, error)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _on_stall(self, call: Call) -> None:
        if self._outputs is None or call is not self._outputs.call or not self._busy or call.complete:
            return
        quiet_s = time.monotonic() - self._last_sign
        patience_s = self._patience.stall_s
        if quiet_s >= patience_s:
            self._last_sign = time.monotonic()
            self._mender.stalled(quiet_s)
            self._wake_up()
            quiet_s = 0.0
        asyncio.get_running_loop().call_later(max(0.1, patience_s - quiet_s), self._on_stall, call)
