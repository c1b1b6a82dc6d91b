"""Model families: where a family keeps its blocks, embedding and norm, and how its class is built without weights.

``config.base_model_pp_plan`` of transformers says so for most families; what lacks one stands in a small table. Nothing
here downloads or allocates: models are built on torch's meta device.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gridllm.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
SUPPORTED: Final = (
    "Llama, Qwen2, Qwen3, Mistral, Mixtral, Gemma 2, Gemma 3 (text), GPT-2, GPT-NeoX, OLMo 2, Phi-3, Falcon, BLOOM and "
    "other decoder-only families whose transformers class has a pipeline plan"
)
ALIASES: Final = {"gpt-sw3": "gpt2"}  # model_type in config.json → what transformers makes of it
UNSPLITTABLE: Final = {"hrm_text", "longcat_flash"}  # have a plan, but count or nest their blocks another way
_building: Final = threading.Lock()  # transformers changes torch's defaults for all threads while it builds a class
ATTENTION_LAYERS: Final = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a base model's parts (attributes of the model class without its head)."""

    embed: str  # token embedding
    layers: str  # the ModuleList of blocks
    norm: str  # final norm
    positions: tuple[str, ...] = ()  # learned position embeddings added to the token embedding
    embed_norms: tuple[str, ...] = ()  # norms between embedding and first block
    tuple_out: bool = False  # its blocks return (hidden, …) instead of hidden
    ragged: bool = True  # its attention goes through transformers' AttentionInterface


TABLE: Final[Mapping[str, Layout]] = {
    "gpt2": Layout("wte", "h", "ln_f", positions=("wpe",)),
    "falcon": Layout("word_embeddings", "h", "ln_f", tuple_out=True, ragged=False),
    "bloom": Layout(
        "word_embeddings", "h", "ln_f", embed_norms=("word_embeddings_layernorm",), tuple_out=True, ragged=False
    ),
    "doge": Layout("embed_tokens", "layers", "norm", ragged=False),  # makes its mask from the values
    "gpt_bigcode": Layout("wte", "h", "ln_f", positions=("wpe",)),
    **dict.fromkeys(
        ("olmoe", "stablelm", "nemotron", "phimoe", "granitemoe", "hunyuan_v1_dense"),
        Layout("embed_tokens", "layers", "norm"),
    ),
}


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a model folder, as transformers' own class.

    Raises:
        ModelError: missing or malformed config.json, a model that needs code of its own (``auto_map``), quantised
            weights, or a family that GridLLM does not support.
    """
    raw = read_config_json(folder)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    # Models that transformers knows itself often still carry the code they came with; that is simply not used.
    if "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING:
        raise ModelError(
            f"The model in {folder} needs its own Python code (auto_map in config.json); GridLLM never runs code from "
            f"a model. Supported: {SUPPORTED}."
        )
    if raw.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantised; GridLLM serves float32, bfloat16 or float16 weights.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, TypeError, KeyError, OSError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        why = " ".join(str(error).split())
        raise ModelError(f"{folder / 'config.json'} is not a config transformers understands: {why}") from error
    _check_causal(config)
    layout_of(config)
    return config


def family_of(folder: Path) -> str:
    """``read_config(folder).model_type``, without importing transformers where config.json says it.

    Raises:
        ModelError: config.json is missing or malformed.
    """
    said = read_config_json(folder).get("model_type")
    return ALIASES.get(said, said) if isinstance(said, str) else str(read_config(folder).model_type)


def read_config_json(folder: Path) -> dict[str, Any]:
    """config.json as plain data.

    Raises:
        ModelError: it is missing, larger than 4 MiB, or not a JSON object.
    """
    file = folder / "config.json"
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ModelError(f"{file} is larger than {MAX_CONFIG_BYTES} bytes: it is not a model's config.")
        data = json.loads(raw)
    except OSError as error:
        raise ModelError(f"{folder} is not a model folder: config.json cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file} is not a JSON object.")
    return data


def causal_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The family's causal-LM class.

    Raises:
        ModelError: the family has none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    _check_causal(config)
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _check_causal(config: PreTrainedConfig) -> None:
    # By name: looking up the class would import it, which takes a second.
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.is_encoder_decoder or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{config.model_type!r} is not a decoder-only language model; supported: {SUPPORTED}.")


def layout_of(config: PreTrainedConfig) -> Layout:
    """Where the family of ``config`` keeps its parts.

    Raises:
        ModelError: neither the table nor a pipeline plan of transformers tells, or its layers keep other state than
            keys and values.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTION_LAYERS
    if config.get_text_config() is not config or kinds or getattr(config, "is_heterogeneous", False):
        why = f"layers of kind {', '.join(sorted(kinds))}" if kinds else "parts other than one stack of text layers"
        raise ModelError(f"Model family {config.model_type!r} has {why}, which GridLLM cannot split; use {SUPPORTED}.")
    if config.model_type in TABLE:
        return TABLE[config.model_type]
    plan = getattr(config, "base_model_pp_plan", None) or {}
    embed = [name for name, (inputs, _) in plan.items() if inputs == ["input_ids"]]
    layers = [name for name, (inputs, _) in plan.items() if "attention_mask" in inputs]
    norm = [name for name, (inputs, _) in plan.items() if inputs == ["hidden_states"] and name not in layers]
    if len(embed) != 1 or len(layers) != 1 or len(norm) != 1 or config.model_type in UNSPLITTABLE:
        raise ModelError(f"Model family {config.model_type!r} is not supported; use {SUPPORTED}.")
    # Multi-head latent attention caches something smaller than the keys it attends to.
    return Layout(embed[0], layers[0], norm[0], ragged=not getattr(config, "kv_lora_rank", None))


def is_ragged(config: PreTrainedConfig) -> bool:
    """Whether sequences of many lengths can share a pass: attention can be replaced and attends to what it caches."""
    return layout_of(config).ragged and bool(causal_class(config)._supports_attention_backend)


def plain_attention(config: PreTrainedConfig) -> str:
    """transformers' own attention for a family whose attention cannot be replaced."""
    return "sdpa" if causal_class(config)._supports_sdpa else "eager"


def stretches_rope(config: PreTrainedConfig) -> bool:
    """Whether rotary frequencies change with the length of the text (``dynamic`` and ``longrope`` scaling)."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)


def position_limit(config: PreTrainedConfig) -> int | None:
    """Tokens a text may have: where learned positions end, or where frequencies would change with the text's length.

    A cached key keeps the frequencies it was made with, and one pass holds texts of many lengths, so a grid stays
    below that second limit, where every text has the same frequencies.
    """
    if layout_of(config).positions:
        return int(config.max_position_embeddings)
    if stretches_rope(config):
        parameters = config.rope_parameters
        original = parameters.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        return int(original or config.max_position_embeddings)
    return None


def build_meta(config: PreTrainedConfig, *, dtype: torch.dtype, attn: str) -> PreTrainedModel:
    """The family's causal-LM class on the meta device: all modules, no weights. Keeps ``config`` itself.

    Raises:
        ModelError: transformers cannot build the class from this config.
    """
    import torch
    from transformers import initialization as init
    from transformers.modeling_utils import local_torch_dtype

    model_class = causal_class(config)
    config._attn_implementation = attn
    try:
        # The same three contexts that from_pretrained builds under, so buffers get the dtypes they get there.
        with (
            _building,
            local_torch_dtype(dtype, model_class.__name__),
            init.no_tie_weights(),
            init.meta_device_safe_creation_ops(),
            torch.device("meta"),
        ):
            model = model_class(config)
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError, RuntimeError) as error:
        raise ModelError(f"The config of this {config.model_type} model does not fit its class: {error}") from error
    config.dtype = dtype
    model.config.dtype = dtype
    layers = getattr(model.base_model, layout_of(config).layers, ())
    if len(layers) != config.num_hidden_layers:
        raise ModelError(
            f"Model family {config.model_type!r} does not keep its {config.num_hidden_layers} blocks in one list, so "
            f"GridLLM cannot split it; use {SUPPORTED}."
        )
    return model.eval().requires_grad_(False)


def cut_config(config: PreTrainedConfig, start: int, end: int) -> PreTrainedConfig:
    """A copy of ``config`` for layers [start, end): their number, and every per-layer list cut with them.

    Some families read such lists by position in their loop over layers, not by a layer's own number.
    """
    count = config.num_hidden_layers
    cut = copy.deepcopy(config)
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == count and _is_per_layer(name, config):
            setattr(cut, name, value[start:end])
    cut.num_hidden_layers = end - start
    return cut


def _is_per_layer(name: str, config: PreTrainedConfig) -> bool:
    # A list can have as many entries as there are layers by chance (e.g. eos_token_id in a two-layer model).
    return "layer" in name or name.endswith(("_types", "_pattern")) or name == "attention_types"
