"""Entries of another keeper's log, verified: signatures, prices, and whether that keeper had a say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gridllm.errors import GridError, UnknownModel
from gridllm.merkle import leaf_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.ledger.paper import Entry, Rulebook

READ_TOGETHER: Final = 64  # entries; then another log's have their turn


class Read(NamedTuple):
    """Entries in a row, up to the first that must not stand there."""

    entries: list[Entry]
    digests: list[bytes]  # of their leaves
    wrong: str = ""  # about the entry after those
    unknown: str = ""  # root of the model that it is of, where nothing else can be said about it


def read_entries(rules: Rulebook, log: str, raws: Sequence[bytes]) -> Read:
    """Check entries that are said to stand in ``log`` one after the other."""
    read = Read([], [])
    for raw in raws:
        try:
            entry = rules.read(raw, log)
        except UnknownModel as error:
            return read._replace(wrong=str(error), unknown=error.root)
        except GridError as error:
            return read._replace(wrong=str(error))
        read.entries.append(entry)
        read.digests.append(leaf_digest(raw))
    return read
