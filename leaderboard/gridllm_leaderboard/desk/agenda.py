"""What the leaderboard does by itself: it looks at models, books fees, leads rounds, and says what follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gridllm.errors import GridError

if TYPE_CHECKING:
    from gridllm_leaderboard.desk.arrivals import Arrivals
    from gridllm_leaderboard.desk.course import Course
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.desk.fees import Fees
    from gridllm_leaderboard.desk.guests import Handout
    from gridllm_leaderboard.desk.proclaiming import Proclaimer
    from gridllm_leaderboard.desk.safekeeping import Safekeeping
    from gridllm_leaderboard.desk.standing import Standing

log = logging.getLogger(__name__)

FEES_EVERY_S: Final = 2.0  # while one is due
TIDY_EVERY_S: Final = 600.0
IDLE_S: Final = 30.0
AGAIN_S: Final = 3.0  # after something went wrong; doubles up to
LONGEST_S: Final = 60.0
SAY_AGAIN_S: Final = 300.0  # one trouble is told so often

Deed = Callable[[], Awaitable[float]]
"""Does what can be done, and says in how many seconds to look again; earlier when the bell rings."""


class Agenda:
    """``await agenda.run()`` until cancelled."""

    def __init__(
        self,
        desk: Desk,
        arrivals: Arrivals,
        fees: Fees,
        course: Course,
        keeping: Safekeeping,
        proclaimer: Proclaimer,
        handout: Handout,
        standing: Standing,
    ) -> None:
        self._desk = desk
        self._arrivals = arrivals
        self._fees = fees
        self._course = course
        self._keeping = keeping
        self._proclaimer = proclaimer
        self._handout = handout
        self._standing = standing
        self._said: dict[str, float] = {}

    async def run(self) -> None:
        """One task for each kind of work, so that a large model that is looked at holds up no round."""
        stop_listening = self._desk.board.listen(self._desk.ring)
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, deed in (
                    ("models", self._look_at_models),
                    ("fees", self._book_fees),
                    ("rounds", self._lead_rounds),
                    ("the champion's files", self._keeping.look),
                    ("notices", self._proclaim),
                    ("weights", self._hand_out),
                    ("ranking", self._rank),
                ):
                    tasks.create_task(self._again_and_again(name, deed, self._desk.bell()))
                tasks.create_task(self._again_and_again("tidying", self._tidy, asyncio.Event()))  # rung by nobody
        finally:
            stop_listening()

    async def _again_and_again(self, name: str, deed: Deed, bell: asyncio.Event) -> None:
        pause_s = AGAIN_S
        while True:
            bell.clear()
            try:
                wait_s = await deed()
                pause_s = AGAIN_S
            except GridError as error:
                self._trouble(name, str(error))
                wait_s, pause_s = pause_s, min(2 * pause_s, LONGEST_S)
            except Exception:  # a fault of ours in one kind of work must not end the others
                log.exception("The leaderboard's work on %s failed; it is tried again", name)
                wait_s, pause_s = pause_s, min(2 * pause_s, LONGEST_S)
            try:
                async with asyncio.timeout(wait_s):
                    await bell.wait()
            except TimeoutError:
                continue
            if pause_s > AGAIN_S:
                await asyncio.sleep(AGAIN_S)  # a bell that rings without end is no reason to fail without end

    def _trouble(self, name: str, text: str) -> None:
        now = time.monotonic()
        if now - self._said.get(text, float("-inf")) < SAY_AGAIN_S:
            return
        self._said = {one: at for one, at in self._said.items() if now - at < SAY_AGAIN_S} | {text: now}
        log.info("The leaderboard's work on %s does not go on: %s", name, text)
        self._desk.tell("trouble", {"work": name, "text": text})

    async def _look_at_models(self) -> float:
        await self._arrivals.look()
        return IDLE_S

    async def _book_fees(self) -> float:
        if not self._desk.rules.fee:
            await self._fees.waive()
            return IDLE_S
        due = await self._desk.books.read(lambda view: any(not one.paid for one in view.in_state("unpaid", "checking")))
        if not due:
            return IDLE_S
        await self._fees.look()
        return FEES_EVERY_S

    async def _lead_rounds(self) -> float:
        return await self._course.go_on()

    async def _proclaim(self) -> float:
        await self._proclaimer.go_on()
        return IDLE_S

    async def _hand_out(self) -> float:
        await self._handout.refresh()
        return IDLE_S

    async def _rank(self) -> float:
        await self._standing.warm()
        return IDLE_S

    async def _tidy(self) -> float:
        await self._arrivals.tidy()
        return TIDY_EVERY_S
