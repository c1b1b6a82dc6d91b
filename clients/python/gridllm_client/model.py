"""A model of the grid, as its user sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack, overload

from gridllm.models.ends import Ends
from gridllm_client.attempts import pieces_from
from gridllm_client.generation import Generation
from gridllm_client.links import LinkPool
from gridllm_client.loaded import Fixed, Loaded, Source
from gridllm_client.paying import Payer
from gridllm_client.prompts import Chat, Prompt, Wishes, ids_of
from gridllm_client.reports import Reporter
from gridllm_client.runtime import Runtime
from gridllm_client.session import Session
from gridllm_client.terms import OnEvent, Patience
from gridllm_client.wallet import Wallet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class GridModel:
    """One model of a grid: holds its embedding and head, and runs everything between on the grid's nodes.

    Every method has an async twin with ``a`` before its name, which may be awaited on any event loop.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: LinkPool,
        model: Loaded | Source,
        reporter: Reporter | None = None,
        wallet: Wallet | None = None,
    ) -> None:
        """
        Args:
            model: which it is; a source may give another one to each new generation.
            wallet: pays, and knows the model's blocks; None: nobody does.
        """
        self.runtime = runtime
        """The loop that sessions run on."""
        self._pool = pool
        self._source: Source = Fixed(model) if isinstance(model, Loaded) else model
        self._reporter = reporter
        self._wallet = wallet

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.dtype})"

    @property
    def name(self) -> str:
        """The model's own name, as the grid lists it."""
        return self._source.now.name

    @property
    def dtype(self) -> str:
        """What its nodes compute in: float32, bfloat16 or float16."""
        return self._source.now.terms.dtype_name

    @property
    def ends(self) -> Ends:
        """Embedding, head and tokenizer."""
        return self._source.now.ends

    @property
    def ends_lock(self) -> asyncio.Lock:
        """Held while ``ends`` work in a thread: they serve one at a time."""
        return self._source.now.lock

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.ends.tokenizer

    def fixed(self) -> GridModel:
        """The model that this is now, whatever ``@champion`` becomes: for token ids, and for comparing texts."""
        return GridModel(self.runtime, self._pool, self._source.now, self._reporter, self._wallet)

    @overload
    def generate(self, prompt: str, **wishes: Unpack[Wishes]) -> str: ...
    @overload
    def generate(self, prompt: list[str], **wishes: Unpack[Wishes]) -> list[str]: ...
    def generate(self, prompt: str | list[str], **wishes: Unpack[Wishes]) -> str | list[str]:
        """Continue a text; a list of texts is generated together.

        Args:
            prompt: what to continue.
            wishes: see ``Wishes``. With a list and a seed, each text gets a seed of its own, counted up.

        Raises:
            RouteError: no chain of nodes covers the model, or a lost node cannot be replaced.
            Refusal: the account has too little credit, or may not use the model; says how to earn it.
            UsageError: a wish out of its range.
        """
        return self.runtime.run(self._generate(prompt, wishes))

    @overload
    async def agenerate(self, prompt: str, **wishes: Unpack[Wishes]) -> str: ...
    @overload
    async def agenerate(self, prompt: list[str], **wishes: Unpack[Wishes]) -> list[str]: ...
    async def agenerate(self, prompt: str | list[str], **wishes: Unpack[Wishes]) -> str | list[str]:
        """``generate``, awaited."""
        return await self.runtime.arun(self._generate(prompt, wishes))

    def complete(self, prompt: str, **wishes: Unpack[Wishes]) -> Generation:
        """As ``generate``, with token ids, timing, the chain used and the repairs on the way."""
        return self.runtime.run(self.acomplete(prompt, **wishes))

    async def acomplete(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Generation:
        """``complete``, awaited; also takes token ids, or a conversation."""
        return await self.runtime.arun(self._complete(prompt, wishes))

    def stream(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Iterator[str]:
        """The text of ``generate``, piece by piece as it comes; whole characters only."""
        return self.runtime.iterate(self._pieces(prompt, wishes, Generation()))

    def astream(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> AsyncIterator[str]:
        """``stream``, awaited."""
        return self.runtime.aiterate(self._pieces(prompt, wishes, Generation()))

    def stream_into(self, result: Generation, prompt: Prompt, **wishes: Unpack[Wishes]) -> Iterator[str]:
        """As ``stream``; ``result`` is filled in on the way."""
        return self.runtime.iterate(self._pieces(prompt, wishes, result))

    def chat(self, messages: Chat, **wishes: Unpack[Wishes]) -> str:
        """The model's answer to a conversation.

        Raises:
            ModelError: the model has no chat template.
        """
        return self.runtime.run(self.achat(messages, **wishes))

    async def achat(self, messages: Chat, **wishes: Unpack[Wishes]) -> str:
        """``chat``, awaited."""
        return (await self.acomplete(list(messages), **wishes)).text

    def chat_prompt(self, messages: Chat) -> list[int]:
        """A conversation as token ids, up to where the answer begins.

        Raises:
            ModelError: the model has no chat template.
            UsageError: the template does not take these messages.
        """
        return ids_of(self._source.now, list(messages))

    @property
    def hf(self) -> PreTrainedModel:
        """A transformers model over the grid: its ``generate()`` takes everything that transformers' does."""
        from gridllm_client.hf import grid_causal_lm

        loaded = self._source.now
        if loaded.hf is None:
            loaded.hf = grid_causal_lm(loaded.ends, self.runtime, partial(self._session, loaded))
        return loaded.hf

    def session(
        self,
        *,
        rows: int = 1,
        tokens: int = 0,
        prompt: int = 0,
        patience: Patience | None = None,
        on_event: OnEvent | None = None,
    ) -> Session:
        """A bare session of hidden states, to be used on the grid's own loop.

        Args:
            rows: sequences that advance together.
            tokens: expected per row; nodes without room for them are passed over.
            prompt: of them, those of the prompt: credit is set aside for what they cost.
        """
        return self._session(
            self._source.now, rows=rows, tokens=tokens, prompt=prompt, patience=patience, on_event=on_event
        )

    def _session(
        self,
        loaded: Loaded,
        *,
        rows: int = 1,
        tokens: int = 0,
        prompt: int = 0,
        patience: Patience | None = None,
        on_event: OnEvent | None = None,
    ) -> Session:
        terms = replace(loaded.terms, rows=rows, tokens=tokens, prompt=prompt)
        pace = self._reporter.pace(terms.model) if self._reporter is not None else None
        payer = Payer(self._wallet, terms, on_event) if self._wallet is not None else None
        return Session(self._pool, loaded.routes, terms, patience=patience, on_event=on_event, pace=pace, payer=payer)

    async def _generate(self, prompt: str | list[str], wishes: Wishes) -> str | list[str]:
        if isinstance(prompt, str):
            return (await self._complete(prompt, wishes)).text
        seed = wishes.get("seed")
        each = [wishes if seed is None else Wishes(**{**wishes, "seed": seed + i}) for i in range(len(prompt))]
        return [made.text for made in await asyncio.gather(*map(self._complete, prompt, each))]

    async def _complete(self, prompt: Prompt, wishes: Wishes) -> Generation:
        result = Generation()
        async with aclosing(self._pieces(prompt, wishes, result)) as pieces:
            async for _ in pieces:
                pass
        return result

    def _pieces(self, prompt: Prompt, wishes: Wishes, result: Generation) -> AsyncGenerator[str, None]:
        return pieces_from(self._source, self._session, prompt, wishes, result)
