"""Items of a round, and what a model made of them: the two lists that digests in Draw and Grade stand for.

Both travel and are kept as JSON lines, one canonical line for each item, named by their Merkle roots.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gridllm.errors import LeaderboardError
from gridllm.ledger.log.frontier import Frontier
from gridllm.merkle import leaf_digest
from gridllm.wire.strict import UNPARSABLE

MAX_LINES_BYTES: Final = 64 * 1024 * 1024  # of one task's items, or results
MAX_LINE_BYTES: Final = 256 * 1024
LEAST_LOGLIK: Final = -1e12  # nats: no text is so unlikely; sums of larger ones lose the small ones, or overflow
MOST_LOGLIK: Final = 1e-3  # nothing is likelier than certain, up to rounding

LogLik = Annotated[float, Meta(ge=LEAST_LOGLIK, le=MOST_LOGLIK)]

Line = dict[str, Any]
"""One item: for ``text`` {"text": str}; for ``choice`` {"query": str, "choices": [str], "gold": int}."""


class ItemResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model on one item."""

    item: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]  # digest_of the item's line
    points: Annotated[float, Meta(ge=0, le=1)]  # choice: 1 or 0; text: 2 ** -(bits per byte)
    logliks: Annotated[list[LogLik], Meta(min_length=1, max_length=64)]  # nats: of the text, or of each choice
    size: Annotated[int, Meta(ge=1, le=MAX_LINE_BYTES)]  # bytes of the text; choice: 1


def line_of(item: Line) -> bytes:
    """The item's canonical line: JSON with sorted keys, UTF-8, no line end."""
    return json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(item: Line) -> str:
    """Hex digest of an item's line, as a leaf of the Merkle tree."""
    return leaf_digest(line_of(item)).hex()


def items_root(items: Sequence[Line]) -> str:
    """Merkle root over the items in their order (RFC 9162); hex."""
    return _root(leaf_digest(line_of(item)) for item in items)


def results_root(results: Sequence[ItemResult]) -> str:
    """Merkle root over the results in the items' order; hex."""
    return _root(leaf_digest(msgspec.json.encode(one)) for one in results)


def lines_root(raw: bytes) -> str:
    """Merkle root over the lines as they stand: of items or results in canonical form. Raises LeaderboardError."""
    return _root(map(leaf_digest, _lines(raw)))


def write_items(items: Iterable[Line]) -> bytes:
    """Items → JSON lines."""
    return b"".join(line_of(item) + b"\n" for item in items)


def write_results(results: Iterable[ItemResult]) -> bytes:
    """Results → JSON lines."""
    return b"".join(msgspec.json.encode(one) + b"\n" for one in results)


def read_items(raw: bytes) -> list[Line]:
    """JSON lines → items. Raises LeaderboardError: oversized, malformed, or not in their canonical form."""
    items = []
    for line in _lines(raw):
        try:
            item = json.loads(line)
            if not isinstance(item, dict) or line_of(item) != line:
                raise ValueError("not in canonical form")
        except (ValueError, RecursionError) as error:
            raise LeaderboardError(f"A list of items does not parse: {error}.") from error
        items.append(item)
    return items


def read_results(raw: bytes) -> list[ItemResult]:
    """JSON lines → results. Raises LeaderboardError: oversized or malformed."""
    try:
        return [_decoder.decode(line) for line in _lines(raw)]
    except UNPARSABLE as error:
        raise LeaderboardError(f"A list of results does not parse: {error}.") from error


_decoder = msgspec.json.Decoder(ItemResult)


def _root(digests: Iterable[bytes]) -> str:
    frontier = Frontier()
    frontier.extend(list(digests))
    return frontier.root().hex()


def _lines(raw: bytes) -> list[bytes]:
    if len(raw) > MAX_LINES_BYTES:
        raise LeaderboardError(f"A list of {len(raw)} bytes exceeds the cap of {MAX_LINES_BYTES}.")
    lines = raw.splitlines()
    if any(len(line) > MAX_LINE_BYTES for line in lines):
        raise LeaderboardError(f"A line of a list exceeds the cap of {MAX_LINE_BYTES} bytes.")
    return lines
