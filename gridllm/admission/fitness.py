"""What a client says of the speed it was served at, signed, so that a node's certificate can be held against it.

A report is a hint, never a proof: identities are free, and clients may lie. It only ever leads to a measurement.
It holds which nodes served, how many tokens, and how long they took; nothing of any text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from gridllm.errors import AdmissionError, IdentityError, StatementError
from gridllm.identity.fields import HexDigest, HexKey, Peer, Strict, UnixSeconds
from gridllm.identity.keys import Identity, peer_of
from gridllm.identity.statement import read_unverified, sign_statement, verify_statement
from gridllm.ids import GridId, PeerId
from gridllm.planning.paths import HOP_MS

FITNESS_CALL: Final = "gridllm.fitness"  # client → authority: one signed SpeedReport; answered by nothing
REPORT_TYPE: Final = "application/vnd.gridllm.speed+json"
MAX_REPORT_BYTES: Final = 16 * 1024
MAX_HOPS: Final = 64
LEAST_TOKENS: Final = 16  # fewer say more of one hiccup than of a machine
MAX_SPAN_S: Final = 3600  # of one report; clients cut long sessions at a minute
ROUNDING_S: Final = 2  # whole seconds at both ends
MAX_RATIO: Final = 4.0  # faster than certified is fine, and how much faster says nothing
LEAST_S: Final = 1e-6

Seconds = Annotated[float, Field(ge=0, le=MAX_SPAN_S, allow_inf_nan=False)]


class Leg(Strict):
    """One node's part of a chain: blocks [start, end)."""

    peer: Peer
    start: Annotated[int, Field(ge=0, lt=4096)]
    end: Annotated[int, Field(ge=1, le=4096)]


class SpeedReport(Strict):
    """One session, or a minute of a long one, as its client saw it. Signed by the client's own key."""

    grid: HexDigest
    client: HexKey  # who says so: the key of the connection it comes over
    model: HexDigest  # root
    chain: Annotated[list[Leg], Field(min_length=1, max_length=MAX_HOPS)]  # head first, the whole model, unchanged
    tokens: Annotated[int, Field(ge=LEAST_TOKENS, le=2**20)]  # decode steps of one row; no prompts, no replays
    seconds: Seconds  # they took in the chain, from sending to the answer; no repairs, no waiting for nodes
    expected_s: Seconds  # of it, by the nodes' certificates: blocks / decode figure, summed over hops and tokens
    network_s: Seconds  # of it, by measured round trips: on the way between machines
    began: UnixSeconds
    issued: UnixSeconds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.chain[0].start or any(leg.start >= leg.end for leg in self.chain):
            raise ValueError("the chain does not begin at block 0, or a leg of it is empty")
        if any(before.end != after.start for before, after in pairwise(self.chain)):
            raise ValueError("the chain has gaps")
        if len({leg.peer for leg in self.chain}) != len(self.chain):
            raise ValueError("a node is in the chain twice")
        if not -ROUNDING_S <= self.issued - self.began <= MAX_SPAN_S:
            raise ValueError("it covers no such stretch of time")
        if self.seconds > self.issued - self.began + ROUNDING_S:
            raise ValueError("more seconds were spent than passed")
        return self

    @property
    def blocks(self) -> int:
        """Of the whole model."""
        return self.chain[-1].end


def sign_report(report: SpeedReport, client: Identity) -> bytes:
    """The report as a statement of its client.

    Raises:
        StatementError: it would be too large.
    """
    return sign_statement(report, REPORT_TYPE, [client])


def verify_report(raw: bytes, grid: GridId, caller: PeerId) -> SpeedReport:
    """The report in ``raw``, once the peer that hands it in is known to have signed it, for this grid.

    Nobody hands in what another signed: a report that was overheard is worth nothing.

    Raises:
        AdmissionError: oversized, malformed, forged, another's, or of another grid.
    """
    if len(raw) > MAX_REPORT_BYTES:
        raise AdmissionError(f"A speed report of {len(raw)} bytes exceeds the limit of {MAX_REPORT_BYTES}.")
    try:
        claimed, _ = read_unverified(raw, SpeedReport, REPORT_TYPE)
        key = bytes.fromhex(claimed.client)
        report = verify_statement(raw, SpeedReport, REPORT_TYPE, [key], 1)
        signer = peer_of(key)
    except (StatementError, IdentityError) as error:
        raise AdmissionError(f"This is no speed report: {error}") from error
    if signer != caller:
        raise AdmissionError(f"A speed report of {signer} cannot be handed in by {caller}; each hands in its own.")
    if report.grid != grid:
        raise AdmissionError(f"A speed report of the grid {report.grid[:16]}… does not concern {grid[:16]}….")
    return report


def expected_s(chain: Sequence[Leg], tokens: int, decode_blocks_per_s: Mapping[PeerId, float]) -> float:
    """What ``tokens`` take in this chain by the figures of its nodes, seconds.

    Raises:
        AdmissionError: the figure of a node is missing.
    """
    total = 0.0
    for leg in chain:
        speed = decode_blocks_per_s.get(PeerId(leg.peer), 0.0)
        if speed <= 0:
            raise AdmissionError(f"No certified speed of {leg.peer} is known; the report cannot be weighed.")
        total += (leg.end - leg.start) / speed
    return tokens * total


def network_s(peers: Sequence[PeerId], tokens: int, rtt_s: Mapping[PeerId, float], push_s: Sequence[float]) -> float:
    """What ``tokens`` spend between machines, seconds: half a round trip each way, and pushes from hop to hop.

    Args:
        rtt_s: from the client to the first and the last of ``peers``, and to the others where it knows them.
        push_s: round trips from each hop to the next, as the nodes give them. They could excuse their slowness with
            far neighbours, so none counts for more than the way over the client.
    """
    total = (rtt_s[peers[0]] + rtt_s[peers[-1]]) / 2
    for (a, b), told in zip(pairwise(peers), push_s, strict=True):
        total += min(max(told, 0.0), rtt_s[a] + rtt_s[b]) / 2
    return tokens * (total + (len(peers) + 1) * HOP_MS / 1e3)


def ratio(seconds: float, expected: float, network: float) -> float:
    """Served speed as a share of the certified one: 1 is as certified, 0.5 half as fast; at most ``MAX_RATIO``."""
    return min(MAX_RATIO, expected / max(seconds - network, LEAST_S))
