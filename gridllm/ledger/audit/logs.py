"""What an audit reads from, and what it holds of each log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gridllm.ledger.log.heads import Head
from gridllm.ledger.log.tiles import MemoryTiles, Tiles
from gridllm.ledger.messages import MAX_PAGE, Heads


class Source(Protocol):
    """Where books are read: ``Keepers``, or an exported file."""

    async def heads(self, keeper: str, /) -> Heads:
        """The newest head of each log that the keeper holds. Raises SwarmError: it is silent."""
        ...

    async def entries(self, keeper: str, log: str, first: int, limit: int = MAX_PAGE) -> list[bytes]:
        """Some entries of ``log`` from ``first`` on, as ``keeper`` holds it."""
        ...


class Seen(NamedTuple):
    """A head, and who showed it."""

    holder: str
    raw: bytes
    head: Head


@dataclass(slots=True)
class Log:
    """One keeper's log, as far as it was followed."""

    keeper: str
    holder: str = ""  # who showed its entries last
    head: Head | None = None  # followed so far
    raw: bytes = b""  # its envelope
    tiles: Tiles = field(default_factory=lambda: Tiles(MemoryTiles()))  # 32 bytes for each entry
    entries: int = 0
    cosigned: set[str] = field(default_factory=set)
    seconds: float = 0.0


class Prove(Protocol):
    """``Keepers.proof``."""

    async def __call__(
        self, keeper: str, log: str, size: int, *, index: int | None = None, first: int | None = None
    ) -> list[bytes]:
        """The proof, unverified. Raises SwarmError."""
        ...


Learn = Callable[[str], Awaitable[Sequence[int]]]
"""Parameters of each block of the model of a root that entries name; raises LedgerError: nobody knows it."""
Take = Callable[[Sequence[tuple[Any, ...]]], None]
Progress = Callable[[int, int], None]
"""Is told of entries read, and of entries in all as far as heads tell."""
