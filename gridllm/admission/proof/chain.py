"""A chain of steps through the workload, each waiting for the one before it, and a commitment to all of its states.

state 0 comes from the round's seed. Step t takes state t [tokens, hidden_size] through the workload's blocks, scales
each token to a root mean square of 1 and adds the drive: for each token one vector of a seeded table, picked by the
digests of state t and of an earlier state r(t). So

- a step cannot begin before the last one ended, and no shortcut (a fixed point, a cycle) can be looked for;
- a stretch that starts from a guessed state, beside the stretch before it, needs digests which are not known yet: every
  link that refers to the first stretch comes out wrong, not only the one where the stretches meet. r(t) is drawn
  from the round's seed, evenly from 0…t. It does not depend on the states: whoever could choose it by trying out
  the last bits of a state would stay within his own stretch.

Besides the blocks' own forward (hash, drive, scaling) a decode step of hidden 256 in float32 costs 20 µs by itself, 25
at 1024, and 0.15 ms after blocks whose weights swept the caches: 3% of a step of the demo model's shape, 4% of a batch
or prefill step (one thread of a 2.8 GHz Xeon).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
import torch
from msgspec import Meta

from gridllm.admission.messages import MAX_KEPT_BYTES, MAX_SHOWN, MAX_STEPS, Bytes32, Kind
from gridllm.admission.proof.merkle import MerkleTree
from gridllm.admission.proof.seeds import key_stream, sub_seed
from gridllm.admission.proof.workload import Workload, seeded
from gridllm.engine.attention import RaggedCache, Segment
from gridllm.engine.forward import one_by_one
from gridllm.errors import AdmissionError
from gridllm.merkle import DIGEST_BYTES, leaf_digest

MAX_PROOF: Final = 21  # levels above 2^20 + 1 leaves
DRIVES: Final = 256  # vectors in the table: one byte picks one
DRIVE_SPREAD: Final = 0.5  # beside states of spread 1
PROGRESS_S: Final = 0.05

Proof = Annotated[list[Bytes32], Meta(max_length=MAX_PROOF)]


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step, opened."""

    before: bytes  # state t, [tokens, hidden_size] in C order, little-endian, in the dtype that is measured
    after: bytes  # state t + 1
    reference: Bytes32  # digest of state r(t)
    before_proof: Proof  # from leaf t to the root
    after_proof: Proof  # from leaf t + 1
    reference_proof: Proof  # from leaf r(t)


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opened links, in the order in which they were asked for."""

    links: Annotated[list[Link], Meta(max_length=MAX_SHOWN)]


class Course:
    """What a round's seed fixes: where the chain starts and what drives it."""

    def __init__(self, workload: Workload, kind: Kind, seed: bytes, steps: int) -> None:
        if not 1 <= steps <= MAX_STEPS:
            raise AdmissionError(f"A chain has 1 to {MAX_STEPS} steps, not {steps}.")
        self.tokens = workload.tokens(kind)
        shape = (self.tokens, workload.hidden_size)
        self.start = seeded(sub_seed(seed, "start"), shape, workload.dtype, 1.0, torch.device("cpu"))
        self.table = seeded(
            sub_seed(seed, "drives"), (DRIVES, workload.hidden_size), torch.float32, DRIVE_SPREAD, workload.device
        )
        drawn = np.frombuffer(key_stream(sub_seed(seed, "references"), 8 * steps), dtype="<u8")
        self.references: list[int] = (drawn % np.arange(1, steps + 1, dtype=np.uint64)).tolist()  # r(t), 0 ≤ r(t) ≤ t

    def drive(self, digest: bytes, reference: bytes) -> torch.Tensor:
        """[tokens, hidden_size] float32, picked by the digests of state t and of state r(t)."""
        picked = bytearray(hashlib.shake_128(digest + reference).digest(self.tokens))
        return self.table[torch.frombuffer(picked, dtype=torch.uint8).to(self.table.device, torch.int64)]


class Lane:
    """Caches in which rows of a step run side by side: the prover's own, or the same few rows of many steps."""

    def __init__(self, workload: Workload, kind: Kind, rows: Sequence[int]) -> None:
        """``rows``: which row's context each place of the lane gets (0 … ``workload.rows(kind)`` - 1)."""
        self.span = workload.span
        position = 0 if kind == "prefill" else workload.context_tokens
        tokens = workload.tokens_of_row(kind)
        self.segments = [Segment(workload.context(kind, row), position, tokens) for row in rows]
        self.positions = torch.arange(position, position + tokens, device=workload.device).repeat(len(rows))[None]
        self.cache = RaggedCache(self.segments, self.span.start)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [tokens of all places, hidden_size] → the blocks' output, each token scaled to 1, in float32.

        Every pass writes to the same positions: the rows are cut to their context before each step.
        """
        if self.span.ragged:
            out = self.span.forward(hidden[None], self.positions, self.cache)
        else:
            out = one_by_one(self.span, hidden[None], self.positions, self.segments, self.span.start)
        out = out[0].float()
        return out * torch.rsqrt(out.square().mean(-1, keepdim=True) + 1e-12)


@dataclass(frozen=True, slots=True)
class Computed:
    """A chain that was run."""

    course: Course
    states: torch.Tensor  # [steps + 1, tokens, hidden_size], CPU
    digests: bytearray  # of states 0 … steps
    tree: MerkleTree

    def link(self, t: int) -> Link:
        """Step t, opened."""
        raw = self.states[t : t + 2].view(2, -1).view(torch.uint8).numpy()
        r = self.course.references[t]
        return Link(
            before=raw[0].tobytes(),
            after=raw[1].tobytes(),
            reference=bytes(self.digests[r * DIGEST_BYTES : (r + 1) * DIGEST_BYTES]),
            before_proof=self.tree.proof(t),
            after_proof=self.tree.proof(t + 1),
            reference_proof=self.tree.proof(r),
        )


class Chain:
    """One round's chain. Used by one thread.

    Raises:
        AdmissionError: (``run``, ``show``) steps or links that cannot be, or states beyond ``MAX_KEPT_BYTES``.
    """

    def __init__(self, workload: Workload, kind: Kind, seed_of_round: bytes) -> None:
        """``seed_of_round``: ``workload.round_seed``."""
        self.workload = workload
        self.kind: Kind = kind
        self.seed = seed_of_round
        self.lane = Lane(workload, kind, range(workload.rows(kind)))
        self.computed: Computed | None = None

    @torch.inference_mode()
    def run(self, steps: int, progress: Callable[[float], None] | None = None) -> bytes:
        """Compute ``steps`` steps; returns the Merkle root over states 0 … steps.

        The states are kept for ``show`` until the next run. ``progress`` gets the share done, some times a second.
        """
        self.computed = None
        size = self.workload.state_bytes(self.kind)
        if size * (steps + 1) > MAX_KEPT_BYTES:
            raise AdmissionError(f"{steps} steps of {size} bytes are more than can be kept; ask for fewer.")
        course = Course(self.workload, self.kind, self.seed, steps)
        states = torch.empty(steps + 1, *course.start.shape, dtype=self.workload.dtype)
        states[0] = course.start
        raw = states.view(-1).view(torch.uint8).numpy().data
        digests = bytearray()
        told = time.monotonic()
        for t in range(steps):
            digest = leaf_digest(raw[t * size : (t + 1) * size])
            digests += digest
            at = course.references[t] * DIGEST_BYTES
            drive = course.drive(digest, bytes(digests[at : at + DIGEST_BYTES]))
            states[t + 1] = self.step(t, states[t].to(self.workload.device), drive)
            if progress is not None and (now := time.monotonic()) - told >= PROGRESS_S:
                told = now
                progress((t + 1) / steps)
        digests += leaf_digest(raw[steps * size :])
        tree = MerkleTree([bytes(digests)])
        self.computed = Computed(course, states, digests, tree)
        return tree.root

    def step(self, t: int, hidden: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        """State t [tokens, hidden_size] → state t + 1, float32. Tests override it with what cheaters do."""
        del t
        return self.lane.forward(hidden).add_(drive)

    def show(self, links: Sequence[int]) -> bytes:
        """Open these links (each 0 … steps - 1) of the last run: a msgpack document for ``LinkChecker``."""
        if self.computed is None:
            raise AdmissionError("No chain was computed that could be shown; Compute comes before ShowLinks.")
        steps = len(self.computed.states) - 1
        if len(links) > MAX_SHOWN or not all(0 <= t < steps for t in links):
            raise AdmissionError(f"At most {MAX_SHOWN} links of 0 … {steps - 1} can be shown.")
        return msgspec.msgpack.encode(Shown([self.computed.link(t) for t in links]))
