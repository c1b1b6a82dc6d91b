"""What a session asks of its nodes, how patient it is, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridllm.ids import ModelRoot, PeerId

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a session runs."""

    model: ModelRoot
    blocks: int  # of the whole model
    hidden_size: int
    dtype: torch.dtype  # of weights and hidden states
    rows: int = 1  # sequences that advance together
    tokens: int = 0  # expected per row; nodes without that room are passed over
    prompt: int = 0  # of them, those of the prompt, which cost less

    @property
    def dtype_name(self) -> str:
        """The dtype's name on the wire."""
        from gridllm.wire.tensor import name_of

        return name_of(self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds on waiting. All in seconds."""

    wait_s: float = 0.0  # for a node to appear when no chain covers the model
    linger_s: float = 3.0  # the same, for one that may have stumbled only; always granted
    open_s: float = 15.0  # for a node to open a session (it dials its next hop)
    resume_s: float = 120.0  # for a node to finish what it has queued of the session, and to replay to its next hop
    stall_s: float = 60.0  # without any sign of progress before the chain is asked where it stands
    repair_s: float = 180.0  # for one repair, waiting for nodes to appear not counted
    attempts: int = 200  # at repairing, over the whole session


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """Something that happened to a session's chain, for people to read."""

    kind: str  # opened | repaired | waiting | overlong | unpaid (served without pay, after all who pay)
    text: str
    chain: tuple[tuple[PeerId, int, int], ...] = ()  # (peer, start, end) afterwards
    lost: tuple[PeerId, ...] = ()
    joined: tuple[PeerId, ...] = ()
    pause_s: float = 0.0

    def __str__(self) -> str:
        return self.text


OnEvent = Callable[[ChainEvent], None]


def short(peer: PeerId) -> str:
    """A peer id as people tell it apart: its last characters."""
    return f"…{peer[-6:]}"
