"""Our copy of a log beside a head that somebody shows: what follows, and what is proven. Each function is one query."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gridllm.errors import LedgerError
from gridllm.ledger.log.evidence import Equivocation, conflict, fork, fork_along
from gridllm.ledger.log.frontier import Frontier
from gridllm.ledger.log.tree import is_power_of_two

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gridllm.ledger.store.store import LedgerStore
    from gridllm_bootstrap.keeping.vouching import HeadReader, Shown


class Copy(NamedTuple):
    """How much of a keeper's log is held here."""

    size: int  # entries
    newest: Shown | None  # the newest signed head that they lead to; after it there may be entries that lead further

    @property
    def signed(self) -> int:
        """Entries that a head held here stands for."""
        return 0 if self.newest is None else self.newest.size


def copy_of(store: LedgerStore, log: str, reader: HeadReader) -> Copy:
    """What the store holds of a log."""
    raw = store.head(log)  # first: entries that come in between do no harm
    return Copy(store.sizes().get(log, 0), None if raw is None else reader.read(raw))


def frontier_of(store: LedgerStore, log: str) -> Frontier:
    """The right edge of the copy, to go on from."""
    if not store.sizes().get(log):
        return Frontier()
    with store.tree(log) as tiles:
        return Frontier.at(tiles.size, tiles.node)


def leads_to(store: LedgerStore, shown: Shown) -> bool:
    """Whether the copy begins with what the head stands for; it holds that many entries."""
    return shown.size == 0 or store.root(shown.keeper, shown.size).hex() == shown.head.root


def two_histories(store: LedgerStore, newest: Shown, other: Shown, reader: HeadReader) -> Equivocation | None:
    """Evidence, if the copy under its ``newest`` head does not begin as ``other``, of no more entries, says."""
    if leads_to(store, other):
        return None
    with store.tree(newest.keeper) as tiles:
        return fork(other.raw, newest.raw, reader.signed, tiles.node)


def contradicting(shown: Shown, others: Iterable[Shown], reader: HeadReader) -> Equivocation | None:
    """Evidence, if one of ``others`` is of the same size and of another root."""
    for other in others:
        if other.size == shown.size and other.head.root != shown.head.root:
            return conflict(shown.raw, other.raw, reader.signed)
    return None


def accuse(
    newest: Shown, target: Shown, proof: Sequence[bytes], beside: Sequence[bytes], reader: HeadReader
) -> Equivocation | None:
    """Evidence, if the consistency proof that somebody shows for two heads leads from another beginning.

    Args:
        proof: from ``newest`` to ``target``, the larger, in the log of whoever shows it.
        beside: the inclusion proof of the entry after ``newest``: where that is of a power of two entries, their root
            is missing in ``proof`` and is among these.
    """
    starts = [[digest] for digest in beside] if is_power_of_two(newest.size) else [[]]
    for start in starts:
        try:
            evidence = fork_along(newest.raw, target.raw, reader.signed, [*start, *proof])
        except LedgerError:
            continue  # it leads nowhere
        if evidence is not None:
            return evidence
    return None
