"""What a serving node sees around it: whom it met, who follows it in the chain, and which blocks need it more."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from gridllm.charter.document import SignedCharter
from gridllm.charter.pin import Pins
from gridllm.errors import GridError
from gridllm.ids import PeerId
from gridllm.node.presence import Presence
from gridllm.planning.placement import BlockRange
from gridllm.planning.rebalancing import should_move
from gridllm.wire.helper import HelperRecord
from gridllm.wire.record import NodeRecord

log = logging.getLogger(__name__)

SURVEY_S: Final = 20.0  # between looks at who follows in the chain
FIRST_SURVEY_S: Final = 2.0
REBALANCE_S: Final = (120.0, 300.0)  # drawn anew each time, so that nodes do not look at the same moment
FIRST_REBALANCE_S: Final = (10.0, 30.0)  # soon: of nodes that started together, two may have chosen the same blocks
TURN_S: Final = 300.0  # of several nodes that could move, another one's turn comes this often


class Surroundings:
    """One volunteer's; outlives the swarms in which it is seen."""

    def __init__(self, signed: SignedCharter, pins: Pins) -> None:
        self._signed = signed
        self._pins = pins
        self._remembered: dict[PeerId, tuple[str, ...]] = {}
        self._looked = False  # whether to move; the first look alone is soon, so that nobody moves twice in a minute

    def acquaintances(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Whom to exchange the maintainers' notices with: first peers, and nodes met now or before."""
        return self._pins.peers(self._signed)

    def remember(self, records: Sequence[NodeRecord | HelperRecord]) -> None:
        """Keep the addresses of peers, relays among them, for the next start; written only when there is news."""
        fresh = {record.peer: tuple(record.addresses) for record in records}
        if fresh.items() - self._remembered.items():
            self._remembered |= fresh
            self._pins.remember_peers(self._signed, fresh)

    async def survey(self, presence: Presence) -> None:
        """Keep round trips to the next nodes measured, and their addresses for the next start."""
        await asyncio.sleep(FIRST_SURVEY_S)
        while True:
            try:
                others = await presence.others()
                await presence.measure_next_hops(others)
                self.remember([*others, *await presence.helpers.admitted()])
            except GridError as error:
                log.info("Could not look around: %s", error)
            await asyncio.sleep(SURVEY_S)

    async def needed_elsewhere(self, presence: Presence, blocks: int, stays: Callable[[], bool]) -> BlockRange:
        """Wait until other blocks need this node more; returns them.

        Args:
            blocks: of the whole model.
            stays: whether it may not move now.
        """
        while True:
            pause_s = REBALANCE_S if self._looked else FIRST_REBALANCE_S
            await asyncio.sleep(random.uniform(*pause_s))  # noqa: S311 - spreads load
            self._looked = True
            if stays():
                continue
            try:
                turn = int(time.time() / TURN_S)
                target = should_move(await presence.others(), presence.record(), blocks, turn=turn)
            except GridError as error:
                log.info("Could not look whether to move: %s", error)
                continue
            if target is not None and not stays():
                return target
