"""What a measurement amounts to: every reason to refuse, each with its own word and sentence. Pure.

Each ``judge_*`` looks at one thing and returns a ``Finding``, or None where there is nothing to object to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gridllm.admission.figures import SPEEDS, Figures, Shortfall, compare, roles_met
from gridllm.admission.messages import Kind
from gridllm.admission.spelling import label, spell
from gridllm.charter.minimums import ROLES, Admission, Role

Reason = Literal[
    "work_invented",  # what was opened is not what was committed to, or most of it was never computed
    "steps_skipped",  # some steps were not computed
    "imprecise",  # computed at a lower precision than claimed
    "memory_not_held",  # its memory was not at hand when it was asked for
    "memory_invented",  # what it showed of its memory is false
    "replayed",  # an answer to an earlier challenge of the same peer
    "copied",  # an answer to another peer's challenge
    "bandwidth_short",  # under half of what it claims
    "too_slow",  # computes slower than every role asks for
    "short",  # lacks something else that every role asks for
    "silent",  # gave no answer in time
]

TOO_LITTLE: Final[tuple[Reason, ...]] = ("too_slow", "short")  # say how much was reached, and not that it was false
NONSENSE: Final = 0.5  # relative error of an update from which on nothing of it was computed; doing nothing gives 1
FAR_OFF: Final = 2.0  # times the tolerance: one link beyond it is enough
MOST_WRONG: Final = 0.5  # share of links
TIED_NONSENSE: Final = 0.08  # share of links that look not computed where experts tied otherwise (links.py: 1% seen)
FEW_TIED: Final = 8  # fewer links than this say nothing of the precision of a mixture of experts
CLAIM_SHARE: Final = 0.5  # of what it claims, a bandwidth must reach


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a machine is not admitted."""

    reason: Reason
    text: str  # one sentence or two for people: the values, and what to do


def judge_links(
    kind: Kind, errors: Sequence[float], tolerance: float, dtype: str, *, outliers: float = 0.0
) -> Finding | None:
    """Links of one or more rounds of a kind.

    Args:
        errors: relative error of each opened link's update.
        tolerance: up to which it counts as computed in ``dtype``.
        outliers: share of honest links that may exceed it (experts that tie).
    """
    if not errors:
        return None
    nonsense = [error for error in errors if not error < NONSENSE]
    if len(nonsense) > MOST_WRONG * len(errors):
        return invented(f"{len(nonsense)} of the {len(errors)} {kind} steps that were opened were never computed")
    allowed = int(outliers * len(errors))
    tied = max(1, int(TIED_NONSENSE * len(errors))) if outliers else 0
    if len(nonsense) > tied:
        return Finding(
            "steps_skipped",
            f"{len(nonsense)} of the {len(errors)} {kind} steps that were opened were not computed: the machine "
            "skipped work. Run an unaltered gridllm; if it is, test the machine's memory and processor.",
        )
    if outliers and len(errors) < FEW_TIED:
        return None
    ordered = sorted(errors)
    worst, middle = ordered[-1 - allowed], ordered[len(ordered) // 2]
    if middle > tolerance or worst > FAR_OFF * tolerance:
        return Finding(
            "imprecise",
            f"The {kind} steps are computed less exactly than {dtype} is: off by {middle:.2g} in the middle and "
            f"{worst:.2g} at worst, where {tolerance:.2g} is allowed. Serve in the dtype that is claimed, unquantised, "
            "or claim another with --dtype.",
        )
    return None


def invented(what: str) -> Finding:
    """The work was not done."""
    return Finding(
        "work_invented", f"The work shown is not the work asked for: {what.rstrip('.')}. Run an unaltered gridllm."
    )


def judge_chase(elapsed_s: float, deadline_s: float, memory_bytes: int) -> Finding | None:
    """Whether a path through all of the memory was followed in a time that only memory at hand allows."""
    if elapsed_s <= deadline_s:
        return None
    return Finding(
        "memory_not_held",
        f"Reading through {spell('memory_bytes', memory_bytes)} took {elapsed_s:.1f} s where {deadline_s:.1f} s are "
        "allowed: it was not all held in memory. Offer less with --memory, or stop what makes this machine swap.",
    )


def memory_invented(what: str) -> Finding:
    """Pages or checkpoints are false."""
    return Finding(
        "memory_invented",
        f"What was shown of the memory is not what was to be held: {what.rstrip('.')}. Run an unaltered gridllm; if "
        "it is, test the machine's memory.",
    )


def judge_claims(figures: Figures, upload_mbit_s: float, download_mbit_s: float) -> Finding | None:
    """Measured bandwidth beside what the candidate claims; 0 is no claim."""
    for name, claimed in (("upload_mbit_s", upload_mbit_s), ("download_mbit_s", download_mbit_s)):
        measured = getattr(figures, name)
        if measured < CLAIM_SHARE * claimed:
            return Finding(
                "bandwidth_short",
                f"It claims an {label(name)} of {spell(name, claimed)}, and {spell(name, measured)} were measured."
                if name.startswith("up")
                else f"It claims a {label(name)} of {spell(name, claimed)}, and {spell(name, measured)} were measured.",
            )
    return None


def judge_minimums(figures: Figures, admission: Admission, asked: Sequence[Role]) -> Finding | None:
    """Whether some role that was asked for is reached."""
    met = roles_met(figures, admission)
    if set(met) & set(asked):
        return None
    # The role that is nearest says what is missing.
    lacking = {role: _lacking(figures, admission, role) for role in ROLES if role in asked}
    role, rows = min(lacking.items(), key=lambda item: len(item[1]))
    reason: Reason = "too_slow" if any(row.name in SPEEDS for row in rows) else "short"
    found = "; ".join(
        f"{label(row.name)} {spell(row.name, row.reached)} of {spell(row.name, row.asked)}" for row in rows
    )
    smaller = f" It is fit to {' or '.join(met)}: ask for that role." if met else ""
    return Finding(
        reason, f"To {role}, this machine falls short: {found}. gridllm bench shows what would help.{smaller}"
    )


def _lacking(figures: Figures, admission: Admission, role: Role) -> list[Shortfall]:
    rows = [row for row in compare(figures, admission.of(role)) if not row.met]
    if not rows and role == "serve":  # no minimum of its own, but nothing was measured either
        rows = [Shortfall("decode_blocks_per_s", 1e-3, figures.decode_blocks_per_s)]
    return rows


def judge_root(seen: SeenRoots, root: bytes, peer: str) -> Finding | None:
    """Whether this commitment was made before: by the same peer, or by another. Remembers it."""
    owner = seen.owner(root, peer)
    if owner is None:
        return None
    if owner == peer:
        return Finding(
            "replayed", "A commitment is one that this peer gave to an earlier challenge. Run an unaltered gridllm."
        )
    return Finding(
        "copied", f"A commitment is one that another peer, {owner}, gave to its challenge. Run an unaltered gridllm."
    )


class SeenRoots:
    """Commitments seen lately and whose they were, the oldest forgotten first. Honest ones never come twice."""

    def __init__(self, most: int = 16384) -> None:
        self._most = most
        self._owners: OrderedDict[bytes, str] = OrderedDict()

    def owner(self, root: bytes, peer: str) -> str | None:
        """Who showed ``root`` before; None the first time, when it becomes ``peer``'s."""
        owner = self._owners.get(root)
        if owner is None:
            self._owners[root] = peer
            if len(self._owners) > self._most:
                self._owners.popitem(last=False)
        return owner

    def __len__(self) -> int:
        return len(self._owners)
