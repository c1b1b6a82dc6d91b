"""What an examination, or its absence, means for a node that clients found slow. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gridllm.admission.certificate import Certificate
from gridllm.admission.figures import SPEEDS
from gridllm.charter.minimums import DAY_S
from gridllm.ids import PeerId

AS_BEFORE: Final = 0.75  # of each old figure: two measurements of one machine may differ by a quarter

Kind = Literal["suspect", "confirmed", "lowered", "demoted", "voided", "let_go", "gone", "draft"]


@dataclass(frozen=True, slots=True)
class FitnessEvent:
    """Something worth showing to the maintainer."""

    kind: Kind
    peer: PeerId
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be done about a node that was suspect."""

    kind: Kind
    why: str  # for people
    voids: bool  # whether the old certificate must not be shown any more
    bar_s: int = 0  # how long it gets no new one


def decide(old: Certificate, new: Certificate | None, refused: str, *, false: bool, serving: bool) -> Outcome:
    """What the examination, or its absence, means. Pure.

    Only what was found false bars a node: to be slow or silent for ten minutes is what anybody can do to an honest one.

    Args:
        new: what it was certified at since; None: not at all.
        refused: why its examination was not passed; empty when there was none.
        false: it was refused because something that it showed was false.
        serving: whether the directory still lists it.
    """
    if new is not None:
        lost = [role for role in old.roles if role not in new.roles]
        figures = f"{new.figures.decode_blocks_per_s:.6g} blocks/s instead of {old.figures.decode_blocks_per_s:.6g}"
        if lost:
            return Outcome("demoted", f"Measured again at {figures}: no longer admitted to {', '.join(lost)}.", True)
        if all(getattr(new.figures, name) >= AS_BEFORE * getattr(old.figures, name) for name in SPEEDS):
            return Outcome("confirmed", "Measured again: it is as fast as certified.", False)
        return Outcome("lowered", f"Measured again at {figures}.", True)
    if refused:
        why = f"Measured again and not admitted: {refused}"
        return Outcome("let_go", why, True, DAY_S) if false else Outcome("voided", why, True)
    if serving:
        why = "It was called to be measured again and did not come; it may be admitted anew."
        return Outcome("voided", why, True)
    return Outcome("gone", "It left when it was called to be measured again; it may be admitted anew.", True)
