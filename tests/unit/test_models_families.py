"""Every supported family: embedding → spans → head give what the plain transformers model gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gridllm.models.ends import Ends
from gridllm.models.families import family_of
from gridllm.models.manifest import build_manifest
from gridllm.models.span import Span, load_span
from tests.unit.tiny_models import FAMILIES, LAYERS, VOCAB, SpanCache, Tiny, make_model

CUTS = ((0, 2), (2, 3), (3, LAYERS))
PROMPT, STEPS = 17, 6  # longer than the sliding windows of 6
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.set_num_threads(1)
    return make_model(request.param, tmp_path_factory.mktemp(request.param))


def run_chain(
    spans: list[Span], caches: list[SpanCache], hidden: torch.Tensor, positions: torch.Tensor
) -> list[torch.Tensor]:
    outputs = []
    for span, cache in zip(spans, caches, strict=True):
        hidden = span.forward(hidden, positions[None], cache)
        outputs.append(hidden)
    return outputs


def test_chain_of_spans_equals_the_plain_model(tiny: Tiny) -> None:
    manifest = build_manifest(tiny.folder)
    ends = Ends.load(tiny.folder, manifest)
    spans = [load_span(tiny.folder, manifest, a, b) for a, b in CUTS]
    caches = [SpanCache(a) for a, _ in CUTS]
    ids = torch.randint(0, VOCAB, (1, PROMPT + STEPS), generator=torch.Generator().manual_seed(3))
    blocks: list[torch.Tensor] = []
    last = tiny.model.base_model.get_submodule(_layers_name(tiny))[-1]
    last.register_forward_hook(lambda _m, _a, out: blocks.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        plain = tiny.model(ids, output_hidden_states=True)
    for begin, end in [(0, PROMPT), *((p, p + 1) for p in range(PROMPT, PROMPT + STEPS))]:
        positions = torch.arange(begin, end)
        hidden = ends.embed(ids[0, begin:end], positions)[None]
        torch.testing.assert_close(hidden, plain.hidden_states[0][:, begin:end], atol=TOLERANCE, rtol=TOLERANCE)
        outputs = run_chain(spans, caches, hidden, positions)
        for (_, block), output in zip(CUTS, outputs, strict=True):
            expected = blocks[0] if block == LAYERS else plain.hidden_states[block]
            torch.testing.assert_close(output, expected[:, begin:end], atol=TOLERANCE, rtol=TOLERANCE)
        logits = ends.head(outputs[-1][0])
        torch.testing.assert_close(logits, plain.logits[0, begin:end], atol=TOLERANCE, rtol=TOLERANCE)


def test_a_family_is_told_without_transformers(tmp_path: Path) -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for said in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": said}))
        if said in CONFIG_MAPPING:
            assert family_of(tmp_path) == CONFIG_MAPPING[said].model_type, said


def test_cache_shapes_are_those_the_cache_gets(tiny: Tiny) -> None:
    span = load_span(tiny.folder, None, 1, 3)
    cache = SpanCache(1)
    span.forward(torch.randn(1, 4, span.hidden_size), torch.arange(4)[None], cache)
    seen = [(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in cache.layers]
    assert span.cache_shapes() == seen
    assert span.bytes_per_token == 4 * sum(heads * (key + value) for heads, key, value in seen)


def test_direct_ends_equal_the_family_s_own_forward(tiny: Tiny) -> None:
    ends = Ends.load(tiny.folder)
    ids, positions = torch.arange(9), torch.arange(30, 39)
    hidden = torch.randn(9, ends.hidden_size) * 4
    with torch.inference_mode():
        assert torch.equal(ends.embed(ids, positions), ends._tapped_embed(ids, positions))
        assert torch.equal(ends.head(hidden), ends._tapped_head(hidden).float())


def test_a_span_holds_its_blocks_and_nothing_else(tiny: Tiny) -> None:
    span = load_span(tiny.folder, None, 1, 3)
    layers = tiny.model.base_model.get_submodule(_layers_name(tiny))
    expected = sum(parameter.numel() for layer in layers[1:3] for parameter in layer.parameters())
    assert span.parameters == expected
    assert span.held_bytes < expected * 4 + 70_000  # rotary and mask tables
    assert span.config.num_hidden_layers == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_spans_have_the_plain_model_s_weights(tiny: Tiny, dtype: torch.dtype) -> None:
    span = load_span(tiny.folder, None, 3, LAYERS, dtype=dtype)
    plain = type(tiny.model).from_pretrained(tiny.folder, dtype=dtype)
    theirs = plain.base_model.get_submodule(_layers_name(tiny))[3:].state_dict()
    ours = torch.nn.ModuleList(span.layers).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
    for name, buffer in span.base.named_buffers():
        if name.startswith("rotary"):
            assert torch.equal(buffer, plain.base_model.get_buffer(name)), name


def _layers_name(tiny: Tiny) -> str:
    from gridllm.models.families import layout_of

    return layout_of(tiny.model.config).layers
