"""Loading a span peaks at the span's bytes plus at most a tenth, and reads no other tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, VOCAB = 1024, 2816, 16, 32000  # 271 M parameters with embedding and head

CHILD = """
import json, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
# What any loading needs, whatever its size: the baseline.
import transformers.models.llama.modeling_llama, transformers.core_model_loading, transformers.conversion_mapping
import numpy
from gridllm.models.span import load_span
from gridllm.models.families import build_meta, read_config
folder = Path(sys.argv[1])
build_meta(read_config(folder), dtype=torch.float32, attn="sdpa")

def field(file, name):
    line = next(line for line in Path(f"/proc/self/{file}").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # start the peak afresh
rss, pss = field("status", "VmRSS"), field("smaps_rollup", "Pss:")
span = load_span(folder, None, 4, 8, dtype=getattr(torch, sys.argv[2]))
print(json.dumps({
    "peak": field("status", "VmHWM") - rss,
    "held": field("smaps_rollup", "Pss:") - pss,
    "span": span.held_bytes,
    "parameters": span.parameters,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 16-block Llama in float32 of which only blocks 4:8 are written: the others' shards are absent, as on a node
    that downloaded what it serves."""
    where = tmp_path_factory.mktemp("medium")
    config = {
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "tie_word_embeddings": False,
    }
    (where / "config.json").write_text(json.dumps(config))
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (HIDDEN, HIDDEN),
        "self_attn.v_proj": (HIDDEN, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
    }
    weight_map = {"model.embed_tokens.weight": "ends.safetensors", "model.norm.weight": "ends.safetensors"}
    for layer in range(LAYERS):
        names = {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
        weight_map |= dict.fromkeys(names, f"blocks-{layer // 4}.safetensors")
    present = {
        f"model.layers.{layer}.{name}.weight": np.full(shape, 0.01, dtype=np.float32)
        for layer in range(4, 8)
        for name, shape in shapes.items()
    }
    save_file(present, where / "blocks-1.safetensors")
    (where / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return where


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's memory accounts")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_peaks_at_the_span_s_size(folder: Path, dtype: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), dtype], capture_output=True, text=True, timeout=200, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["parameters"] == 4 * (4 * HIDDEN**2 + 3 * HIDDEN * INNER + 2 * HIDDEN)
    size = measured["parameters"] * (4 if dtype == "float32" else 2)
    assert size <= measured["span"] <= size + 4096
    assert measured["peak"] <= size * 1.1, measured
    assert measured["held"] <= size * 1.1, measured
