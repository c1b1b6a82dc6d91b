"""Items of a task as they stand in its files: one line each, of the fields that its kind has and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from gridllm.errors import LeaderboardError
from gridllm_leaderboard.results import MAX_LINE_BYTES, Line, line_of
from gridllm_leaderboard.tasks.taskfile import Kind

MAX_CHOICES: Final = 64
MAX_FILE_BYTES: Final = 1024 * 1024 * 1024  # of a pool
FIELDS: Final[dict[Kind, frozenset[str]]] = {
    "text": frozenset({"text"}),
    "choice": frozenset({"query", "choices", "gold"}),
}


def checked(item: object, kind: Kind) -> Line:
    """The item, once it is known to be one.

    Raises:
        LeaderboardError: fields lack or are too many, or hold what cannot be graded.
    """
    if not isinstance(item, dict) or item.keys() != FIELDS[kind]:
        raise LeaderboardError(f"An item for {kind} needs exactly the fields {', '.join(sorted(FIELDS[kind]))}.")
    why = _wrong_text(item) if kind == "text" else _wrong_choice(item)
    if why:
        raise LeaderboardError(f"An item cannot be used: {why}.")
    try:
        size = len(line_of(item))
    except (ValueError, UnicodeEncodeError) as error:  # a lone surrogate
        raise LeaderboardError(f"An item cannot be used: {error}.") from error
    if size > MAX_LINE_BYTES:
        raise LeaderboardError(f"An item has {size} bytes; at most {MAX_LINE_BYTES} are taken.")
    return item


def checked_all(items: Sequence[object], kind: Kind, where: str) -> list[Line]:
    """All of them, no two alike. Raises LeaderboardError: names the place."""
    seen: set[bytes] = set()
    taken: list[Line] = []
    for number, item in enumerate(items, start=1):
        try:
            line = checked(item, kind)
        except LeaderboardError as error:
            raise LeaderboardError(f"{where}, item {number}: {error}") from error
        raw = line_of(line)
        if raw in seen:
            raise LeaderboardError(f"{where}, item {number}: it is there twice.")
        seen.add(raw)
        taken.append(line)
    return taken


def parse(raw: bytes, where: str) -> list[object]:
    """JSON lines → objects, not yet checked. Raises LeaderboardError: oversized or malformed."""
    if len(raw) > MAX_FILE_BYTES:
        raise LeaderboardError(f"{where} has {len(raw)} bytes; at most {MAX_FILE_BYTES} are taken.")
    items = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        if len(line) > 2 * MAX_LINE_BYTES:  # written with \u escapes it may be longer than in its canonical form
            raise LeaderboardError(f"{where}, line {number}: it has {len(line)} bytes.")
        try:
            items.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise LeaderboardError(f"{where}, line {number}: no JSON ({error}).") from error
    return items


def words_of(item: Line) -> list[str]:
    """The words of an item, in lower case, as the report on overlaps counts them."""
    parts: Iterable[str] = [item["text"]] if "text" in item else [item["query"], *item["choices"]]
    return " ".join(parts).lower().split()


def _wrong_text(item: Line) -> str | None:
    text = item["text"]
    return None if isinstance(text, str) and text.strip() else "its text is empty"


def _wrong_choice(item: Line) -> str | None:
    query, choices, gold = item["query"], item["choices"], item["gold"]
    if not isinstance(query, str) or not query.strip() or query.isdigit():
        return "its query is empty, or a bare number (lm_eval takes that for an index)"
    if not isinstance(choices, list) or not 2 <= len(choices) <= MAX_CHOICES:
        return f"it needs 2 to {MAX_CHOICES} choices"
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "a choice is empty"
    if len(set(choices)) != len(choices):
        return "two of its choices are equal"
    if type(gold) is not int or not 0 <= gold < len(choices):
        return "its gold is not the number of a choice"
    return None
