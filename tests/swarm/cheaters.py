"""Provers that cheat: each answers an examination as somebody would who claims what his machine cannot do."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Final

import torch

from gridllm.admission.examination.prover import Prover
from gridllm.admission.messages import (
    Chase,
    Chased,
    Committed,
    Compute,
    Echo,
    Fill,
    Filled,
    Send,
    ShowLinks,
    ShowPages,
)
from gridllm.admission.proof.chain import Chain
from gridllm.admission.proof.chase import Words
from gridllm.admission.proof.memory import CHASE_DEADLINE_S, CHASE_STEPS
from gridllm.admission.proof.workload import Workload, round_seed
from gridllm.errors import AdmissionError
from tests.unit.admission_memory import HalfHolder

GIVE_UP_AT: Final = 1.25  # times its deadline: a chase that is still under way then is given up
BOAST_MBIT_S: Final = 400.0
THROTTLE_S: Final = 0.1  # for each 256 KiB: 21 Mbit/s


class Inventor(Prover):
    """Answers at once, with commitments to nothing."""

    def on_compute(self, question: Compute) -> Committed:
        return Committed(root=secrets.token_bytes(32))

    def on_show_links(self, question: ShowLinks) -> bytes:
        return secrets.token_bytes(100)


class SkippingChain(Chain):
    """Takes every seventh step for done: skipping fewer is a matter of luck in a brief examination."""

    def step(self, t: int, hidden: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        return hidden.float() + drive if t % 7 == 3 else super().step(t, hidden, drive)


class Skipper(Prover):
    """Computes with a chain of another kind."""

    chain_class: ClassVar[type[Chain]] = SkippingChain

    def on_compute(self, question: Compute) -> Committed:
        seed = round_seed(self.seed, question.kind, question.round, question.nonce)
        self.chain = self.chain_class(self.made_workload(), question.kind, seed)
        return Committed(root=self.chain.run(question.steps, self.progress_within(60.0)))

    def made_workload(self) -> Workload:
        """The challenge's weights, made once."""
        if self.workload is None:
            offer = self.candidacy
            self.workload = Workload(
                offer.manifest.config, offer.dtype, self.seed, device=offer.device, memory_bytes=offer.memory_bytes
            )
        return self.workload


class Rounder(Skipper):
    """Computes with weights of lower precision than it claims: what they would be once they were unpacked."""

    chain_class = Chain

    def made_workload(self) -> Workload:
        fresh = self.workload is None
        workload = super().made_workload()
        if fresh:
            with torch.inference_mode():
                for weight in workload.span.base.parameters():
                    if weight.ndim == 2:
                        weight.copy_(self.rounded(weight))
        return workload

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """Four bits, a scale for each group of 32."""
        groups = weight.reshape(-1, 32)
        unit = groups.abs().amax(1, keepdim=True) / 7
        return ((groups / unit).round() * unit).view(weight.shape)


class HalfRounder(Rounder):
    """The same with bfloat16."""

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.bfloat16().float()


class Hurried(HalfHolder):
    """Holds half, and gives up a chase that takes too long: what is left of it is invented."""

    give_up_at = float("inf")

    def chase(self, nonce: bytes, steps: int) -> bytes:
        self.give_up_at = time.monotonic() + GIVE_UP_AT * CHASE_DEADLINE_S * steps / CHASE_STEPS
        return super().chase(nonce, steps)

    def _words(self) -> Words:
        return _UntilTired(self, super()._words())


class _UntilTired:
    def __init__(self, held: Hurried, words: Words) -> None:
        self._held = held
        self._words = words

    def __getitem__(self, index: int, /) -> int:
        if time.monotonic() > self._held.give_up_at:
            return secrets.randbits(64)
        return self._words[index]


class HalfKeeper(Prover):
    """Fills all the memory that it claims, keeps half, and makes the rest again when it is read."""

    def on_fill(self, question: Fill) -> Filled:
        held = Hurried(self.seed, question.nbytes, threads=self.candidacy.threads)
        self.memory = held
        root = held.fill(self.progress_within(120.0))
        held.keep_half()
        return Filled(root=root)


class Tape:
    """What an honest examination answered, by the question's kind, in order."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}

    def note(self, kind: str, answer: Any) -> Any:
        self.answers.setdefault(kind, []).append(answer)
        return answer

    def next(self, kind: str) -> Any:
        """The next answer; the last one again when there are no more."""
        answers = self.answers[kind]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def recorder(tape: Tape, *, leave_after_fill: bool = False) -> type[Prover]:
    """An honest prover that keeps its answers on ``tape``; it may walk away once it has committed to its memory."""

    class Recorder(Prover):
        def on_fill(self, question: Fill) -> Filled:
            return tape.note("fill", super().on_fill(question))

        def on_chase(self, question: Chase) -> tuple[Chased, bytes]:
            answer = tape.note("chase", super().on_chase(question))
            if leave_after_fill:
                raise AdmissionError("It has given away what was wanted of it.")
            return answer

        def on_show_pages(self, question: ShowPages) -> bytes:
            return tape.note("pages", super().on_show_pages(question))

        def on_compute(self, question: Compute) -> Committed:
            return tape.note("compute", super().on_compute(question))

        def on_show_links(self, question: ShowLinks) -> bytes:
            return tape.note("links", super().on_show_links(question))

    return Recorder


def player(tape: Tape) -> type[Prover]:
    """Gives the answers on ``tape``, whatever is asked."""

    class Player(Prover):
        def on_fill(self, question: Fill) -> Filled:
            return tape.next("fill")

        def on_chase(self, question: Chase) -> tuple[Chased, bytes]:
            return tape.next("chase")

        def on_show_pages(self, question: ShowPages) -> bytes:
            return tape.next("pages")

        def on_compute(self, question: Compute) -> Committed:
            return tape.next("compute")

        def on_show_links(self, question: ShowLinks) -> bytes:
            return tape.next("links")

    return Player


class Throttler(Prover):
    """Sends more slowly than it claims."""

    async def on_send(self, question: Send) -> AsyncIterator[bytes]:
        async for part in super().on_send(question):
            await asyncio.sleep(THROTTLE_S)
            yield part


class Dawdler(Prover):
    """Is slow while steps are counted out, so that measured rounds become short; a short round is timed badly."""

    slow_s: ClassVar[float] = 6.0

    def on_compute(self, question: Compute) -> Committed:
        answer = super().on_compute(question)
        if question.round in (0, 1):
            time.sleep(self.slow_s)
        return answer


class LateEcho(Prover):
    """Answers echoes late, so that its way to the authority looks long and is taken off its times."""

    late_s: ClassVar[float] = 2.0

    def on_echo(self, question: Echo) -> Echo:
        time.sleep(self.late_s)  # nothing else is to be done meanwhile
        return question


CHEATS: Final[dict[str, type[Prover]]] = {
    "invents": Inventor,
    "skips": Skipper,
    "int4": Rounder,
    "bfloat16": HalfRounder,
    "half-memory": HalfKeeper,
    "throttles": Throttler,
    "dawdles": Dawdler,
    "late-echo": LateEcho,
    "honest": Prover,
}
REASONS: Final = {
    "invents": "work_invented",
    "skips": "steps_skipped",
    "int4": "imprecise",
    "bfloat16": "imprecise",
    "half-memory": "memory_not_held",
    "throttles": "bandwidth_short",
    "replays": "replayed",
    "copies": "copied",
}
"""Cheat → the authority's word for it."""
