"""What an authority has to tell its maintainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridllm.ids import PeerId


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth showing to the maintainer."""

    kind: Literal["examining", "admitted", "failed", "refused", "left", "certified"]  # failed: measured; refused: not
    peer: PeerId
    text: str = ""  # why, or which roles
    reason: str = ""  # a word for programs: of judge.Reason, or a Refusal's code
