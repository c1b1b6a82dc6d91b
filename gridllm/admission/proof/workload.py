"""The work that a candidate is measured by: some of the model's own blocks, with weights that a seed gives.

Shape, attention and arithmetic are transformers' own for the model that is to be served; only the weights are invented,
so that nothing can be prepared. Prover and authority build the very same tensors.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from gridllm.admission.messages import Kind
from gridllm.admission.proof.sample import sample_blocks
from gridllm.admission.proof.seeds import key_stream, sub_seed
from gridllm.engine.attention import RAGGED, register
from gridllm.engine.cache import RowCache
from gridllm.errors import AdmissionError, ModelError
from gridllm.models.families import build_meta, is_ragged, layout_of, plain_attention, position_limit, read_config
from gridllm.models.inventory import Inventory, dtype_for
from gridllm.models.loading import initialise, place
from gridllm.models.span import Span, cut_span
from gridllm.wire.tensor import DTYPES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

CONTEXT_TOKENS: Final = 128  # in the cache before a token is decoded
PREFILL_TOKENS: Final = 64
BATCH_ROWS: Final = 8
CHUNK_VALUES: Final = 1 << 18  # made at a time, within a processor's cache
KEY_SPREAD: Final = 2.0  # of cached keys: attention picks some of them, and does not average them all away
SMALL: Final = 0.1  # spread of biases, and of norms around their neutral value


class Workload:
    """L blocks of the model with seeded weights, and the caches that decoding starts from. Used by one thread.

    Raises:
        AdmissionError: unknown dtype or family, or not one block fits into ``memory_bytes``.
    """

    def __init__(
        self, config: dict[str, Any], dtype: str, seed: bytes, *, device: str = "cpu", memory_bytes: int | None = None
    ) -> None:
        """``config``: of the model's manifest. ``seed``: of the challenge (``seeds.challenge_seed``)."""
        if dtype not in DTYPES:
            raise AdmissionError(f"Data type {dtype!r} cannot be measured; use one of {', '.join(DTYPES)}.")
        self.seed = seed
        self.device = torch.device(device)
        _plain_arithmetic(self.device)
        register()
        try:
            parsed = _parse(config)
            attn = RAGGED if is_ragged(parsed) else plain_attention(parsed)
            causal = build_meta(parsed, dtype=DTYPES[dtype], attn=attn)
            start, end = _choose(causal, memory_bytes)
            self.span: Span = cut_span(causal, start, end, device=self.device, give_weights=self._give_weights)
        except ModelError as error:
            raise AdmissionError(f"No work can be made from this model's config: {error}") from error
        self.blocks = end - start
        self.hidden_size = self.span.hidden_size
        self.dtype = self.span.dtype
        limit = position_limit(parsed) or 1 << 30
        self.context_tokens = min(CONTEXT_TOKENS, limit - 1)
        self._prefill_tokens = min(PREFILL_TOKENS, limit)
        self._contexts: dict[int, RowCache] = {}

    def rows(self, kind: Kind) -> int:
        """Sessions that one step takes along."""
        return BATCH_ROWS if kind == "batch" else 1

    def tokens_of_row(self, kind: Kind) -> int:
        """Tokens of one session in one step."""
        return self._prefill_tokens if kind == "prefill" else 1

    def tokens(self, kind: Kind) -> int:
        """Tokens that one step takes through the blocks, all rows together."""
        return self.rows(kind) * self.tokens_of_row(kind)

    def state_bytes(self, kind: Kind) -> int:
        """Bytes of one state of a chain: [tokens, hidden_size] in the model's dtype."""
        return self.tokens(kind) * self.hidden_size * self.dtype.itemsize

    def context(self, kind: Kind, row: int) -> RowCache:
        """A fresh cache for row ``row`` of a step of ``kind``, with room for its tokens after the seeded ones."""
        if kind == "prefill":
            cache = RowCache(self.span.cache_shapes(), self.dtype, self.device)
            cache.reserve(self._prefill_tokens)
            return cache
        if row not in self._contexts:
            self._contexts[row] = self._seeded_context(row)
        return self._contexts[row].fork(self.context_tokens, self.context_tokens + 1)

    def _seeded_context(self, row: int) -> RowCache:
        shapes = self.span.cache_shapes()
        cache = RowCache(shapes, self.dtype, self.device)
        cache.reserve(self.context_tokens)
        for layer, (heads, key, value) in enumerate(shapes):
            parts = []
            for name, size, spread in (("keys", key, KEY_SPREAD), ("values", value, 1.0)):
                shape = (heads, self.context_tokens, size)
                seed = sub_seed(self.seed, f"context {name} {layer}", row)
                parts.append(seeded(seed, shape, self.dtype, spread, self.device))
            cache.write(layer, 0, parts[0], parts[1])
        cache.length = self.context_tokens
        return cache

    def _give_weights(self, inventory: Inventory) -> None:
        """Matrices from the seed by fan-in; norms and biases near where the family starts them (1 or 0)."""
        model = inventory.model
        vectors = []
        for name in inventory.kept():
            meta = inventory.meta[name]
            owner, leaf = inventory.owners[name]
            dtype = dtype_for(name, meta, model)
            seed = sub_seed(self.seed, f"weights {name}")
            if meta.ndim >= 2 and not leaf.endswith("bias"):
                place(inventory, name, seeded(seed, meta.shape, dtype, _fan_in(owner, meta) ** -0.5, self.device))
            elif leaf in owner._parameters:
                place(inventory, name, torch.empty(meta.shape, dtype=dtype, device=self.device))
                getattr(owner, leaf)._is_hf_initialized = False
                vectors.append((owner, leaf, seed))
        initialise(model, self.device)
        for owner, leaf, seed in vectors:
            vector = getattr(owner, leaf).data
            neutral = float(bool((vector == 1).all()))
            vector.copy_(seeded(seed, vector.shape, torch.float32, SMALL, self.device).add_(neutral))


def seeded(
    seed: bytes, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, std: float, device: torch.device
) -> torch.Tensor:
    """Uniform values of standard deviation ``std``, the same bits on every machine.

    float32 is made from 32-bit integers, so that no smaller type holds the same values; the others from 16-bit ones.
    """
    out = torch.empty(shape, dtype=dtype, device=device)
    flat = out.view(-1)
    wide = dtype == torch.float32
    scale = math.sqrt(3.0) * std / (2.0**31 if wide else 2.0**15)
    for index, at in enumerate(range(0, flat.numel(), CHUNK_VALUES)):
        part = flat[at : at + CHUNK_VALUES]
        stream = key_stream(sub_seed(seed, "chunk", index), part.numel() * (4 if wide else 2))
        whole = np.frombuffer(stream, dtype="<i4" if wide else "<i2")
        part.copy_(torch.from_numpy(whole.astype(np.float32)).mul_(scale))
    return out


def round_seed(seed: bytes, kind: Kind, number: int, nonce: bytes) -> bytes:
    """Seed of one round's chain: where it starts and what drives it.

    Args:
        seed: of the challenge.
        nonce: of the question (``Compute``): were the seed known earlier, the chain could be computed before the clock
            runs.
    """
    return sub_seed(seed + nonce, f"round {kind}", number)


def _parse(config: dict[str, Any]) -> PreTrainedConfig:
    """The config as transformers' own class, with all refusals that a model folder meets."""
    with tempfile.TemporaryDirectory(prefix="gridllm-config-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return read_config(Path(folder))


def _choose(causal: PreTrainedModel, memory_bytes: int | None) -> tuple[int, int]:
    """Blocks from the model's middle (the first ones are of another kind in some families)."""
    layers: list[nn.Module] = list(getattr(causal.base_model, layout_of(causal.config).layers))
    largest = max(sum(parameter.nbytes for parameter in layer.parameters()) for layer in layers)
    count = sample_blocks(len(layers), largest)
    if memory_bytes is not None and memory_bytes < largest:
        raise AdmissionError(
            f"One block of this model takes {largest / 1024**2:.0f} MiB and {memory_bytes >> 20} MiB may "
            "be used; give GridLLM more memory, choose a smaller dtype, or a smaller role."
        )
    start = (len(layers) - count) // 2
    return start, start + count


def _fan_in(owner: nn.Module, meta: torch.Tensor) -> int:
    """Inputs that each output of the matrix sums over."""
    across = type(owner).__name__ == "Conv1D" or getattr(owner, "is_transposed", False)
    return int(meta.shape[-2 if across else -1])


def _plain_arithmetic(device: torch.device) -> None:
    """float32 means float32: no shortened factors or sums on accelerators. Process-wide."""
    torch.set_float32_matmul_precision("highest")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
