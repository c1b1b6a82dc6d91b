"""What the stages of an examination share: the stream, the challenge's seed, the figures so far, the pace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gridllm.admission.examination.conversation import Conversation
from gridllm.admission.examination.judge import Finding, SeenRoots
from gridllm.admission.figures import Figures
from gridllm.admission.messages import Hello, Kind, Stage
from gridllm.charter.document import ModelEntry
from gridllm.charter.minimums import ROLES, Admission, Minimums, Role
from gridllm.ids import GridId, PeerId

if TYPE_CHECKING:
    from gridllm.models.manifest import Manifest

KINDS: Final[tuple[Kind, ...]] = ("decode", "batch", "prefill")
KIB: Final = 1024
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Who is measured, by whom, for what."""

    grid: GridId
    authority_hex: str  # the maintainer's public key
    peer: PeerId  # of the candidate, as the handshake proved it
    entry: ModelEntry
    manifest: Manifest  # of the model that ``hello`` names
    admission: Admission  # as amended
    hello: Hello
    seen: SeenRoots
    renewal: bool = False  # it serves on a certificate of ours that holds: memory stays as certified, one round a kind
    held_bytes: int = 0  # memory in that certificate
    dial_back: Callable[[], Awaitable[bool]] | None = None  # whether it is reachable without a relay
    network: bool = True  # False where both sides are one machine

    @property
    def roles(self) -> tuple[Role, ...]:
        """Asked for; unknown words were refused before."""
        return tuple(role for role in ROLES if role in self.hello.roles)

    def asks(self, name: str) -> bool:
        """Whether a minimum of a role asked for says anything about ``name`` (a field of ``Minimums``)."""
        return any(getattr(self.minimums(role), name) for role in self.roles)

    def minimums(self, role: Role) -> Minimums:
        """Of one role."""
        return self.admission.of(role)


@dataclass(frozen=True, slots=True)
class Examined:
    """The outcome."""

    figures: Figures  # as far as measured
    reason: str  # "" or a ``judge.Reason``
    text: str  # for people

    @property
    def admitted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long and how much. The defaults take 10 to 25 s on two cores."""

    echoes: int = 5
    transfer_s: float = 0.5  # a transfer that takes this long says how fast the line is
    first_transfer_bytes: int = 256 * KIB
    most_transfer_bytes: int = 32 * MIB
    unasked_transfer_bytes: int = 4 * MIB  # where nobody asks for bandwidth
    dial_back_s: float = 20.0
    chase_share: float = 1.0  # of memory.CHASE_STEPS
    chase_patience: float = 1.0  # times memory.CHASE_DEADLINE_S: for tests, whose short chases a busy machine holds up
    last_chase_share: float = 0.5  # at the end: it was held all the while
    pages: int = 8  # opened after the first chase
    segments: int = 12
    first_steps: int = 8
    calibrated_s: float = 0.25  # a chain this long says how many steps take ``round_s``
    round_s: float = 0.6
    rounds: int = 5  # measured ones; the best counts, so one that nothing disturbs is enough
    patience_s: float = 10.0  # for an answer, beside four times what it should take
    setup_s: float = 180.0  # for the first chain, whose weights must be made first


FULL: Final = Pace()
BRIEF: Final = Pace(
    echoes=3,
    transfer_s=0.1,
    most_transfer_bytes=4 * MIB,
    unasked_transfer_bytes=MIB,
    chase_share=0.5,
    last_chase_share=0.25,
    pages=4,
    segments=6,
    calibrated_s=0.08,
    round_s=0.16,
    rounds=3,
)
"""About 4 s. What is checked is checked as ever, only less of it; figures scatter more, since whatever else the machine
does in a tenth of a second counts."""


class Caught(Exception):
    """Something was found that decides."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


@dataclass(slots=True)
class Sitting:
    """One examination under way."""

    conversation: Conversation
    examination: Examination
    pace: Pace
    seed: bytes  # of the challenge
    plan: Sequence[tuple[str, float]]  # stages in order, each with its weight in time
    figures: dict[str, Any] = field(default_factory=dict)  # fields of ``Figures``
    rtt_s: float = 0.0
    _at: int = -1

    async def enter(self, name: str) -> None:
        """The next stage begins."""
        self._at += 1
        await self.done(0.0)

    async def done(self, share: float) -> None:
        """Tell how much of the stage under way is done."""
        total = sum(weight for _, weight in self.plan)
        name, weight = self.plan[self._at]
        before = sum(weight for _, weight in self.plan[: self._at])
        await self.conversation.tell(Stage(name=name, done=min(1.0, (before + share * weight) / total)))

    def judge(self, finding: Finding | None) -> None:
        """Stop here when there is one.

        Raises:
            Caught: there is.
        """
        if finding is not None:
            raise Caught(finding)

    def net_s(self, elapsed_s: float, most_share: float) -> float:
        """Without the way there and back, as measured before; no more than a share of it is taken off, since a
        candidate that answers echoes late would gain by it."""
        return elapsed_s - min(self.rtt_s, most_share * elapsed_s)

    def timeout_s(self, expected_s: float) -> float:
        """For a question whose answer should take ``expected_s``."""
        return 4 * expected_s + self.pace.patience_s
