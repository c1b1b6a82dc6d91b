"""Memory: filled from the seed, then a path is followed through all of it, in a time that only held memory allows."""

from __future__ import annotations

import random
import secrets

from gridllm.admission.examination.background import in_background
from gridllm.admission.examination.judge import judge_chase, judge_root, memory_invented
from gridllm.admission.examination.stages import MIB, Sitting
from gridllm.admission.messages import Chase, Chased, Fill, Filled, ShowPages
from gridllm.errors import AdmissionError, CallTimeout
from gridllm.models.sizes import block_size

CACHED_TOKENS = 16384  # of caches, beside all weights, that memory is certified for
SLOWEST_FILL_BYTES_PER_S = 64 * MIB
LATE = 2  # times the deadline is waited for, to be able to say how late it was
SLOWEST_SHOW_BYTES_PER_S = 128 * 1024

_random = random.SystemRandom()


def memory_to_prove(sitting: Sitting) -> int:
    """Bytes: what the whole model takes with caches, at least what the roles ask for, at most what is offered."""
    from gridllm.admission.proof.pages import PAGE_BYTES

    exam = sitting.examination
    useful = max((exam.minimums(role).memory_bytes for role in exam.roles), default=0)
    if "serve" in exam.roles:
        size = block_size(exam.manifest, exam.hello.dtype)
        whole = exam.entry.blocks * (size.weight_bytes + CACHED_TOKENS * size.cache_bytes_per_token)
        useful = max(useful, whole)
    useful = -(-useful // PAGE_BYTES) * PAGE_BYTES
    return min(useful, exam.hello.memory_bytes // PAGE_BYTES * PAGE_BYTES)


async def fill_memory(sitting: Sitting, nbytes: int) -> bytes:
    """Have it filled, and followed through for the first time; returns the root that commits to its pages.

    Raises:
        Caught: it was seen before, or is not held.
        Refusal, SwarmError: see ``Conversation.ask``.
    """
    exam, pace = sitting.examination, sitting.pace
    timeout_s = sitting.timeout_s(nbytes / SLOWEST_FILL_BYTES_PER_S)
    filled = await sitting.conversation.ask(Fill(nbytes=nbytes), Filled, timeout_s=timeout_s)
    root = filled.message.root
    sitting.judge(judge_root(exam.seen, root, exam.peer))
    await sitting.done(0.6)
    await chase_memory(sitting, nbytes, root, share=pace.chase_share, pages=pace.pages, segments=pace.segments)
    sitting.figures["memory_bytes"] = nbytes
    return root


async def chase_memory(sitting: Sitting, nbytes: int, root: bytes, *, share: float, pages: int, segments: int) -> None:
    """Have a fresh path followed, and check a few pages and stretches of it.

    Args:
        share: of ``memory.CHASE_STEPS``; the deadline shrinks with it.
        pages, segments: how many are opened.

    Raises:
        Caught: too late, or false.
        Refusal, SwarmError: see ``Conversation.ask``.
    """
    from gridllm.admission.proof.memory import (
        CHASE_DEADLINE_S,
        CHASE_STEPS,
        page_count,
        segment_count,
        shown_bytes,
        verify_shown,
    )

    steps = max(16, int(share * CHASE_STEPS) // 16 * 16)
    deadline_s = sitting.pace.chase_patience * CHASE_DEADLINE_S * steps / CHASE_STEPS + min(sitting.rtt_s, 1.0)
    nonce = secrets.token_bytes(32)
    patience_s = LATE * deadline_s + sitting.pace.patience_s
    try:
        chased = await sitting.conversation.ask(Chase(nonce=nonce, steps=steps), Chased, timeout_s=patience_s)
    except CallTimeout:
        sitting.judge(judge_chase(patience_s, deadline_s, nbytes))  # whoever makes again what it dropped takes hours
        raise
    sitting.judge(judge_chase(chased.elapsed_s, deadline_s, nbytes))
    shown_pages = _some(page_count(nbytes), pages)
    shown_segments = _some(segment_count(steps), segments)
    most = shown_bytes(len(shown_pages), len(shown_segments))
    shown = await sitting.conversation.collect(
        ShowPages(pages=shown_pages, segments=shown_segments),
        most_bytes=most,
        timeout_s=sitting.timeout_s(most / SLOWEST_SHOW_BYTES_PER_S),
    )
    try:
        await in_background(
            verify_shown,
            shown.data,
            seed=sitting.seed,
            nbytes=nbytes,
            root=root,
            nonce=nonce,
            steps=steps,
            checkpoints=bytes(chased.body),
            pages=shown_pages,
            segments=shown_segments,
        )
    except AdmissionError as error:
        sitting.judge(memory_invented(str(error)))


def _some(count: int, wanted: int) -> list[int]:
    """That many different numbers below ``count``, unforeseeable."""
    return sorted(_random.sample(range(count), min(count, wanted)))
