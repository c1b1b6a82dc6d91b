"""Asks the ledger's keepers for heads: the newest before a lock, the first after it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from gridllm.errors import KeeperSilent, LedgerError, Refusal, SwarmError
from gridllm.ledger.log.heads import verify_head
from gridllm_leaderboard.beacon import beacon_among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.charter.document import SignedCharter
    from gridllm.ledger.keepers import Keepers
    from gridllm_leaderboard.desk.rounds import Beacon
    from gridllm_leaderboard.statements import Lock

log = logging.getLogger(__name__)

AHEAD_S: Final = 600  # that a keeper's clock may be ahead of this machine's


async def newest_head(keepers: Keepers, account: str, now: int) -> Beacon:
    """The newest head of a keeper that answers now, the home keeper of ``account`` first.

    A keeper whose clock is far ahead is passed over: a lock is dated no earlier than its head, and waits for a later
    one.

    Raises:
        KeeperSilent: none answers.
    """
    home = keepers.home(account)
    silent: Exception | None = None
    for keeper in (home, *(one for one in keepers.all if one != home)):
        try:
            said = await keepers.heads(keeper)
        except (SwarmError, Refusal) as error:
            silent = error
            continue
        heads = await asyncio.to_thread(_heads_of, keeper, said.heads, keepers.signed)
        newest = max((issued for _, issued in heads), default=0)
        if newest > now + AHEAD_S:
            silent = LedgerError(f"the clock of {keeper[:16]}… is {newest - now:,} s ahead")
            continue
        return keeper, max((size for size, _ in heads), default=0), newest
    raise KeeperSilent(home, f"nor does any other: {silent}")


async def head_after(keepers: Keepers, lock: Lock) -> bytes | None:
    """The head that decides the lock's items; None: its keeper has not signed one yet, and was asked to.

    Raises:
        KeeperSilent, Refusal: it does not answer.
    """
    said = await keepers.heads(lock.keeper, after=lock.issued)
    return await asyncio.to_thread(beacon_among, said.heads, lock, keepers.signed)


def _heads_of(keeper: str, raws: Sequence[bytes], signed: SignedCharter) -> list[tuple[int, int]]:
    found = []
    for raw in raws:
        try:
            head = verify_head(raw, signed)
        except LedgerError as error:
            log.debug("A keeper's head was left out: %s", error)
            continue
        if head.keeper == keeper:
            found.append((head.size, head.issued))
    return found
