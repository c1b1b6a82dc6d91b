"""One generation: the decode loop, and what it gives back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch

from gridllm.errors import UsageError
from gridllm.ids import PeerId
from gridllm.models.ends import Ends
from gridllm.wire.messages import RowSlice
from gridllm_client.sampling import Picker
from gridllm_client.session import Session
from gridllm_client.tab import Bill
from gridllm_client.terms import ChainEvent
from gridllm_client.text import Detokenizer, StopFinder

INLINE_WEIGHTS: Final = 32_000_000  # a head larger than this runs in a thread, so that heartbeats are not late

FinishReason = Literal["eos", "stop", "length"]


@dataclass(slots=True)
class Generation:
    """A text and how it came about. ``str()`` gives the text."""

    text: str = ""  # after the prompt, without stop string and end-of-text token
    model: str = ""  # which made it, by its own name: of @champion, the one that reigned when it began
    root: str = ""
    ids: list[int] = field(default_factory=list)  # the tokens generated
    prompt_tokens: int = 0
    finish_reason: FinishReason = "length"
    seconds: float = 0.0  # from the first call to the last token
    first_token_s: float = 0.0  # of it, until the first token
    chain: tuple[tuple[PeerId, int, int], ...] = ()  # (peer, first block, one past the last), at the end
    events: list[ChainEvent] = field(default_factory=list)  # nodes lost and replaced on the way
    bills: tuple[Bill, ...] = ()  # tokens metered at each node, and their price; known once it is over

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first, per second."""
        after = self.seconds - self.first_token_s
        return (len(self.ids) - 1) / after if len(self.ids) > 1 and after > 0 else 0.0

    @property
    def pauses_s(self) -> float:
        """Time spent on repairs, seconds."""
        return sum(event.pause_s for event in self.events if event.kind == "repaired")

    @property
    def spent(self) -> int:
        """Micro-credits that it cost, by this side's own count."""
        return sum(bill.micro for bill in self.bills)

    def __str__(self) -> str:
        return self.text

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "model": self.model,
            "root": self.root,
            "text": self.text,
            "tokens": list(self.ids),
            "prompt_tokens": self.prompt_tokens,
            "finish_reason": self.finish_reason,
            "seconds": round(self.seconds, 4),
            "first_token_s": round(self.first_token_s, 4),
            "tokens_per_s": round(self.tokens_per_s, 2),
            "chain": [{"peer": peer, "start": start, "end": end} for peer, start, end in self.chain],
            "metered": [bill._asdict() for bill in self.bills],
            "spent": self.spent,  # micro-credits
            "repairs": [
                {
                    "text": event.text,
                    "lost": list(event.lost),
                    "joined": list(event.joined),
                    "pause_s": round(event.pause_s, 3),
                }
                for event in self.events
                if event.kind == "repaired"
            ],
        }


async def tokens_of(
    session: Session,
    ends: Ends,
    prompt: Sequence[int],
    pick: Picker,
    max_new_tokens: int,
    lock: asyncio.Lock | None = None,
) -> AsyncGenerator[int, None]:
    """Generate token by token, the end-of-text token included.

    Args:
        lock: held while a large model's ``ends`` work, in a thread: they serve one at a time.

    Raises:
        UsageError: the prompt is empty or longer than the model's positions.
        GridError: what ``Session.forward`` raises.
    """
    if not prompt:
        raise UsageError("The prompt has no tokens; write at least one word.")
    ids = list(prompt)
    fresh, position = ids, 0
    threaded = ends.hidden_size * ends.config.vocab_size > INLINE_WEIGHTS
    lock = lock if lock is not None else asyncio.Lock()
    for _ in range(max_new_tokens):
        count = len(fresh)
        given = torch.tensor(fresh), torch.arange(position, position + count)
        try:
            if threaded:
                async with lock:
                    hidden = await asyncio.to_thread(ends.embed, *given)
            else:
                hidden = ends.embed(*given)
        except IndexError:
            if position:
                return  # no position left to generate at
            raise UsageError(f"The prompt's {count} tokens are more than the model has positions for.") from None
        out = await session.forward((RowSlice(0, 0, position, count, 1),), hidden)
        position += count
        if threaded:
            async with lock:
                logits = await asyncio.to_thread(ends.head, out)
        else:
            logits = ends.head(out)
        token = pick(ids, logits)
        yield token
        if token in pick.eos:
            return
        ids.append(token)
        fresh = [token]


async def pieces_of(
    session: Session,
    ends: Ends,
    prompt: Sequence[int],
    pick: Picker,
    max_new_tokens: int,
    stop: Sequence[str],
    result: Generation,
    lock: asyncio.Lock | None = None,
) -> AsyncGenerator[str, None]:
    """Generate text piece by piece, and fill in ``result`` as it grows."""
    started = time.perf_counter()
    result.prompt_tokens = len(prompt)
    detokenizer = Detokenizer(ends.tokenizer, prompt)
    finder = StopFinder(stop)
    async for token in tokens_of(session, ends, prompt, pick, max_new_tokens, lock):
        result.seconds = time.perf_counter() - started
        if not result.ids:
            result.first_token_s = result.seconds
        result.ids.append(token)
        result.chain = session.chain
        if token in pick.eos:
            result.finish_reason = "eos"
            break
        piece = finder.add(detokenizer.add(token))
        if piece:
            result.text += piece
            yield piece
        if finder.found:
            result.finish_reason = "stop"
            return
    piece = finder.add(detokenizer.rest()) + finder.rest()
    if finder.found:
        result.finish_reason = "stop"
    if piece:
        result.text += piece
        yield piece
