"""``gridllm leaderboard run``: the leaderboard's life, from start to Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.entering import enter
from gridllm.charter.gossip import gossiping
from gridllm.cli.runtime import stop_on_signals
from gridllm.errors import LeaderboardError
from gridllm.quantities import count_things
from gridllm.tasks import racing
from gridllm_leaderboard.desk.safekeeping import lost_champion
from gridllm_leaderboard.desk.start import Office, open_leaderboard
from gridllm_leaderboard.reporter import Reporter

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0


async def serve_until_stopped(
    office: Office,
    signed: SignedCharter,
    pins: Pins,
    host_maddrs: Sequence[str],
    announce_maddrs: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Run the leaderboard until Ctrl-C or SIGTERM, then leave with no process behind.

    Raises:
        SwarmError: it cannot start (address taken), or the libp2p daemon ended.
        LeaderboardError: the store cannot be used, or the rules name another leaderboard.
    """
    reporter = Reporter(signed.charter.name, as_json=as_json)
    with stop_on_signals() as stop:
        board = NoticeBoard(signed, pins.notices_path(signed))
        async with AsyncExitStack() as stack:
            swarm = await enter(office.identity, signed, pins, host_maddrs, announce_maddrs)
            stack.push_async_callback(swarm.close)
            await stack.enter_async_context(gossiping(swarm, board, lambda: pins.peers(signed)))
            opened = await stack.enter_async_context(open_leaderboard(office, swarm, signed, board, reporter.tell))
            reporter.started(swarm, signed, opened.desk)
            stack.callback(reporter.stopping)
            working = (opened.working, _look(opened.desk, reporter))
            async with racing(stop.wait(), swarm.failed(), *working) as (_, failing, *others):
                for one in others:
                    if one.done():
                        one.result()  # raises what ended it
                if failing.done():
                    raise failing.result()


async def _look(desk: Desk, reporter: Reporter) -> None:
    while True:
        try:
            reporter.seen(await desk.books.read(_standing))
        except LeaderboardError as error:  # what works on the store tells of its own trouble
            log.info("How the leaderboard stands cannot be read now: %s", error)
        await asyncio.sleep(LOOK_EVERY_S)


def _standing(view: View) -> str:
    """The status line."""
    said = [count_things(view.count(), "submission")]
    waiting = len(view.in_state("queued"))
    if waiting:
        said.append(f"{waiting:,} queued")
    round_ = view.open_round()
    if round_ is not None:
        graded = {kept.document.submission for kept in view.grades(round_.number)}
        state = "waits for the ledger" if round_.draw is None else f"{len(graded)} of {len(round_.graded)} graded"
        said.append(f"round {round_.number}: {state}")
    champion = view.champion()
    entry = None if champion is None else view.entry(champion)
    none = "the title is vacant" if view.reigns() else "no champion yet"
    said.append(none if entry is None else f"champion {entry.submission.name}")
    if lost_champion(view) is not None:
        said.append("its files are lost, and rounds wait")
    return " · ".join(said)
