"""What people ask of a model: a prompt of some kind, and wishes about the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypedDict, cast

from gridllm.errors import ModelError, UsageError
from gridllm_client.terms import ChainEvent, OnEvent

if TYPE_CHECKING:
    from gridllm_client.loaded import Loaded

TEMPLATE_S: Final = 10.0  # for a chat template to write a conversation

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
    chat = _chat_of(prompt)
    return _plain_ids(loaded, prompt) if chat is None else _tokens(loaded, _written(loaded, chat))


async def ids_aside(loaded: Loaded, prompt: Prompt) -> list[int]:
    """``ids_of`` for an event loop: what a stranger's chat template does, it does in a thread, and for so long at most.

    Raises:
        ModelError, UsageError: as ``ids_of``; or the template does not come to an end.
    """
    chat = _chat_of(prompt)
    if chat is None:
        return _plain_ids(loaded, prompt)
    try:
        async with asyncio.timeout(TEMPLATE_S):
            text = await asyncio.to_thread(_written, loaded, chat)
    except TimeoutError:
        raise ModelError(
            f"The chat template of {loaded.name!r} takes longer than {TEMPLATE_S:g} s for these messages; use "
            "generate() with a text instead."
        ) from None
    return _tokens(loaded, text)


def overlong(loaded: Loaded, count: int) -> ChainEvent | None:
    """What to say of a prompt of ``count`` tokens that is longer than any text its model learned from."""
    made_for = getattr(loaded.ends.config, "max_position_embeddings", None)
    if made_for is None or count <= made_for:
        return None
    sentence = f"the prompt has {count:,} tokens, but {loaded.name} was made for {made_for:,}: expect a poor answer"
    return ChainEvent("overlong", sentence)


def _chat_of(prompt: Prompt) -> list[dict[str, str]] | None:
    """The messages; None: it is no conversation."""
    if isinstance(prompt, str) or not prompt or not isinstance(prompt[0], Mapping):
        return None
    return [dict(message) for message in cast(Chat, prompt)]


def _plain_ids(loaded: Loaded, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        # Not verbose: that would say of a long text that an index error follows, which is seldom true (``overlong``).
        return list(loaded.ends.tokenizer(prompt, verbose=False)["input_ids"])
    return list(cast(Sequence[int], prompt))


def _written(loaded: Loaded, chat: list[dict[str, str]]) -> str:
    """A conversation as the model's template writes it."""
    tokenizer = loaded.ends.tokenizer
    if not tokenizer.chat_template:
        raise ModelError(f"The model {loaded.name!r} has no chat template; use generate() with a text instead.")
    try:
        return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # templates are programs of strangers, and raise what they like
        raise UsageError(f"The chat template of {loaded.name!r} does not take these messages: {error}") from error


def _tokens(loaded: Loaded, written: str) -> list[int]:
    """The template has written what stands at a text's beginning, too."""
    return list(loaded.ends.tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"])
