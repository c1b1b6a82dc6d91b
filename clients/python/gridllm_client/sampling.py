"""Choosing the next token exactly as transformers does, with its own logits processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from gridllm.errors import UsageError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


class Picker:
    """Next-token choice for one sequence.

    The same seed gives the tokens that a local ``model.generate`` gives after ``torch.manual_seed(seed)``.
    """

    def __init__(self, model: PreTrainedModel, config: GenerationConfig, prompt_tokens: int, seed: int | None) -> None:
        self._processors = model._get_logits_processor(
            generation_config=config, input_ids_seq_length=prompt_tokens, device="cpu"
        )
        self._sample = bool(config.do_sample)
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        eos = config.eos_token_id
        self.eos = frozenset([eos] if isinstance(eos, int) else eos or ())
        """Token ids that end the text."""

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> int:
        """The token after ``ids``, given its logits [1, vocabulary]."""
        if self._processors:
            logits = self._processors(torch.tensor([ids]), logits)
        if not self._sample:
            return int(logits.argmax())
        chances = torch.softmax(logits, dim=-1)
        return int(torch.multinomial(chances, num_samples=1, generator=self._generator))


def generation_config(
    model: PreTrainedModel,
    *,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    repetition_penalty: float | None = None,
    device: str = "cpu",
) -> GenerationConfig:
    """The model's own defaults, overridden by what is given; a temperature of 0 means greedy.

    Raises:
        UsageError: a value out of its range.
    """
    from transformers import GenerationConfig

    _check("temperature", temperature, 0.0, 100.0)
    _check("top_p", top_p, 0.0, 1.0)
    _check("top_k", top_k, 0, 10**9)
    _check("repetition_penalty", repetition_penalty, 1e-3, 100.0)
    given: dict[str, Any] = {"num_beams": 1}
    if temperature == 0:
        given["do_sample"] = False
    elif temperature is not None or top_p is not None or top_k is not None:
        given["do_sample"] = True
        given |= {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    given["repetition_penalty"] = repetition_penalty
    config, _ = model._prepare_generation_config(
        GenerationConfig(**{name: value for name, value in given.items() if value is not None})
    )
    model._prepare_special_tokens(config, device=device)
    return config


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name}={value} is out of range; give a number from {low:g} to {high:g}.")
