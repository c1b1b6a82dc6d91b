"""One model of the grid, ready for generations; and which one a new generation takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gridllm.models.ends import Ends
from gridllm_client.routes import Routes
from gridllm_client.terms import OnEvent, Terms

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(slots=True, eq=False, weakref_slot=True)
class Loaded:
    """What sessions of one model share."""

    name: str
    terms: Terms  # of the whole model; a session's add to them
    routes: Routes
    ends: Ends  # embedding, head and tokenizer
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while ``ends`` work in a thread: one at a time
    hf: PreTrainedModel | None = None  # once somebody asked for it

    def __post_init__(self) -> None:
        self.ends.model.generation_config = self.ends.generation_config


class Choice(NamedTuple):
    """A model that a new generation may try."""

    loaded: Loaded
    wait_s: float  # for nodes to appear where it lacks some


class Source(Protocol):
    """Where a ``GridModel`` has its model from. Lives on the grid's loop; ``now`` may be read from any thread."""

    @property
    def now(self) -> Loaded:
        """The model that stands."""
        ...

    def choices(self, wait_s: float, tell: OnEvent) -> AsyncGenerator[Choice, None]:
        """What a new generation tries, one after the other, until nodes take it; at least one.

        Args:
            wait_s: that its user is ready to wait for nodes.
            tell: is told what is waited for.
        """
        ...

    def took(self, loaded: Loaded) -> None:
        """Nodes took a generation of it."""
        ...


class Fixed:
    """Always the same model."""

    def __init__(self, loaded: Loaded) -> None:
        self.now = loaded

    async def choices(self, wait_s: float, tell: OnEvent) -> AsyncGenerator[Choice, None]:
        """It alone."""
        yield Choice(self.now, wait_s)

    def took(self, loaded: Loaded) -> None:
        """No news."""
