"""Opened links of a chain, recomputed by the authority: a few percent of the work, within what rounding explains.

Relative errors of the update, measured on Llamas of 8 blocks × 256, 3 × 1024 and 11 × 512 (smallest … largest of all
links; one Xeon core; "other machine" = √2 times an honest chain's distance from the same chain in exact arithmetic,
which is as far as two honest machines with unlike kernels should be apart):

=============================================  ================  ================  ================
prover's arithmetic                            float32           bfloat16          float16
=============================================  ================  ================  ================
as claimed; 1 or 2 threads, batched or not     3e-8 … 2.4e-6     0.0017 … 0.008    2e-4 … 8e-4
as claimed, other machine (estimated)          not measured      0.011 … 0.026     0.0014 … 0.003
16-bit integer weights                         2.8e-5 … 5.1e-5
float16 weights (TF32 rounds as much)          3.4e-4 … 8.0e-4
bfloat16 weights                               0.0030 … 0.0052
int8 weights, by channel or groups of 64       0.007 … 0.014     0.013 … 0.026     0.008 … 0.015
int6, groups of 64                             0.03 … 0.06       0.03 … 0.06       0.03 … 0.06
int5, groups of 32                             0.06 … 0.11       0.06 … 0.11       0.07 … 0.11
int4, groups of 32 or 128; nf4 of 64           0.13 … 0.28       0.14 … 0.32       0.15 … 0.29
attention or a block left out, half a context  0.43 … 0.80
a step skipped (state repeated)                0.86 … 1.0        as float32        as float32
drive picked by a wrong digest                 0.6 … 1.5         as float32        as float32
=============================================  ================  ================  ================

So ``TOLERANCE`` tells float32 from float16 and less, float16 from int8 and less, bfloat16 from int5 and less. It
cannot tell float32 from float32 arithmetic over 16-bit integer weights, nor bfloat16 from int8 or int6 weights.

Experts: where two tie within rounding, honest machines choose differently and one update in float16 or bfloat16 is off
by 0.02 … 0.8. Mixtral's shape (8 experts, 2 chosen, 8 blocks) against exact arithmetic: 10% of single tokens and 29% of
prompts above tolerance in bfloat16, 1 and 38% in float16, none in float32; 3.6% of single tokens above 0.3, 1.0% above
0.5. int4 puts all links above tolerance, int8 claimed as bfloat16 passes. With experts, a prover in bfloat16 or float16
that skips less than about a tenth of the steps can look like one whose experts tied.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import torch

from gridllm.admission.messages import Kind
from gridllm.admission.proof.chain import Course, Lane, Link, Shown
from gridllm.admission.proof.merkle import verify_inclusion
from gridllm.admission.proof.workload import Workload
from gridllm.errors import AdmissionError, BadTensor
from gridllm.merkle import leaf_digest
from gridllm.wire.strict import UNPARSABLE
from gridllm.wire.tensor import unpack

ROWS_AT_ONCE: Final = 16  # recomputed in one pass, which bounds memory; a prompt has a pass of its own
MAX_SIZE: Final = 2.0  # root mean square of a token: 1 from scaling and at most 0.87 from the drive
_PROOF_BYTES: Final = 4096  # more than the digests of one link take
TOLERANCE: Final = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.005}
EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERT_OUTLIERS: Final = {"float32": 0.05, "bfloat16": 0.6, "float16": 0.6}
_decoder = msgspec.msgpack.Decoder(Shown)
_random = random.SystemRandom()


def tolerance(dtype: str) -> float:
    """Relative error of an update up to which a link counts as computed in ``dtype``."""
    return TOLERANCE[dtype]


def outliers_allowed(config: Mapping[str, Any], dtype: str) -> float:
    """Share of a kind's honest links that may exceed the tolerance (8 links and more): 0 without experts."""
    experts = max((n for name in EXPERTS if isinstance(n := config.get(name), int)), default=0)
    return EXPERT_OUTLIERS[dtype] if experts > 1 else 0.0


class LinkChecker:
    """Checks links of one challenge. Holds the workload: drop both when the examination ends. Used by one thread."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._lane: tuple[Kind, int, Lane] | None = None  # the last one; kinds come one after the other

    def check(
        self, kind: Kind, shown: bytes, root: bytes, steps: int, links: Sequence[int], seed_of_round: bytes
    ) -> list[float]:
        """The relative error of each link's update, ‖n - n'‖ / ‖n' - h‖, in the order of ``links``.

        ``h`` is state t, ``n`` state t + 1 without its drive as shown, n' as recomputed here.

        Raises:
            AdmissionError: the document does not parse, or what it opens is not what was committed to.
        """
        course = Course(self.workload, kind, seed_of_round, steps)
        opened = self._parse(kind, shown, len(links))
        for t, link in zip(links, opened, strict=True):
            _verify(link, t, course.references[t], root, steps + 1)
            if t == 0 and link.before != _bytes(course.start):
                raise AdmissionError("The chain does not start where its seed says.")
        # Which row of a batch is looked at must not follow from where in the chain a link stands: drawn after all was
        # committed to, or else each row would be computed only where its turn is likely to come.
        order = _random.sample(range(len(opened)), len(opened))
        errors = [0.0] * len(opened)
        at_once = 1 if kind == "prefill" else ROWS_AT_ONCE
        for at in range(0, len(order), at_once):
            part = order[at : at + at_once]
            for place, error in zip(part, self._recompute(kind, [opened[one] for one in part], course), strict=True):
                errors[place] = error
        return errors

    def _parse(self, kind: Kind, shown: bytes, count: int) -> list[Link]:
        size = self.workload.state_bytes(kind)
        if len(shown) > count * (2 * size + _PROOF_BYTES) + _PROOF_BYTES:
            raise AdmissionError(f"{len(shown)} bytes were shown for {count} links: more than they can take.")
        try:
            opened = _decoder.decode(shown).links
        except UNPARSABLE as error:
            raise AdmissionError(f"The shown links do not parse: {error}.") from error
        if len(opened) != count:
            raise AdmissionError(f"{count} links were asked for and {len(opened)} were shown.")
        return opened

    @torch.inference_mode()
    def _recompute(self, kind: Kind, links: list[Link], course: Course) -> list[float]:
        """Of a batch only one row of each link, by its place here: rows do not depend on each other."""
        before, after, drive = [], [], []
        rows = [place % self.workload.rows(kind) for place in range(len(links))]
        tokens = self.workload.tokens_of_row(kind)
        for row, link in zip(rows, links, strict=True):
            mine = slice(row * tokens, (row + 1) * tokens)
            before.append(self._state(link.before, course.tokens)[mine])
            after.append(self._state(link.after, course.tokens)[mine])
            drive.append(course.drive(leaf_digest(link.before), link.reference)[mine])
        hidden = torch.cat(before).to(self.workload.device)
        expected = self._lane_for(kind, rows).forward(hidden)
        shape = (len(links), -1)
        wrong = (torch.cat(after).to(expected) - torch.cat(drive) - expected).view(shape).norm(dim=1)
        update = (expected - hidden.float()).view(shape).norm(dim=1)
        errors: list[float] = (wrong / update.clamp_min(1e-30)).nan_to_num(nan=1e9, posinf=1e9).tolist()
        return errors

    def _lane_for(self, kind: Kind, rows: list[int]) -> Lane:
        if self._lane is None or self._lane[:2] != (kind, len(rows)):
            self._lane = None  # freed before the next one is made
            self._lane = kind, len(rows), Lane(self.workload, kind, rows)
        return self._lane[2]

    def _state(self, raw: bytes, tokens: int) -> torch.Tensor:
        try:
            state = unpack(raw, tokens=tokens, hidden_size=self.workload.hidden_size, dtype=self.workload.dtype)
        except BadTensor as error:
            raise AdmissionError(f"A shown state cannot be one of the chain: {error}") from error
        size = float(state.float().square().mean(-1).max()) ** 0.5
        # A step's error is measured by its update: beside a huge state, nonsense would look small.
        if not size <= MAX_SIZE:
            raise AdmissionError(f"A shown state cannot be one of the chain: a token has size {size:.3g}, not about 1.")
        return state


def _verify(link: Link, t: int, reference: int, root: bytes, leaves: int) -> None:
    verify_inclusion(root, leaves, t, leaf_digest(link.before), link.before_proof)
    verify_inclusion(root, leaves, t + 1, leaf_digest(link.after), link.after_proof)
    verify_inclusion(root, leaves, reference, link.reference, link.reference_proof)


def _bytes(state: torch.Tensor) -> bytes:
    return state.view(-1).view(torch.uint8).numpy().tobytes()
