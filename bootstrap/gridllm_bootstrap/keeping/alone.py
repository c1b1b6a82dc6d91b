"""Whether another machine keeps books with this maintainer's key: two that sign with it tell two histories."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from gridllm.admission.cards import find_keepers
from gridllm.errors import GridError, LedgerError, SwarmError, TooSoon
from gridllm.ids import PeerId
from gridllm.ledger.messages import HEADS_CALL, Heads, unpack

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

PROBE_S: Final = 5.0  # for the other to show that it is there


class KeptElsewhere(LedgerError):
    """Another peer keeps books with the same key."""


async def check_alone(swarm: Swarm, signed: SignedCharter, keeper: str) -> None:
    """Look where the keeper's card, which its key signed, says that it is; a card whose peer is gone does not count.

    Raises:
        KeptElsewhere: another peer answers there as a keeper.
    """
    try:
        async with asyncio.timeout(PROBE_S):
            cards = await find_keepers(swarm, signed)
    except (SwarmError, TimeoutError) as error:
        log.debug("Nobody could be asked where this keeper was: %s", error)
        return
    for card in cards:
        if card.maintainer != keeper or card.peer == swarm.peer:
            continue
        if await _keeps(swarm, PeerId(card.peer), tuple(card.addresses)):
            raise KeptElsewhere(
                f"No books are kept here: the peer {card.peer} keeps them with the same maintainer's key "
                f"({keeper[:16]}…), and a key that signs on two machines tells two histories, which convicts it for "
                "good; stop the other one and start this one again, or run this one with --no-keeper."
            )


async def _keeps(swarm: Swarm, peer: PeerId, addresses: tuple[str, ...]) -> bool:
    try:
        async with asyncio.timeout(2 * PROBE_S):
            await swarm.connect(peer, addresses, timeout_s=PROBE_S)
            unpack(await swarm.call(peer, HEADS_CALL, b"", timeout_s=PROBE_S), Heads)
    except TooSoon:
        return True
    except (GridError, TimeoutError) as error:
        log.debug("The peer %s of this keeper's card is no keeper now: %s", peer, error)
        return False
    return True
