"""What cheaters do to a chain, and what the checker says to each."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridllm.admission.proof import links as links_module
from gridllm.admission.proof.chain import Chain, Computed, Course, Link, Shown
from gridllm.admission.proof.links import LinkChecker, tolerance
from gridllm.admission.proof.merkle import MerkleTree
from gridllm.admission.proof.workload import Workload
from gridllm.errors import AdmissionError
from gridllm.merkle import DIGEST_BYTES, leaf_digest
from tests.unit.test_admission_chain import SEED, config_of

STEPS = 24
CONFIG: dict[str, Any] = config_of("llama", hidden_size=128, intermediate_size=352, head_dim=32)


@pytest.fixture(scope="module")
def checker() -> LinkChecker:
    torch.set_num_threads(1)
    return LinkChecker(Workload(CONFIG, "float32", SEED))


@pytest.fixture(scope="module")
def honest() -> Chain:
    chain = Chain(Workload(CONFIG, "float32", SEED), "decode", SEED)
    chain.run(STEPS)
    return chain


def errors_of(checker: LinkChecker, chain: Chain, root: bytes, steps: int = STEPS) -> list[float]:
    errors: list[float] = []
    for at in range(0, steps, 64):
        links = list(range(at, min(at + 64, steps)))
        errors += checker.check(chain.kind, chain.show(links), root, steps, links, SEED)
    return errors


def commit(chain: Chain, course: Course, states: torch.Tensor) -> bytes:
    """Commit to states however they came about."""
    digests = bytearray().join(leaf_digest(state.view(-1).view(torch.uint8).numpy().tobytes()) for state in states)
    chain.computed = Computed(course, states, digests, MerkleTree([bytes(digests)]))
    return chain.computed.tree.root


def rounded(bits: int, group: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(weight: torch.Tensor) -> torch.Tensor:
        rows = weight.reshape(-1, group)
        unit = rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        back: torch.Tensor = (rows / unit).round() * unit
        return back.view(weight.shape)

    return change


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (lambda w: w.half().float(), 2e-4, 2e-3),
        (lambda w: w.bfloat16().float(), 2e-3, 0.01),
        (rounded(8, 32), 5e-3, 0.03),
        (rounded(4, 32), 0.1, 0.4),
    ],
    ids=["float16", "bfloat16", "int8", "int4"],
)
def test_lower_precision_claimed_as_float32(
    checker: LinkChecker, change: Callable[[torch.Tensor], torch.Tensor], least: float, most: float
) -> None:
    workload = Workload(CONFIG, "float32", SEED)
    for parameter in workload.span.base.parameters():
        if parameter.ndim == 2:
            parameter.data.copy_(change(parameter.data))
    for kind in ("decode", "batch", "prefill"):
        chain = Chain(workload, kind, SEED)
        errors = errors_of(checker, chain, chain.run(STEPS))
        assert tolerance("float32") < least < min(errors) <= max(errors) < most


def test_int4_claimed_as_bfloat16() -> None:
    workload = Workload(CONFIG, "bfloat16", SEED)
    for parameter in workload.span.base.parameters():
        if parameter.ndim == 2:
            parameter.data.copy_(rounded(4, 32)(parameter.data.float()))
    chain = Chain(workload, "batch", SEED)
    errors = errors_of(LinkChecker(Workload(CONFIG, "bfloat16", SEED)), chain, chain.run(STEPS))
    assert min(errors) > tolerance("bfloat16")


class Skipper(Chain):
    """Repeats the state in every tenth step."""

    def step(self, t: int, hidden: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        return hidden + drive if t % 10 == 3 else super().step(t, hidden, drive)


def test_skipped_steps_stand_out(checker: LinkChecker, honest: Chain) -> None:
    chain = Skipper(honest.workload, "decode", SEED)
    errors = errors_of(checker, chain, chain.run(STEPS))
    for t, error in enumerate(errors):
        assert (abs(error - 1) < 1e-3) if t % 10 == 3 else error < tolerance("float32")


def test_one_row_of_a_batch_left_out_is_seen_in_its_turn(checker: LinkChecker, honest: Chain) -> None:
    class Lazy(Chain):
        def step(self, t: int, hidden: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
            after = super().step(t, hidden, drive)
            after[5] = hidden[5] / hidden[5].square().mean().sqrt() + drive[5]
            return after

    chain = Lazy(honest.workload, "batch", SEED)
    errors = errors_of(checker, chain, chain.run(STEPS))
    assert sum(error > 0.5 for error in errors) == STEPS // 8


def test_no_row_of_a_batch_has_its_turn_at_a_place_that_can_be_foreseen(
    checker: LinkChecker, honest: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "_random", random.Random(1))  # else they come in order once in 8! = 40320 runs

    class Punctual(Chain):
        def step(self, t: int, hidden: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
            after = super().step(t, hidden, drive)
            kept = after[t].clone()  # what is looked at where links are gone through in order
            after[:] = hidden + drive
            after[t] = kept
            return after

    chain = Punctual(honest.workload, "batch", SEED)
    assert max(errors_of(checker, chain, chain.run(8), 8)) > 0.5


def test_invented_states_are_nonsense(checker: LinkChecker, honest: Chain) -> None:
    chain = Chain(honest.workload, "decode", SEED)
    course = Course(chain.workload, "decode", SEED, STEPS)
    states = torch.randn(STEPS + 1, *course.start.shape, generator=torch.Generator().manual_seed(1))
    states[0] = course.start
    assert min(errors_of(checker, chain, commit(chain, course, states))) > 0.5
    states[0] = -course.start
    with pytest.raises(AdmissionError, match="start"):
        errors_of(checker, chain, commit(chain, course, states))


@torch.inference_mode()
def test_stretches_computed_side_by_side_are_wrong_in_most_links(checker: LinkChecker, honest: Chain) -> None:
    steps, half = 200, 100
    chain = Chain(honest.workload, "decode", SEED)
    course = Course(chain.workload, "decode", SEED, steps)
    states = torch.empty(steps + 1, *course.start.shape)
    digests = [bytes(DIGEST_BYTES)] * (steps + 1)  # guesses of what the other stretch will give
    states[0] = course.start
    states[half] = torch.randn(course.start.shape, generator=torch.Generator().manual_seed(2))
    for t in [*range(half, steps), *range(half - 1)]:  # the second one first: it cannot wait
        digests[t] = leaf_digest(states[t].view(-1).view(torch.uint8).numpy().tobytes())
        drive = course.drive(digests[t], digests[course.references[t]])
        states[t + 1] = chain.step(t, states[t], drive)
    errors = errors_of(checker, chain, commit(chain, course, states), steps)
    wrong = [error > 0.1 for error in errors]
    assert not any(wrong[: half - 1])
    assert wrong[half - 1]  # where they meet
    refers_back = sum(course.references[t] < half for t in range(half, steps))
    assert refers_back > 0.55 * half  # ln 2 of them on average
    assert sum(wrong[half:]) >= 0.95 * refers_back  # one guess in 256 picks the right drive
    assert sum(wrong) > 0.25 * steps


def test_bytes_that_were_not_committed_to_are_refused(checker: LinkChecker, honest: Chain) -> None:
    assert honest.computed is not None
    root, links = honest.computed.tree.root, [3, 9, 23]
    shown = msgspec.msgpack.decode(honest.show(links), type=Shown)
    link, other = shown.links[1], shown.links[2]
    flipped = bytes([link.before[0] ^ 1]) + link.before[1:]
    bad: list[Link] = [
        msgspec.structs.replace(link, before=flipped),
        msgspec.structs.replace(link, after=flipped),
        msgspec.structs.replace(link, after=other.after, after_proof=other.after_proof),
        msgspec.structs.replace(link, reference=leaf_digest(b"another")),
        msgspec.structs.replace(link, reference=leaf_digest(other.before), reference_proof=other.before_proof),
        msgspec.structs.replace(link, before_proof=link.before_proof[:-1]),
        msgspec.structs.replace(link, after_proof=[*link.after_proof, bytes(32)]),
        msgspec.structs.replace(link, before=link.before[:-4]),
        other,
    ]
    for one in bad:
        raw = msgspec.msgpack.encode(Shown([shown.links[0], one, other]))
        with pytest.raises(AdmissionError):
            checker.check("decode", raw, root, STEPS, links, SEED)
    good = msgspec.msgpack.encode(shown)
    assert max(checker.check("decode", good, root, STEPS, links, SEED)) < tolerance("float32")
    refused: list[tuple[bytes, bytes, int, list[int], bytes]] = [
        (good, bytes(32), STEPS, links, SEED),
        (good, root, STEPS + 1, links, SEED),
        (good, root, STEPS, [3, 9, 22], SEED),
        (good, root, STEPS, links[:2], SEED),
        (good, root, STEPS, links, bytes(32)),
        (good + bytes(40_000), root, STEPS, links, SEED),
    ]
    for arguments in refused:
        with pytest.raises(AdmissionError):
            checker.check("decode", *arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38, 2.1])
def test_states_that_no_chain_has_are_refused(checker: LinkChecker, honest: Chain, value: float) -> None:
    # A huge state would make a small relative error of any step away from it.
    assert honest.computed is not None
    chain = Chain(honest.workload, "decode", SEED)
    states = honest.computed.states.clone()
    states[5] = value
    root = commit(chain, honest.computed.course, states)
    for t in (4, 5):
        with pytest.raises(AdmissionError, match="cannot be one of the chain"):
            checker.check("decode", chain.show([t]), root, STEPS, [t], SEED)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_random_bytes_are_named_errors(checker: LinkChecker, raw: bytes) -> None:
    with pytest.raises(AdmissionError):
        checker.check("decode", raw, bytes(32), STEPS, [1], SEED)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_document_altered_anywhere_is_refused(checker: LinkChecker, honest: Chain, data: st.DataObject) -> None:
    assert honest.computed is not None
    raw = bytearray(honest.show([7]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AdmissionError):
        checker.check("decode", bytes(raw), honest.computed.tree.root, STEPS, [7], SEED)
