"""Links that others opened to this node: how many one peer may have, who gives way, what may wait for slow readers."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from gridllm.errors import Full
from gridllm.swarm.link import Link

MAX_LINKS_PER_PEER: Final = 8  # a client needs one, a moment's more while it replaces a broken one
MAX_LINKS: Final = 1024
QUIET_S: Final = 30.0  # a link without a session, over which only pings came for so long, gives way to another peer's
MAX_REQUESTS_PER_LINK: Final = 512  # Opens and Resumes that wait for their answer
MAX_WAITING_BYTES: Final = 256 * 1024**2  # to all who lag, together; the furthest behind is dropped first


class Callers:
    """The accepted links of a node."""

    def __init__(self) -> None:
        self._links: dict[Link, float] = {}  # when something was said over it last, seconds
        self._requests: Counter[Link] = Counter()
        self._most = min(MAX_LINKS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)  # each takes an open file

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links))

    def admit(self, link: Link, now_s: float = 0.0, needed: Callable[[Link], bool] = lambda _: False) -> Link | None:
        """Count a new link; the one that gives way to it, for the caller to end, where all are taken.

        Args:
            needed: whether a session uses that link.

        Raises:
            Full: its peer has too many, or everyone together has and all are in use.
        """
        if sum(1 for other in self._links if other.peer == link.peer) >= MAX_LINKS_PER_PEER:
            raise Full(f"You have {MAX_LINKS_PER_PEER} links to this node already; use those, all sessions fit one.")
        gone = None
        if len(self._links) >= self._most:
            quiet = ((at, one) for one, at in self._links.items() if not self._requests[one] and not needed(one))
            said_s, gone = min(quiet, key=lambda one: one[0], default=(now_s, None))
            if gone is None or now_s - said_s < QUIET_S:
                raise Full(f"This node has {self._most} links already; try another node.")
            del self._links[gone]
        self._links[link] = now_s
        return gone

    def heard(self, link: Link, now_s: float) -> None:
        """Something else than a ping came over it."""
        if link in self._links:
            self._links[link] = now_s

    def discard(self, link: Link) -> None:
        """The link ended."""
        self._links.pop(link, None)

    def asked(self, link: Link) -> None:
        """Count a request that will take a while to answer.

        Raises:
            Full: too many of this link wait already.
        """
        if self._requests[link] >= MAX_REQUESTS_PER_LINK:
            raise Full(f"{MAX_REQUESTS_PER_LINK} requests of this link already wait for an answer; send fewer at once.")
        self._requests[link] += 1

    def answered(self, link: Link) -> None:
        """One of the link's requests was answered."""
        self._requests[link] -= 1
        if not self._requests[link]:
            del self._requests[link]

    def sweep(self) -> None:
        """Drop the slowest readers while more than ``MAX_WAITING_BYTES`` wait in all."""
        waiting = sorted(((link.waiting_bytes, link) for link in self._links), key=lambda item: -item[0])
        total = sum(size for size, _ in waiting)
        for size, link in waiting:
            if total <= MAX_WAITING_BYTES:
                break
            link.drop(f"Peer {link.peer} reads too slowly: {size >> 20} MiB wait for it.")
            total -= size
