"""The chain of steps: honest provers verify in every family; what the states are bound to."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from gridllm.admission.examination import stages_compute
from gridllm.admission.examination.judge import judge_links
from gridllm.admission.messages import Kind
from gridllm.admission.proof import chain as chains
from gridllm.admission.proof.chain import Chain
from gridllm.admission.proof.links import LinkChecker, outliers_allowed, tolerance
from gridllm.admission.proof.workload import Workload, round_seed
from gridllm.errors import AdmissionError
from tests.unit.tiny_models import FAMILIES

SEED = bytes(range(32))
KINDS: tuple[Kind, ...] = ("decode", "batch", "prefill")
STEPS = 9
LINKS = (0, 2, 3, 7, 8)


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    config = CONFIG_MAPPING[family.partition("-")[0]](**(FAMILIES[family] | changes))
    plain: dict[str, Any] = json.loads(config.to_json_string())
    return plain


def weights_of(workload: Workload) -> dict[str, torch.Tensor]:
    return {name: value for name, value in workload.span.base.state_dict().items() if value.is_floating_point()}


@pytest.fixture(scope="module")
def llama() -> Workload:
    torch.set_num_threads(1)
    return Workload(config_of("llama"), "float32", SEED)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_honest_chain_verifies_in_every_family(family: str) -> None:
    config = config_of(family)
    prover, checker = Workload(config, "float32", SEED), LinkChecker(Workload(config, "float32", SEED))
    for kind in KINDS:
        seed = round_seed(SEED, kind, 1, bytes(32))
        chain = Chain(prover, kind, seed)
        root = chain.run(STEPS)
        errors = checker.check(kind, chain.show(LINKS), root, STEPS, LINKS, seed)
        assert len(errors) == len(LINKS)
        assert max(errors) < tolerance("float32") / 10, f"{kind}: {errors}"
        assert chain.computed is not None
        states = chain.computed.states
        assert states.isfinite().all()
        # A block's update is of the size of its input, so that its error is not drowned.
        update = (states[1:] - states[:-1]).square().mean().sqrt() / states.square().mean().sqrt()
        assert 0.3 < update < 1.5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "falcon"])
def test_an_honest_chain_of_half_types_verifies(family: str, dtype: str) -> None:
    config = config_of(family)
    prover, checker = Workload(config, dtype, SEED), LinkChecker(Workload(config, dtype, SEED))
    for kind in KINDS:
        chain = Chain(prover, kind, SEED)
        root = chain.run(STEPS)
        errors = checker.check(kind, chain.show(LINKS), root, STEPS, LINKS, SEED)
        assert 1e-5 < max(errors) < tolerance(dtype)


def test_two_builds_hold_the_same_weights_and_another_seed_gives_others() -> None:
    for dtype in ("float32", "bfloat16"):
        one, again, other = (
            weights_of(Workload(config_of("gpt_oss"), dtype, seed)) for seed in (SEED, SEED, bytes(32))
        )
        assert one.keys() == again.keys()
        assert all(torch.equal(one[name], again[name]) for name in one)
        assert not any(torch.equal(one[name], other[name]) for name in one)


def test_float32_weights_fit_no_smaller_type(llama: Workload) -> None:
    matrix = weights_of(llama)["layers.0.mlp.up_proj.weight"]
    assert len(set(matrix.view(-1).tolist())) > 0.99 * matrix.numel()
    for smaller in (torch.bfloat16, torch.float16):
        assert (matrix.to(smaller).float() == matrix).float().mean() < 0.01


def test_each_seed_round_and_kind_has_its_own_chain(llama: Workload) -> None:
    others = (SEED, bytes(32))
    seeds = [round_seed(s, kind, n, nonce) for s in others for kind in KINDS for n in (0, 1) for nonce in others]
    assert len(set(seeds)) == len(seeds)
    roots = {Chain(llama, "decode", seed).run(3) for seed in seeds}
    assert len(roots) == len(seeds)
    assert Chain(llama, "decode", SEED).run(3) == Chain(llama, "decode", SEED).run(3)
    assert Chain(llama, "decode", SEED).run(4) not in roots


def test_a_chain_can_be_run_again_and_reports_progress(llama: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridllm.admission.proof.chain.PROGRESS_S", 0.0)
    told: list[float] = []
    chain = Chain(llama, "decode", SEED)
    with pytest.raises(AdmissionError, match="Compute comes before"):
        chain.show([0])
    first = chain.run(4, told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert chain.run(5) != first
    assert chain.run(4) == first
    for links in ([4], [-1], [0] * 65):
        with pytest.raises(AdmissionError, match="can be shown"):
            chain.show(links)


def test_steps_beyond_bounds_are_refused(llama: Workload) -> None:
    for steps in (0, (1 << 20) + 1):
        with pytest.raises(AdmissionError):
            Chain(llama, "decode", SEED).run(steps)
    with pytest.raises(AdmissionError, match="can be kept"):
        Chain(llama, "prefill", SEED).run(1 << 20)


def test_no_authority_asks_for_more_than_a_candidate_keeps(llama: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    few = 10 * llama.state_bytes("prefill")
    monkeypatch.setattr(chains, "MAX_KEPT_BYTES", few)
    monkeypatch.setattr(stages_compute, "MAX_KEPT_BYTES", few)
    sitting: Any = None
    steps = stages_compute.Speed(sitting, llama)._bounded("prefill", 1 << 20)
    Chain(llama, "prefill", SEED).run(steps)
    with pytest.raises(AdmissionError, match="can be kept"):
        Chain(llama, "prefill", SEED).run(steps + 1)


def test_the_work_fits_the_model_and_a_candidates_word_on_its_memory_makes_it_no_smaller() -> None:
    config = config_of("llama", hidden_size=64, num_hidden_layers=40)
    whole = Workload(config, "float32", SEED)
    assert whole.blocks == 16  # tiny blocks: the cap on their number
    size = sum(parameter.nbytes for parameter in whole.span.layers[0].parameters())
    assert Workload(config, "float32", SEED, memory_bytes=size).blocks == 16
    with pytest.raises(AdmissionError, match="more memory"):
        Workload(config, "float32", SEED, memory_bytes=size - 1)
    big = config_of("llama", hidden_size=1024, intermediate_size=3072, num_hidden_layers=3)
    assert Workload(big, "float32", SEED).blocks == 2  # 64 MiB are enough


def test_limits_of_the_model_are_kept() -> None:
    short = Workload(config_of("gpt2", n_positions=40), "float32", SEED)
    assert (short.context_tokens, short.tokens("prefill")) == (39, 40)
    assert Workload(config_of("phi3-longrope"), "float32", SEED).context_tokens == 63
    plain = Workload(config_of("llama"), "float32", SEED)
    assert (plain.context_tokens, [plain.tokens(kind) for kind in KINDS]) == (128, [1, 8, 64])


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "t5"}, {"model_type": "llama", "hidden_size": "wide"}, {"model_type": "mamba"}]
)
def test_configs_that_make_no_work_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(AdmissionError, match="No work can be made"):
        Workload(config, "float32", SEED)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(AdmissionError, match="int4"):
        Workload(config_of("llama"), "int4", SEED)


def test_experts_that_tie_excuse_few_links_and_no_skipping() -> None:
    allowed = outliers_allowed(config_of("mixtral"), "bfloat16")

    def reason(errors: list[float], outliers: float = allowed) -> str:
        finding = judge_links("decode", errors, tolerance("bfloat16"), "bfloat16", outliers=outliers)
        return finding.reason if finding else ""

    honest = [0.013] * 84 + [0.3] * 10 + [0.7] * 2
    assert reason(honest) == ""
    assert reason(honest, outliers=0.0) == "steps_skipped"
    assert reason([0.06]) == ""  # one prompt
    assert reason([0.013] * 80 + [0.95] * 16) == "steps_skipped"
    assert reason([0.15] * 96) == "imprecise"


def test_only_experts_may_disagree() -> None:
    assert outliers_allowed(config_of("llama"), "bfloat16") == 0
    for family in ("mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "olmoe"):
        assert 0.3 < outliers_allowed(config_of(family), "bfloat16") < 0.9
        assert outliers_allowed(config_of(family), "float32") <= 0.05
