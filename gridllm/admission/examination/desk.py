"""Where questions come in: takes them off the stream, one after the other, and hands them to the prover."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from gridllm.admission.examination.candidacy import Watcher
from gridllm.admission.examination.conversation import Conversation, pieces_of, send_chunks
from gridllm.admission.examination.turns import Turns
from gridllm.admission.messages import (
    AnyMessage,
    Begin,
    Chase,
    Chunk,
    Compute,
    Echo,
    Fill,
    Hello,
    Queued,
    Send,
    ShowLinks,
    ShowPages,
    Stage,
    Verdict,
)
from gridllm.errors import AdmissionError, GridError, NodeFault, OutOfTurn, Refusal, TooLarge

if TYPE_CHECKING:
    from gridllm.admission.examination.prover import Prover

QUEUE_SILENCE_S: Final = 60.0  # an authority repeats the place in the queue every few seconds
SILENCE_S: Final = 180.0  # between two questions: it may be checking, and busy
MOST_S: Final = 3600.0  # for all of an examination, the queue left out
RELEASE_S: Final = 10.0


class Desk:
    """Takes questions off the stream, one after the other."""

    def __init__(self, conversation: Conversation, prover: Prover, watcher: Watcher) -> None:
        self._talk = conversation
        self._prover = prover
        self._watcher = watcher
        self._turns = Turns(prover.candidacy.memory_bytes)
        self._digest = hashlib.sha256()  # of the download that is coming in
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gridllm-prover")

    async def answer(self, hello: Hello, limit: asyncio.Timeout) -> Verdict:
        """From Hello to the verdict."""
        if hello.certificate:  # a span is in the memory that it offers: nothing of it may be filled anew
            self._turns = Turns(0)
        await self._talk.tell(hello)
        silence_s = QUEUE_SILENCE_S
        while True:
            message, body = await self._talk.read(timeout_s=silence_s)
            try:
                self._turns.check(message, len(body))
                if isinstance(message, Verdict):
                    return message
                if isinstance(message, Begin):
                    silence_s = SILENCE_S
                    limit.reschedule(asyncio.get_running_loop().time() + MOST_S)
                await self._answer(message, body)
            except (OutOfTurn, TooLarge) as refusal:
                await self._talk.end(refusal)
            except AdmissionError as error:
                await self._excuse(error)
                raise

    async def close(self) -> None:
        """End the work under way and release everything; waits for that a little."""
        self._prover.stopped.set()
        released = self._worker.submit(self._prover.release)
        self._worker.shutdown(wait=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await asyncio.wrap_future(released)

    async def _answer(self, message: AnyMessage, body: bytearray) -> None:
        prover, tell = self._prover, self._talk.tell
        match message:
            case Queued(place=place, waiting=waiting):
                self._watcher.queued(place, waiting)
            case Stage(name=name, done=done):
                self._watcher.stage(name, done)
            case Begin():
                await tell(prover.on_begin(message))
            case Echo():
                await tell(prover.on_echo(message))
            case Send():
                await send_chunks(self._talk, prover.on_send(message))
            case Chunk():
                self._digest.update(body)
                if message.last:
                    await tell(prover.on_chunks(self._digest.digest()))
                    self._digest = hashlib.sha256()
            case Fill():
                await tell(await self._work(prover.on_fill, message))
            case Chase():
                await tell(*await self._work(prover.on_chase, message))
            case ShowPages():
                await send_chunks(self._talk, pieces_of(await self._work(prover.on_show_pages, message)))
            case Compute():
                await tell(await self._work(prover.on_compute, message))
            case ShowLinks():
                await send_chunks(self._talk, pieces_of(await self._work(prover.on_show_links, message)))

    async def _work(self, function: Callable[[Any], Any], message: AnyMessage) -> Any:
        """Off the event loop. What fails there is this machine's own fault."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, function, message)
        except GridError:
            raise
        except MemoryError as error:
            raise AdmissionError("This machine ran out of memory while it was measured; offer less.") from error
        except Exception as error:  # torch's and the driver's own errors: out of device memory, a missing kernel
            raise AdmissionError(f"This machine failed while it was measured: {error}") from error

    async def _excuse(self, error: AdmissionError) -> None:
        with contextlib.suppress(Refusal):
            await self._talk.end(NodeFault(f"The candidate cannot go on: {error}"))
