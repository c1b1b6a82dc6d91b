"""``gridllm leaderboard run``: the leaderboard's life, from start to Ctrl-C, and what the terminal shows of it."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from gridllm.charter.board import NoticeBoard
from gridllm.charter.gossip import gossiping
from gridllm.cli.grid_view import printable
from gridllm.cli.runtime import stop_on_signals
from gridllm.cli.show import print_json, stderr, stdout
from gridllm.errors import LeaderboardError
from gridllm.quantities import count_things
from gridllm.tasks import racing
from gridllm_leaderboard.desk.safekeeping import lost_champion
from gridllm_leaderboard.desk.start import Office, open_leaderboard

if TYPE_CHECKING:
    from rich.status import Status

    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.swarm.interface import Swarm
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.store.view import View

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0


class Reporter:
    """Tells people (a live status line, or plain lines where there is no terminal) or programs (JSON lines)."""

    def __init__(self, name: str, *, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._console = stdout()
        self._status: Status | None = None
        self._last = ""
        self._since = time.monotonic()

    def started(self, swarm: Swarm, signed: SignedCharter, desk: Desk) -> None:
        """It can be asked from now on."""
        if self._as_json:
            facts = {"peer": swarm.peer, "account": desk.account, "grid": signed.grid}
            return print_json({"event": "ready", **facts, "addresses": list(swarm.addresses)})
        self._console.print(f"[bold green]Ready[/]: leaderboard of [bold]{self._name}[/] ({signed.grid[:16]}…)")
        rules = desk.rules
        self._console.print(
            f"{count_things(len(rules.tasks), 'task')}, {count_things(len(rules.graders), 'grader')}; a submission "
            f"costs {count_credits(rules.fee)}.",
            markup=False,
        )
        if sys.stdout.isatty():
            self._status = self._console.status("…  (Ctrl-C stops)")
            self._status.start()
        return None

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Something happened."""
        if self._as_json:
            return print_json({"event": kind, **facts})
        self._console.print(printable(_sentence(kind, facts)), markup=False)
        return None

    def seen(self, sentence: str) -> None:
        """How things stand."""
        if self._status is not None:
            up_s = int(time.monotonic() - self._since)
            clock = f"{up_s // 3600}:{up_s // 60 % 60:02}:{up_s % 60:02}"
            self._status.update(f"{self._name} · {sentence} · up {clock}  (Ctrl-C stops)")
        elif sentence != self._last and not self._as_json:
            self._console.print(f"{self._name} · {sentence}", markup=False)
        self._last = sentence

    def stopping(self) -> None:
        """The end was asked for."""
        if self._status is not None:
            self._status.stop()
        if self._as_json:
            print_json({"event": "stopped"})
        else:
            stderr().print("Stopped. Start it again with: gridllm leaderboard run", markup=False)


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
    from gridllm.swarm.libp2p import open_swarm

    reporter = Reporter(signed.charter.name, as_json=as_json)
    with stop_on_signals() as stop:
        board = NoticeBoard(signed, pins.notices_path(signed))
        async with AsyncExitStack() as stack:
            swarm = await open_swarm(
                office.identity,
                initial_peers=pins.initial_peers(signed),
                host_maddrs=host_maddrs,
                announce_maddrs=announce_maddrs,
                namespace=signed.grid,
            )
            stack.push_async_callback(swarm.close)
            await stack.enter_async_context(gossiping(swarm, board, lambda: pins.peers(signed)))
            opened = await stack.enter_async_context(open_leaderboard(office, swarm, signed, board, reporter.tell))
            reporter.started(swarm, signed, opened.desk)
            looking = asyncio.create_task(_look(opened.desk, reporter))
            failing = asyncio.create_task(swarm.failed())
            stopping = asyncio.create_task(stop.wait())
            tasks: list[asyncio.Task[Any]] = [looking, failing, stopping]
            try:
                await asyncio.wait([*tasks, opened.working], return_when=asyncio.FIRST_COMPLETED)
                for task in (looking, opened.working):
                    if task.done():
                        task.result()  # raises what ended it
                if failing.done():
                    raise failing.result()
            finally:
                reporter.stopping()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


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


def _sentence(kind: str, facts: Mapping[str, Any]) -> str:
    whose = f"Submission {str(facts.get('submission', ''))[:12]}…"
    number = f"Round {facts.get('round')}"
    match kind:
        case "entered":
            return f"{whose}: {facts['name']}, by {facts['account'][:16]}…"
        case "checked":
            return f"{whose} was looked at, and is {facts['state']}"
        case "refused":
            return f"{whose} is refused: {facts['text']}"
        case "locked":
            return f"{number}: {count_things(len(facts['submissions']), 'submission')} locked"
        case "drawn":
            return f"{number}: items are drawn; graders may begin"
        case "graded":
            return f"{number}: {facts['grader'][:16]}… graded {facts['submission'][:12]}…"
        case "failure":
            return f"{number}: {facts['grader'][:16]}… could not run {facts['submission'][:12]}…"
        case "regrade":
            return f"{number}: graders disagree, others are asked about {len(facts['missing'])} of its models"
        case "judged":
            return f"{number} is judged; the champion {'changes' if facts['changed'] else 'stays'}"
        case "annulled":
            return f"{number} is annulled: {facts['text']}; its submissions wait for another one"
        case "crowned":
            return f"{facts['name']} is champion"
        case "bounty":
            return f"Bounty: {count_credits(facts['micro'])} to {facts['account'][:16]}… ({facts['how']})"
        case "draft":
            return f"Other maintainers must sign: gridllm bootstrap sign {facts['file']}"
        case "trouble":
            return f"Not now: {facts['text']}"
    return f"{whose} {kind}"
