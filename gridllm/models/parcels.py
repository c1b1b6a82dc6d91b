"""What is still to be fetched, shared by those who fetch: each part is in one hand at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable

from gridllm.models.cached import Part


class Parcels:
    """Parts that wait, are under way, or have arrived."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._waiting = list(parts)
        self._under_way: list[Part] = []
        self._changed = asyncio.Condition()

    @property
    def left(self) -> int:
        """Parts that have not arrived."""
        return len(self._waiting) + len(self._under_way)

    async def take(self, lacks: Container[str]) -> Part | None:
        """A part to fetch whose name is not among ``lacks``; waits while another hand may yet put one back.

        None: there is nothing more to do for this hand.
        """
        async with self._changed:
            while True:
                for position, part in enumerate(self._waiting):
                    if part.item.name not in lacks:
                        self._under_way.append(self._waiting.pop(position))
                        return part
                if not any(part.item.name not in lacks for part in self._under_way):
                    return None
                await self._changed.wait()

    def arrived(self, part: Part) -> None:
        """It need not be fetched any more; ``put_back`` must follow."""
        self._under_way.remove(part)

    async def put_back(self, part: Part) -> int:
        """Let go of a part, whatever became of it. Another hand goes on where this one stopped; returns how many bytes
        are to be fetched again all the same.

        A tokenizer file begins anew, since its size is only hearsay, and so does what one of several senders spoilt.
        """
        lost = 0
        if part in self._under_way:
            if part.item.file or part.whole:
                lost = part.offset
                await asyncio.to_thread(part.drop)
            self._under_way.remove(part)
            self._waiting.insert(0, part)
        async with self._changed:
            self._changed.notify_all()
        return lost

    def drop(self) -> None:
        """Give up what is half-fetched. In a thread."""
        for part in (*self._waiting, *self._under_way):
            part.drop()
