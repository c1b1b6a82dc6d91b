"""Opened links of a chain, recomputed by the authority: a few percent of the work, within what rounding explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import torch

from gridllm.admission.chain import Course, Lane, Link, Shown
from gridllm.admission.merkle import leaf_digest, verify_inclusion
from gridllm.admission.messages import Kind
from gridllm.admission.workload import Workload, parts_of
from gridllm.errors import AdmissionError, BadTensor
from gridllm.wire.tensor import unpack

ROWS_AT_ONCE: Final = 16  # recomputed in one pass, which bounds memory; a prompt's 64 tokens count as a pass
_PROOF_BYTES: Final = 4096  # more than the digests of one link take
TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.08, "float16": 0.08}
_decoder = msgspec.msgpack.Decoder(Shown)


def tolerance(dtype: str) -> float:
    """Relative error of an update up to which a link counts as computed in ``dtype``."""
    return TOLERANCE[dtype]


def outliers_allowed(config: Mapping[str, Any], dtype: str = "bfloat16") -> float:
    """Share of honest links that may exceed the tolerance: experts that tie are chosen one way here, another there."""
    return 0.0


class LinkChecker:
    """Checks links of one challenge. Holds the workload: drop both when the examination ends. Used by one thread."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._lanes: dict[tuple[Kind, int], Lane] = {}

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
        at_once = max(1, ROWS_AT_ONCE // self.workload.rows(kind)) if kind != "prefill" else 1
        errors: list[float] = []
        for part in parts_of(list(range(len(opened))), at_once):
            errors += self._recompute(kind, [opened[i] for i in part], course)
        return errors

    def _parse(self, kind: Kind, shown: bytes, count: int) -> list[Link]:
        size = self.workload.state_bytes(kind)
        if len(shown) > count * (2 * size + _PROOF_BYTES) + _PROOF_BYTES:
            raise AdmissionError(f"{len(shown)} bytes were shown for {count} links: more than they can take.")
        try:
            opened = _decoder.decode(shown).links
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise AdmissionError(f"The shown links do not parse: {error}.") from error
        if len(opened) != count:
            raise AdmissionError(f"{count} links were asked for and {len(opened)} were shown.")
        return opened

    @torch.inference_mode()
    def _recompute(self, kind: Kind, links: list[Link], course: Course) -> list[float]:
        device = self.workload.device
        before = torch.cat([self._state(link.before, course.tokens) for link in links]).to(device)
        after = torch.cat([self._state(link.after, course.tokens) for link in links]).to(device)
        drives = torch.cat([course.drive(leaf_digest(link.before), link.reference) for link in links])
        if (kind, len(links)) not in self._lanes:
            self._lanes[kind, len(links)] = Lane(self.workload, kind, len(links))
        expected = self._lanes[kind, len(links)].forward(before)
        wrong = (after.float() - drives - expected).view(len(links), -1).norm(dim=1)
        update = (expected - before.float()).view(len(links), -1).norm(dim=1)
        errors: list[float] = (wrong / update.clamp_min(1e-30)).nan_to_num(nan=1e9, posinf=1e9).tolist()
        return errors

    def _state(self, raw: bytes, tokens: int) -> torch.Tensor:
        try:
            return unpack(raw, tokens=tokens, hidden_size=self.workload.hidden_size, dtype=self.workload.dtype)
        except BadTensor as error:
            raise AdmissionError(f"A shown state cannot be one of the chain: {error}") from error


def _verify(link: Link, t: int, reference: int, root: bytes, leaves: int) -> None:
    verify_inclusion(root, leaves, t, leaf_digest(link.before), link.before_proof)
    verify_inclusion(root, leaves, t + 1, leaf_digest(link.after), link.after_proof)
    verify_inclusion(root, leaves, reference, link.reference, link.reference_proof)


def _bytes(state: torch.Tensor) -> bytes:
    return state.view(-1).view(torch.uint8).numpy().tobytes()
