"""How fast one peer may call: hivemind answers whatever comes, and checks signatures, in our event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gridllm.errors import Full, TooLarge

CALLS_PER_S: Final = 100.0
CALLS_BURST: Final = 1000.0
BYTES_PER_S: Final = 256 * 1024.0  # of requests; signed records are the costly part: about 0.3 ms for 500 bytes
BYTES_BURST: Final = 4 * 1024**2.0
MAX_FIND_BYTES: Final = 4096  # of a request that asks for keys of 22 bytes; each costs a search of the routing table
MAX_CALLERS: Final = 4096

Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Allowance:
    """Calls and bytes that one peer may still send; both fill up again with time."""

    __slots__ = ("_at", "_bytes", "_calls")

    def __init__(self, now: float) -> None:
        self._at, self._calls, self._bytes = now, CALLS_BURST, BYTES_BURST

    def take(self, size: int, now: float) -> bool:
        """Whether a call of ``size`` bytes is within the allowance; if so, it is taken off."""
        self._calls = min(CALLS_BURST, self._calls + (now - self._at) * CALLS_PER_S)
        self._bytes = min(BYTES_BURST, self._bytes + (now - self._at) * BYTES_PER_S)
        self._at = now
        if self._calls < 1 or self._bytes < size:
            return False
        self._calls -= 1
        self._bytes -= size
        return True


class CallGate(dict[str, Handler]):
    """hivemind's table of unary handlers by name; what is put in answers each peer only so fast."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        super().__init__()
        self._allowances: dict[Any, Allowance] = {}
        for name, handler in handlers.items():
            self[name] = handler

    def __setitem__(self, name: str, handler: Handler) -> None:
        most = MAX_FIND_BYTES if name.endswith("rpc_find") else int(BYTES_BURST)

        async def gated(request: bytes, peer: Any) -> bytes:
            if len(request) > most:
                raise TooLarge(f"A request of {len(request)} bytes to {name} exceeds {most}; send it in pieces.")
            self._admit(peer, len(request))
            return await handler(request, peer)

        super().__setitem__(name, gated)

    def _admit(self, peer: Any, size: int) -> None:
        now = time.monotonic()
        if len(self._allowances) >= MAX_CALLERS:
            self._allowances.clear()  # a rare crowd starts afresh
        if not self._allowances.setdefault(peer, Allowance(now)).take(size, now):
            raise Full(f"You call this peer more than {CALLS_PER_S:.0f} times a second; send more slowly.")
