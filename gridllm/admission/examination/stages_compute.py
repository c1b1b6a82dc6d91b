"""Speed: chains of real blocks, sized to last about half a second; timed from question to commitment, then opened."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gridllm.admission.examination.background import in_background
from gridllm.admission.examination.judge import invented, judge_links, judge_root
from gridllm.admission.examination.stages import Sitting
from gridllm.admission.messages import MAX_KEPT_BYTES, MAX_STEPS, Committed, Compute, Kind, ShowLinks
from gridllm.errors import AdmissionError

if TYPE_CHECKING:
    from gridllm.admission.proof.links import LinkChecker
    from gridllm.admission.proof.workload import Workload

# Who is slow while steps are counted out would be timed over an instant: what burst credits, or a processor that is
# lent out for the rest of each second, allow. So a round that is much too short is repeated, and then counts as longer.
LEAST_SHARE: Final = 0.5  # of ``Pace.round_s``
MOST_RESIZINGS: Final = 3
# Of a prompt's round one link may be all that is opened: who skips half of one round and nothing else is found once in
# two times. So rounds that stand alone gain little, and to gain more he must skip unseen in three.
ALONE: Final = (1.15, 1.3)  # times the second best, and the third
RTT_SHARE: Final = 0.1  # of a round's time, at most, is the way there and back
PROOF_BYTES: Final = 4096  # with each link
SLOWEST_SHOW_BYTES_PER_S: Final = 128 * 1024
SHARES: Final[dict[Kind, tuple[float, int, int]]] = {
    "decode": (0.12, 8, 16),
    "batch": (0.12, 8, 8),
    "prefill": (0.04, 1, 16),
}
"""Of a round's steps, how many are opened: the share, the least, the most. Single tokens (of a batch one row each) are
checked many in a pass, at little more than the price of one; a prompt's fill a pass alone. The least is what a slow
machine is asked for, whose rounds have few steps: with 4, who skipped a tenth of them passed a brief examination once
in 17 times; with 8 it is once in 200."""

_random = random.SystemRandom()


def links_to_open(kind: Kind, steps: int, instead_of: int = 1) -> list[int]:
    """Which links of a chain are opened; nobody can foresee them.

    Args:
        instead_of: so many rounds is this the only one.
    """
    share, least, most = SHARES[kind]
    return sorted(_random.sample(range(steps), min(steps, most, max(instead_of * least, int(share * steps)))))


def best_of(speeds: Sequence[float]) -> float:
    """What the rounds amount to: the best of them, unless it stands alone."""
    best, *others = sorted(speeds, reverse=True)
    return min(best, *(most * other for most, other in zip(ALONE, others, strict=False)), best)


class Speed:
    """Measures kind after kind with one workload."""

    def __init__(self, sitting: Sitting, workload: Workload) -> None:
        from gridllm.admission.proof.links import LinkChecker

        self._sitting = sitting
        self._workload = workload
        self._checker: LinkChecker = LinkChecker(workload)
        self._warm = False  # its weights are made
        self._nonce = b""  # of the last round

    async def measure(self, kind: Kind) -> None:
        """Fill in one kind's figure: the best of the measured rounds.

        Raises:
            Caught: the work was not done, or not done right.
            Refusal, SwarmError: see ``Conversation.ask``.
        """
        from gridllm.admission.proof.links import outliers_allowed, tolerance

        sitting, exam = self._sitting, self._sitting.examination
        pace, dtype = sitting.pace, exam.hello.dtype
        number, steps, seconds = await self._calibrate(kind)
        rounds, resizings = (1 if exam.renewal else pace.rounds), 0
        errors: list[float] = []
        speeds: list[float] = []
        wanted = self._bounded(kind, round(steps / seconds * pace.round_s))
        while len(speeds) < rounds:
            await sitting.done((1 + len(speeds)) / (1 + rounds))
            root, seconds = await self._round(kind, number, wanted, wanted * seconds / steps)
            errors += await self._open(kind, number, wanted, root)
            outliers = outliers_allowed(exam.manifest.config, dtype)
            sitting.judge(judge_links(kind, errors, tolerance(dtype), dtype, outliers=outliers))
            number, steps = number + 1, wanted
            least_s = LEAST_SHARE * pace.round_s if self._bounded(kind, wanted + 1) > wanted else 0.0
            if seconds < least_s and resizings < MOST_RESIZINGS:
                resizings += 1
                wanted = self._bounded(kind, round(steps / seconds * pace.round_s))
                continue
            speeds.append(wanted * self._workload.blocks * self._workload.tokens(kind) / max(seconds, least_s))
        sitting.figures[f"{kind}_blocks_per_s"] = round(best_of(speeds), 3)

    async def _calibrate(self, kind: Kind) -> tuple[int, int, float]:
        """Double the steps until a chain takes long enough; returns the next round's number, the steps, their seconds.

        Nothing is opened: whoever cheats here only makes the measured rounds too long for itself, or too short, which
        ``measure`` mends.
        """
        pace, number, steps = self._sitting.pace, 1, self._bounded(kind, self._sitting.pace.first_steps)
        warm_up_s = 1.0 if self._warm else self._sitting.pace.setup_s / 4
        _, seconds = await self._round(kind, 0, steps, warm_up_s)  # untimed: allocates, and makes the weights
        self._warm = True
        while True:
            _, seconds = await self._round(kind, number, steps, max(seconds, 2 * pace.calibrated_s))
            number += 1
            grown = self._bounded(kind, 2 * steps)
            if seconds >= pace.calibrated_s or grown == steps:
                return number, steps, seconds
            steps = grown

    async def _round(self, kind: Kind, number: int, steps: int, expected_s: float) -> tuple[bytes, float]:
        """One chain: what was committed to, and how long it took."""
        sitting, exam = self._sitting, self._sitting.examination
        self._nonce = secrets.token_bytes(32)
        question = Compute(kind=kind, round=number, nonce=self._nonce, steps=steps)
        answer = await sitting.conversation.ask(question, Committed, timeout_s=sitting.timeout_s(expected_s))
        root = answer.message.root
        sitting.judge(judge_root(exam.seen, root, exam.peer))
        return root, sitting.net_s(answer.elapsed_s, RTT_SHARE)

    async def _open(self, kind: Kind, number: int, steps: int, root: bytes) -> list[float]:
        """Relative errors of a few links, recomputed here."""
        from gridllm.admission.proof.workload import round_seed

        sitting = self._sitting
        links = links_to_open(kind, steps, sitting.pace.rounds if sitting.examination.renewal else 1)
        most = (1 + len(links)) * (2 * self._workload.state_bytes(kind) + PROOF_BYTES)
        shown = await sitting.conversation.collect(
            ShowLinks(links=links), most_bytes=most, timeout_s=sitting.timeout_s(most / SLOWEST_SHOW_BYTES_PER_S / 4)
        )
        seed = round_seed(sitting.seed, kind, number, self._nonce)
        try:
            errors: list[float] = await in_background(self._checker.check, kind, shown.data, root, steps, links, seed)
        except AdmissionError as error:
            sitting.judge(invented(str(error)))
            raise
        return errors

    def _bounded(self, kind: Kind, steps: int) -> int:
        """As many as a chain may have, and as can be kept."""
        return max(1, min(steps, MAX_STEPS, MAX_KEPT_BYTES // self._workload.state_bytes(kind) - 1))
