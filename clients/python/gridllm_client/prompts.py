"""What people ask of a model: a prompt of some kind, and wishes about the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from gridllm.errors import ModelError, UsageError
from gridllm_client.terms import OnEvent

if TYPE_CHECKING:
    from gridllm_client.loaded import Loaded

Chat = Sequence[Mapping[str, str]]
"""Messages, oldest first: ``[{"role": "user", "content": "Hello"}]``."""

Prompt = str | Sequence[int] | Chat
"""A text, token ids of the very model that continues them, or a conversation."""


class Wishes(TypedDict, total=False):
    """What every way of generating takes; each has the model's own default."""

    max_new_tokens: int  # 128
    temperature: float  # 0: greedy; given and above 0: sampling
    top_p: float  # sample from the likeliest tokens that make up this share
    top_k: int  # sample from this many likeliest tokens; 0: all
    repetition_penalty: float  # above 1: repeat less
    stop: str | Sequence[str]  # the text ends before the first of these
    seed: int  # the same seed gives the same text
    wait_s: float  # wait this long for nodes to appear when blocks are uncovered; 0
    on_event: OnEvent  # called on the grid's thread when nodes are lost and replaced


def ids_of(loaded: Loaded, prompt: Prompt) -> list[int]:
    """A prompt as token ids of that model, up to where the answer begins.

    Raises:
        ModelError: the model has no chat template, or no tokenizer.
        UsageError: the template does not take these messages.
    """
    tokenizer = loaded.ends.tokenizer
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    if not prompt or not isinstance(prompt[0], Mapping):
        return list(cast(Sequence[int], prompt))
    if not tokenizer.chat_template:
        raise ModelError(f"The model {loaded.name!r} has no chat template; use generate() with a text instead.")
    messages = [dict(message) for message in cast(Chat, prompt)]
    try:
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    except Exception as error:  # templates are programs of strangers, and raise what they like
        raise UsageError(f"The chat template of {loaded.name!r} does not take these messages: {error}") from error
    return list(found["input_ids"])
