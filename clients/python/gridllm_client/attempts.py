"""A generation on whichever model its source gives it: the first that nodes take it for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from gridllm.errors import GridError, Insufficient, NotEntitled, RouteError, UsageError
from gridllm_client.generation import Generation, pieces_of
from gridllm_client.loaded import Choice, Loaded, Source
from gridllm_client.prompts import Prompt, Wishes, ids_aside, overlong
from gridllm_client.sampling import Picker, generation_config
from gridllm_client.session import Session
from gridllm_client.terms import ChainEvent, OnEvent, Patience


class MakeSession(Protocol):
    """Makes a session of a model; ``GridModel.session`` tells the arguments."""

    def __call__(
        self, loaded: Loaded, *, tokens: int, prompt: int, patience: Patience, on_event: OnEvent
    ) -> Session: ...


async def pieces_from(
    source: Source, make_session: MakeSession, prompt: Prompt, wishes: Wishes, result: Generation
) -> AsyncGenerator[str, None]:
    """The text, piece by piece; ``result`` is filled in on the way. Once a token came, it ends on that model.

    Raises:
        GridError: as ``GridModel.generate``; of several models that nodes did not take it for, what the last one met.
    """
    on_event = wishes.get("on_event")

    def note(event: ChainEvent) -> None:
        result.events.append(event)
        if on_event is not None:
            on_event(event)

    failure: GridError = RouteError("There is no model to generate with.")
    async with aclosing(source.choices(wishes.get("wait_s", 0.0), note)) as choices:
        async for choice in choices:
            try:
                async with aclosing(_attempt(source, choice, make_session, prompt, wishes, result, note)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except GridError as error:
                if result.ids or not _another_may_do(error, stands=choice.loaded is source.now):
                    raise
                failure = error
    raise failure


def _another_may_do(error: GridError, *, stands: bool) -> bool:
    """Whether it is worth trying another model; what is wrong with one that does not stand yet need not concern us."""
    return isinstance(error, RouteError) or not (stands or isinstance(error, NotEntitled | Insufficient | UsageError))


async def _attempt(
    source: Source,
    choice: Choice,
    make_session: MakeSession,
    prompt: Prompt,
    wishes: Wishes,
    result: Generation,
    note: OnEvent,
) -> AsyncGenerator[str, None]:
    """All of it on one model."""
    loaded = choice.loaded
    ids = await ids_aside(loaded, prompt)
    if (warning := overlong(loaded, len(ids))) is not None:
        note(warning)
    stop = wishes.get("stop", ())
    max_new_tokens = wishes.get("max_new_tokens", 128)
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens={max_new_tokens} leaves nothing to generate; give at least 1.")
    config = generation_config(
        loaded.ends.model,
        temperature=wishes.get("temperature"),
        top_p=wishes.get("top_p"),
        top_k=wishes.get("top_k"),
        repetition_penalty=wishes.get("repetition_penalty"),
    )
    pick = Picker(loaded.ends.model, config, len(ids), wishes.get("seed"))
    session = make_session(
        loaded,
        tokens=len(ids) + max_new_tokens,
        prompt=len(ids),
        patience=Patience(wait_s=choice.wait_s),
        on_event=note,
    )
    try:
        await session.open()
        source.took(loaded)
        result.model, result.root = loaded.name, loaded.terms.model
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        generating = pieces_of(session, loaded.ends, ids, pick, max_new_tokens, stops, result, loaded.lock)
        async with aclosing(generating):
            async for piece in generating:
                yield piece
    finally:
        session.close()
        result.bills += session.bills
