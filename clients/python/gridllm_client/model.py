"""A model of the grid, as its user sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from gridllm.errors import ModelError, UsageError
from gridllm.models.ends import Ends
from gridllm_client.generation import Generation, pieces_of
from gridllm_client.links import LinkPool
from gridllm_client.paying import Payer
from gridllm_client.reports import Reporter
from gridllm_client.routes import Routes
from gridllm_client.runtime import Runtime
from gridllm_client.sampling import Picker, generation_config
from gridllm_client.session import Session
from gridllm_client.terms import ChainEvent, OnEvent, Patience, Terms
from gridllm_client.wallet import Wallet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Chat = Sequence[Mapping[str, str]]
"""Messages, oldest first: ``[{"role": "user", "content": "Hello"}]``."""


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


class GridModel:
    """One model of a grid: holds its embedding and head, and runs everything between on the grid's nodes.

    Every method has an async twin with ``a`` before its name, which may be awaited on any event loop.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: LinkPool,
        routes: Routes,
        terms: Terms,
        ends: Ends,
        name: str = "",
        reporter: Reporter | None = None,
        wallet: Wallet | None = None,
    ) -> None:
        """``wallet`` pays, and knows the model's blocks; None: nobody does."""
        self.name = name
        self.runtime = runtime
        """The loop that sessions run on."""
        self._pool = pool
        self._routes = routes
        self._terms = terms
        self._reporter = reporter
        self._wallet = wallet
        self.ends = ends
        self.ends_lock = asyncio.Lock()
        """Held while ``ends`` work in a thread: they serve one at a time."""
        ends.model.generation_config = ends.generation_config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.ends.tokenizer

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

    async def acomplete(self, prompt: str | Sequence[int], **wishes: Unpack[Wishes]) -> Generation:
        """``complete``, awaited; also takes token ids."""
        return await self.runtime.arun(self._complete(prompt, wishes))

    def stream(self, prompt: str | Sequence[int], **wishes: Unpack[Wishes]) -> Iterator[str]:
        """The text of ``generate``, piece by piece as it comes; whole characters only."""
        return self.runtime.iterate(self._pieces(prompt, wishes, Generation()))

    def astream(self, prompt: str | Sequence[int], **wishes: Unpack[Wishes]) -> AsyncIterator[str]:
        """``stream``, awaited."""
        return self.runtime.aiterate(self._pieces(prompt, wishes, Generation()))

    def stream_into(self, result: Generation, prompt: str | Sequence[int], **wishes: Unpack[Wishes]) -> Iterator[str]:
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
        return (await self.acomplete(self.chat_prompt(messages), **wishes)).text

    def chat_prompt(self, messages: Chat) -> list[int]:
        """A conversation as token ids, up to where the answer begins.

        Raises:
            ModelError: the model has no chat template.
            UsageError: the template does not take these messages.
        """
        if not self.tokenizer.chat_template:
            raise ModelError(f"The model {self.name!r} has no chat template; use generate() with a text instead.")
        try:
            found = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except Exception as error:  # templates are programs of strangers, and raise what they like
            raise UsageError(f"The chat template of {self.name!r} does not take these messages: {error}") from error
        return list(found["input_ids"])

    @cached_property
    def hf(self) -> PreTrainedModel:
        """A transformers model over the grid: its ``generate()`` takes everything that transformers' does."""
        from gridllm_client.hf import grid_causal_lm

        return grid_causal_lm(self.ends, self.runtime, self.session)

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
        terms = Terms(
            model=self._terms.model,
            blocks=self._terms.blocks,
            hidden_size=self._terms.hidden_size,
            dtype=self._terms.dtype,
            rows=rows,
            tokens=tokens,
            prompt=prompt,
        )
        pace = self._reporter.pace(terms.model) if self._reporter is not None else None
        payer = Payer(self._wallet, terms, on_event) if self._wallet is not None else None
        return Session(self._pool, self._routes, terms, patience=patience, on_event=on_event, pace=pace, payer=payer)

    async def _generate(self, prompt: str | list[str], wishes: Wishes) -> str | list[str]:
        if isinstance(prompt, str):
            return (await self._complete(prompt, wishes)).text
        seed = wishes.get("seed")
        each = [wishes if seed is None else Wishes(**{**wishes, "seed": seed + i}) for i in range(len(prompt))]
        return [made.text for made in await asyncio.gather(*map(self._complete, prompt, each))]

    async def _complete(self, prompt: str | Sequence[int], wishes: Wishes) -> Generation:
        result = Generation()
        async with aclosing(self._pieces(prompt, wishes, result)) as pieces:
            async for _ in pieces:
                pass
        return result

    async def _pieces(
        self, prompt: str | Sequence[int], wishes: Wishes, result: Generation
    ) -> AsyncGenerator[str, None]:
        ids = self._ids(prompt)
        stop = wishes.get("stop", ())
        max_new_tokens = wishes.get("max_new_tokens", 128)
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens={max_new_tokens} leaves nothing to generate; give at least 1.")
        config = generation_config(
            self.ends.model,
            temperature=wishes.get("temperature"),
            top_p=wishes.get("top_p"),
            top_k=wishes.get("top_k"),
            repetition_penalty=wishes.get("repetition_penalty"),
        )
        pick = Picker(self.ends.model, config, len(ids), wishes.get("seed"))
        on_event = wishes.get("on_event")

        def note(event: ChainEvent) -> None:
            result.events.append(event)
            if on_event is not None:
                on_event(event)

        session = self.session(
            tokens=len(ids) + max_new_tokens,
            prompt=len(ids),
            patience=Patience(wait_s=wishes.get("wait_s", 0.0)),
            on_event=note,
        )
        try:
            await session.open()
            stops = (stop,) if isinstance(stop, str) else tuple(stop)
            generating = pieces_of(session, self.ends, ids, pick, max_new_tokens, stops, result, self.ends_lock)
            async with aclosing(generating):
                async for piece in generating:
                    yield piece
        finally:
            session.close()
            result.bills = session.bills

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        return list(self.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else list(prompt)
