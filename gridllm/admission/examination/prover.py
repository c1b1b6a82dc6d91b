"""The candidate's side of an examination: answers what the authority asks, within what this machine offered.

Each question has a method of its own on ``Prover``, so that tests can put a cheater in its place. Those that compute
run in one worker thread; the stream is served on the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from gridllm import __version__
from gridllm.admission.examination.candidacy import Candidacy, Watcher
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.desk import MOST_S, Desk
from gridllm.admission.messages import (
    Begin,
    Chase,
    Chased,
    Committed,
    Compute,
    Echo,
    Fill,
    Filled,
    Hello,
    Received,
    Send,
    ShowLinks,
    ShowPages,
    Started,
    Verdict,
)
from gridllm.admission.proof.noise import UPLOAD, noise
from gridllm.admission.proof.seeds import challenge_seed
from gridllm.errors import AdmissionError, CallTimeout, OutOfTurn, TooLarge
from gridllm.ids import GridId, PeerId
from gridllm.swarm.interface import Stream

if TYPE_CHECKING:
    from gridllm.admission.proof.chain import Chain
    from gridllm.admission.proof.memory import HeldMemory
    from gridllm.admission.proof.workload import Workload

COMPUTE_S: Final = 60.0  # for one chain; an honest authority asks for about a second's work


def hello_of(candidacy: Candidacy, grid: GridId, addresses: tuple[str, ...], certificate: bytes = b"") -> Hello:
    """The first message: who wants what. ``certificate``: the one that runs out, for a renewal."""
    return Hello(
        grid=grid,
        model=candidacy.entry.root,
        dtype=candidacy.dtype,
        roles=list(candidacy.roles),
        version=__version__,
        device=candidacy.device[:64],
        memory_bytes=candidacy.memory_bytes,
        disk_bytes=candidacy.disk_bytes,
        upload_mbit_s=candidacy.upload_mbit_s,
        download_mbit_s=candidacy.download_mbit_s,
        addresses=list(addresses[:8]),
        clock_s=time.time(),
        certificate=certificate,
    )


class Prover:
    """Answers one examination. ``close`` releases whatever it holds."""

    def __init__(self, candidacy: Candidacy, grid: GridId, peer: PeerId) -> None:
        self.candidacy = candidacy
        self.grid = grid
        self.peer = peer
        self.seed = b""
        self.memory: HeldMemory | None = None
        self.workload: Workload | None = None
        self.chain: Chain | None = None
        self.stopped = threading.Event()

    def on_begin(self, question: Begin) -> Started:
        """The challenge's seed is known from now on."""
        self.seed = challenge_seed(question.nonce, self.grid, question.authority, self.peer)
        return Started()

    def on_echo(self, question: Echo) -> Echo:
        """On the event loop, at once."""
        return question

    async def on_send(self, question: Send) -> AsyncIterator[bytes]:
        """Bytes that the seed gives, so that nothing on the way can make them fewer."""
        for part in noise(self.seed + question.nonce, UPLOAD, question.nbytes):
            yield part

    def on_chunks(self, digest: bytes) -> Received:
        """A download is complete."""
        return Received(digest=digest)

    def on_fill(self, question: Fill) -> Filled:
        """In the worker."""
        from gridllm.admission.proof.memory import HeldMemory

        self.memory = HeldMemory(
            self.seed, question.nbytes, threads=self.candidacy.threads, device=self.candidacy.device
        )
        return Filled(root=self.memory.fill(self.progress_within(MOST_S)))

    def on_chase(self, question: Chase) -> tuple[Chased, bytes]:
        """In the worker."""
        return Chased(), self._memory().chase(question.nonce, question.steps)

    def on_show_pages(self, question: ShowPages) -> bytes:
        """In the worker."""
        return self._memory().show(question.pages, question.segments)

    def on_compute(self, question: Compute) -> Committed:
        """In the worker."""
        from gridllm.admission.proof.chain import Chain
        from gridllm.admission.proof.workload import Workload, round_seed

        if self.workload is None:
            offer = self.candidacy
            self.workload = Workload(
                offer.manifest.config, offer.dtype, self.seed, device=offer.device, memory_bytes=offer.memory_bytes
            )
        seed = round_seed(self.seed, question.kind, question.round, question.nonce)
        self.chain = Chain(self.workload, question.kind, seed)
        return Committed(root=self.chain.run(question.steps, self.progress_within(COMPUTE_S)))

    def on_show_links(self, question: ShowLinks) -> bytes:
        """In the worker."""
        if self.chain is None:
            raise OutOfTurn("Nothing was computed that could be shown.")
        return self.chain.show(question.links)

    def progress_within(self, limit_s: float) -> Callable[[float], None]:
        """Called now and then by long work: ends it when nobody waits for it any more, or when it takes too long."""
        started = time.monotonic()

        def progress(_share: float) -> None:
            if self.stopped.is_set():
                raise AdmissionError("The examination ended before this was done.")
            if time.monotonic() - started > limit_s:
                raise TooLarge(f"This takes more than the {limit_s:.0f} s that this machine gives to one question.")

        return progress

    def release(self) -> None:
        """Let go of everything, in the worker."""
        memory, self.memory, self.workload, self.chain = self.memory, None, None, None
        if memory is not None:
            memory.release()

    def _memory(self) -> HeldMemory:
        if self.memory is None:
            raise OutOfTurn("No memory was filled.")
        return self.memory


async def answer_examination(stream: Stream, prover: Prover, hello: Hello, watcher: Watcher) -> Verdict:
    """Say Hello on a fresh stream, wait in the queue, answer every question; closes the stream.

    Raises:
        Refusal: the authority will not measure this machine (the subclass of its code), or asked for what it may not.
        AdmissionError: this machine cannot do what is measured.
        PeerLost, CallTimeout: the authority went away.
    """
    desk = Desk(Conversation(stream), prover, watcher)
    try:
        async with asyncio.timeout(None) as limit:
            return await desk.answer(hello, limit)
    except TimeoutError as error:
        raise CallTimeout(f"The examination by {stream.peer} did not end in {MOST_S / 60:.0f} minutes.") from error
    finally:
        await desk.close()
        await stream.close()
