"""What a node's refusal means for the chain: whom it puts in doubt."""

from __future__ import annotations

from dataclasses import dataclass

from gridllm.errors import (
    BadPayment,
    BadTensor,
    Draining,
    Full,
    NextHopLost,
    NodeFault,
    NotAdmitted,
    NotEntitled,
    Refusal,
    Unpaid,
)
from gridllm.ids import PeerId
from gridllm_client.chain import Chain


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a refusal means for the chain."""

    gone: PeerId | None = None  # this hop must be replaced
    accused: PeerId | None = None  # this one should be, or else its accuser
    fatal: bool = False  # the caller's own fault


def judge(chain: Chain, peer: PeerId, refusal: Refusal, blamed: PeerId | None) -> Verdict:
    """Whom a refusal of ``peer`` puts in doubt. An empty verdict: ask all hops where they stand."""
    if isinstance(refusal, NextHopLost):
        following = chain.next_of(peer)
        return Verdict(accused=following) if following is not None and blamed in (None, following) else Verdict()
    if isinstance(refusal, NotAdmitted):
        if blamed in (None, peer):
            return Verdict(gone=peer)
        # Whoever blames another may be the one that is wrong: by its clock, or by what it has not heard yet.
        return Verdict(accused=blamed) if blamed in (chain.next_of(peer), chain.before(peer)) else Verdict()
    if isinstance(refusal, NotEntitled | BadPayment | Unpaid):
        means = "fatal" if chain.payer is None else chain.payer.disputed(peer, refusal)
        return Verdict(gone=peer if means == "leave" else None, fatal=means == "fatal")
    if isinstance(refusal, BadTensor):
        sender = chain.before(peer)
        return Verdict(gone=sender, fatal=sender is None)
    if isinstance(refusal, Full | Draining | NodeFault) or refusal.code in ("wrong_model", "wrong_span", "too_large"):
        return Verdict(gone=peer)
    return Verdict()
