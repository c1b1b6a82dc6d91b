"""The authority's side of an examination: asks, times, opens, and says what it found."""

from __future__ import annotations

import secrets
import time
from typing import Final

from gridllm.admission.examination.background import in_background
from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.judge import Finding, judge_claims, judge_minimums
from gridllm.admission.examination.stages import KINDS, Caught, Examination, Examined, Pace, Sitting
from gridllm.admission.examination.stages_compute import Speed
from gridllm.admission.examination.stages_memory import chase_memory, fill_memory, memory_to_prove
from gridllm.admission.examination.stages_network import measure_network
from gridllm.admission.figures import Figures
from gridllm.admission.messages import Begin, Kind, Started
from gridllm.admission.proof.seeds import challenge_seed
from gridllm.errors import AdmissionError, CallTimeout
from gridllm.swarm.interface import Stream

__all__ = ["Examination", "Examined", "Pace", "examine"]

NETWORK: Final = "network"
MEMORY: Final = "memory"
WEIGHTS: Final = {NETWORK: 3.0, MEMORY: 3.0, "decode": 4.0, "batch": 4.0, "prefill": 4.0}
LAST_CHASE_WEIGHT: Final = 0.5


async def examine(stream: Stream, examination: Examination, pace: Pace | None = None) -> Examined:
    """Measure the candidate at the other end, from Begin to the last question; Queued and Verdict are the caller's.

    A candidate that gives no answer in time is an outcome (``silent``), as every other reason to refuse is.

    Raises:
        Refusal: it spoke out of turn, sent what does not parse, or refused to go on; it was told, and no Verdict may
            follow.
        PeerLost: it went away.
    """
    exam, nonce = examination, secrets.token_bytes(32)
    seed = challenge_seed(nonce, exam.grid, exam.authority_hex, exam.peer)
    sitting = Sitting(Conversation(stream), exam, pace or Pace(), seed, _plan(exam))
    sitting.figures |= {"disk_bytes": exam.hello.disk_bytes, "version": exam.hello.version}
    try:
        stages = [name for name, _ in sitting.plan]
        begin = Begin(nonce=nonce, authority=exam.authority_hex, stages=stages, clock_s=time.time())
        await sitting.conversation.ask(begin, Started, timeout_s=sitting.timeout_s(5.0))
        await _measure(sitting)
        finding = _judge(sitting)
    except Caught as caught:
        finding = caught.finding
    except CallTimeout as error:
        finding = Finding(
            "silent", f"The machine gave no answer in time: {error} Stop whatever keeps it busy, and try again."
        )
    figures = Figures(**sitting.figures)
    return Examined(figures, "", "") if finding is None else Examined(figures, finding.reason, finding.text)


def kinds_of(exam: Examination) -> tuple[Kind, ...]:
    """What is computed: everything to serve; else only what a role's minimums ask for."""
    if "serve" in exam.roles:
        return KINDS
    return tuple(kind for kind in KINDS if exam.asks(f"{kind}_blocks_per_s"))


def _plan(exam: Examination) -> list[tuple[str, float]]:
    """Stages in order, each with its weight in time."""
    names: list[str] = [NETWORK] if exam.network else []
    memory = not exam.renewal and ("serve" in exam.roles or exam.asks("memory_bytes"))
    names += [MEMORY] if memory else []
    names += kinds_of(exam)
    plan = [(name, WEIGHTS[name]) for name in names]
    return [*plan, (MEMORY, LAST_CHASE_WEIGHT)] if memory else plan


async def _measure(sitting: Sitting) -> None:
    exam, pace, root, nbytes = sitting.examination, sitting.pace, b"", 0
    if exam.renewal:
        sitting.figures["memory_bytes"] = exam.held_bytes
    if exam.network:
        await sitting.enter(NETWORK)
        await measure_network(sitting)
    if any(name == MEMORY for name, _ in sitting.plan):
        await sitting.enter(MEMORY)
        nbytes = memory_to_prove(sitting)
        if nbytes:
            root = await fill_memory(sitting, nbytes)
    if kinds_of(exam):
        await _measure_speed(sitting)
    if root:
        await sitting.enter(MEMORY)
        await chase_memory(sitting, nbytes, root, share=pace.last_chase_share, pages=1, segments=pace.segments // 2)


async def _measure_speed(sitting: Sitting) -> None:
    from gridllm.admission.proof.workload import Workload

    exam = sitting.examination
    config, hello = exam.manifest.config, exam.hello
    try:
        workload = await in_background(Workload, config, hello.dtype, sitting.seed, memory_bytes=hello.memory_bytes)
    except AdmissionError as error:
        raise Caught(Finding("short", str(error))) from error
    speed = Speed(sitting, workload)
    for kind in kinds_of(exam):
        await sitting.enter(kind)
        await speed.measure(kind)


def _judge(sitting: Sitting) -> Finding | None:
    exam, figures = sitting.examination, Figures(**sitting.figures)
    claims = judge_claims(figures, exam.hello.upload_mbit_s, exam.hello.download_mbit_s) if exam.network else None
    return claims or judge_minimums(figures, exam.admission, exam.roles)
