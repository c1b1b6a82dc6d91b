"""``gridllm bootstrap run``: the first peer's life, from start to Ctrl-C, and what the terminal shows of it."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gridllm.admission.examination.background import in_background, warm_up
from gridllm.admission.gate import Gatekeeper
from gridllm.admission.manifests import Manifests
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.gossip import gossiping
from gridllm.charter.pin import Pins
from gridllm.cli.grid_view import printable
from gridllm.cli.runtime import stop_on_signals
from gridllm.cli.show import print_json, stderr, stdout
from gridllm_bootstrap.first_peer import Census, open_first_peer, watch
from gridllm_bootstrap.keeping.alone import KeptElsewhere
from gridllm_bootstrap.keeping.start import Bookkeeping, Kept, open_books
from gridllm_bootstrap.keeping.witness import Discord
from gridllm_bootstrap.limits import Tries
from gridllm_bootstrap.measuring.office import Office, open_office
from gridllm_bootstrap.measuring.opening import Opening

if TYPE_CHECKING:
    from rich.status import Status

    from gridllm.identity.keys import Identity
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.fitness.outcomes import FitnessEvent
    from gridllm_bootstrap.listen import Listening
    from gridllm_bootstrap.measuring.authority import Event


REFUSED_LINES: Final = 30  # about strangers that were turned away, in a row
REFUSED_EVERY_S: Final = 10.0  # and one more
SPELLED: Final = {
    "examining": "is examined",
    "admitted": "was measured",
    "failed": "was measured and is not admitted",
    "refused": "was turned away",
    "left": "left",
    "certified": "is certified to",
}
SPELLED_FITNESS: Final = {
    "suspect": "slower than certified",
    "confirmed": "measured again",
    "lowered": "certified lower",
    "demoted": "demoted",
    "voided": "no longer certified",
    "let_go": "let go",
    "gone": "gone",
    "draft": "to be revoked",
}


class Reporter:
    """Tells people (a live status line, or plain lines where there is no terminal) or programs (JSON lines)."""

    def __init__(self, signed: SignedCharter, *, as_json: bool, again: str = "gridllm bootstrap run") -> None:
        self._name = signed.charter.name
        self._as_json = as_json
        self._again = again
        self._console = stdout()
        self._status: Status | None = None
        self._last = ""
        self._lines = Tries(REFUSED_LINES)
        self._since = time.monotonic()

    def started(self, swarm: Swarm, signed: SignedCharter) -> None:
        """The first peer can be dialled from now on."""
        if self._as_json:
            return self._event("ready", peer=swarm.peer, grid=signed.grid, addresses=list(swarm.addresses))
        self._console.print(f"[bold green]Ready[/]: first peer of [bold]{self._name}[/] ({signed.grid[:16]}…)")
        for address in signed.charter.first_peers or swarm.addresses:
            self._console.print(f"  gridllm join {address}", markup=False)
        if sys.stdout.isatty():
            self._status = self._console.status("Looking for nodes…  (Ctrl-C stops)")
            self._status.start()
        return None

    def open_to(self, office: Office | None, *, required: bool) -> None:
        """Whether this first peer measures machines."""
        if self._as_json:
            return self._event("authority", open=office is not None, at_once=office.at_once if office else 0)
        if office is not None:
            self._console.print(f"Machines are measured here, {office.at_once} at a time.", markup=False)
        elif required:
            self._console.print(
                "This first peer measures no machines: no maintainer's key is used here. Others of the grid may."
            )
        return None

    def keeping(self, kept: Kept | None) -> None:
        """Whether this first peer keeps the grid's books."""
        if self._as_json:
            facts = {} if kept is None else {"accounts": kept.accounts, "statements": kept.statements}
            return self._event("keeper", open=kept is not None, keeper=kept and kept.keeper.log, **facts)
        if kept is None:
            self._console.print("No books are kept here: no keeper's key is used here. Others of the grid may.")
        else:
            books = f"{kept.accounts:,} accounts, {kept.statements:,} statements"
            self._console.print(f"Books are kept here: {books}", markup=False)
        return None

    def discord(self, news: Discord) -> None:
        """Something is wrong with a keeper's books."""
        if self._as_json:
            return self._event("ledger", outcome=news.kind, keeper=news.keeper, text=news.text)
        self._console.print(f"Ledger: {news.text}", markup=False)
        return None

    def examined(self, event: Event) -> None:
        """News from the authority."""
        stranger = event.kind in ("refused", "left")
        if stranger and self._lines.take("", REFUSED_EVERY_S):
            return None  # whoever knocks without end does not fill the maintainer's disk
        if self._as_json:
            return self._event("candidate", outcome=event.kind, peer=event.peer, reason=event.reason, text=event.text)
        said = f": {printable(event.text)}" if event.text else ""  # a candidate's own words may be among them
        self._console.print(f"Candidate …{event.peer[-8:]} {SPELLED[event.kind]}{said}", markup=False)
        return None

    def unfit(self, event: FitnessEvent) -> None:
        """News of a node that clients found slower than certified."""
        if self._as_json:
            return self._event("fitness", outcome=event.kind, peer=event.peer, text=event.text)
        self._console.print(f"Node …{event.peer[-8:]}, {SPELLED_FITNESS[event.kind]}: {event.text}", markup=False)
        return None

    def seen(self, census: Census, crowd: tuple[int, int] = (0, 0)) -> None:
        """News from the directory, and how many machines are examined and wait."""
        sentence = census.sentence()
        if any(crowd) and not self._as_json:
            sentence += f" · {crowd[0]} examined, {crowd[1]} waiting"
        if self._status is not None:
            up_s = int(time.monotonic() - self._since)
            clock = f"{up_s // 3600}:{up_s // 60 % 60:02}:{up_s % 60:02}"
            self._status.update(f"{self._name} · {sentence} · up {clock}  (Ctrl-C stops)")
        elif sentence != self._last:
            if self._as_json:
                self._event("census", **census.states, covered=census.covered, blocks=census.blocks)
            else:
                self._console.print(f"{self._name} · {sentence}", markup=False)
        self._last = sentence

    def stopping(self) -> None:
        """The end was asked for."""
        if self._status is not None:
            self._status.stop()
        if self._as_json:
            self._event("stopped")
        else:
            stderr().print(f"Stopped. Start it again with: {self._again}", markup=False)

    def _event(self, kind: str, **fields: Any) -> None:
        print_json({"event": kind, **fields})


async def serve_until_stopped(
    identity: Identity,
    signed: SignedCharter,
    pins: Pins,
    listening: Listening,
    *,
    as_json: bool,
    again: str,
    office: Office | None = None,
    books: Bookkeeping | None = None,
) -> None:
    """Run the first peer until Ctrl-C or SIGTERM, then leave with no process behind.

    Args:
        again: the command that starts it again, for people.
        office: a maintainer's key and how machines are measured with it; None measures none.
        books: a keeper's key and where the grid's books lie; None keeps none.

    Raises:
        SwarmError: it cannot start (address taken), or the libp2p daemon ended.
        LedgerError: the books cannot be used.
        CharterError: a manifest is missing, or known peers cannot be written.
    """
    reporter = Reporter(signed, as_json=as_json, again=again)
    with stop_on_signals() as stop:
        board = NoticeBoard(signed, pins.notices_path(signed))
        if office is not None and board.admission.required:
            await in_background(warm_up)  # before anyone can call: importing torch stops Python for up to a second
        manifests = Manifests(signed, board, pins)
        await asyncio.to_thread(manifests.load)
        async with AsyncExitStack() as stack:
            entering = open_first_peer(identity, signed, pins, listening, manifests.raws)
            swarm = await stack.enter_async_context(entering)
            await stack.enter_async_context(gossiping(swarm, board, lambda: pins.peers(signed)))
            kept, elsewhere = None, False
            if books is not None:
                opened = open_books(books, swarm, signed, board, manifests, reporter.discord, stop)
                try:
                    kept = await stack.enter_async_context(opened)
                except KeptElsewhere as error:
                    elsewhere = True
                    reporter.discord(Discord("elsewhere", books.identity.public_key.hex(), str(error)))
            if stop.is_set():
                return reporter.stopping()
            how = None
            if office is not None:
                tell = reporter.examined, reporter.unfit
                how = partial(open_office, office, swarm, signed, board, pins, *tell, manifests=manifests.models)
            opening = Opening(board, how, lambda: reporter.open_to(office, required=True))
            measuring = asyncio.create_task(opening.run())
            tasks: list[asyncio.Task[Any]] = [measuring]
            try:
                required = board.admission.required
                if required:
                    await opening.opened(measuring)
                reporter.started(swarm, signed)
                if signed.charter.economy.required and (as_json or not elsewhere):  # else people were told why
                    reporter.keeping(kept)
                reporter.open_to(office if required else None, required=required)
                looking = asyncio.create_task(_look(swarm, signed, pins, Gatekeeper(signed, board), reporter, opening))
                failing = asyncio.create_task(swarm.failed())
                learning = asyncio.create_task(manifests.follow(swarm))
                tasks += [looking, failing, learning, asyncio.create_task(stop.wait())]
                watched: list[asyncio.Task[Any]] = [looking, measuring, learning]
                if kept is not None:
                    watched.append(asyncio.create_task(kept.keeper.failed()))
                    tasks.append(watched[-1])
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in watched:
                    if task.done():
                        task.result()  # raises what ended it
                if failing.done():
                    raise failing.result()
            finally:
                reporter.stopping()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _look(
    swarm: Swarm, signed: SignedCharter, pins: Pins, gate: Gatekeeper, reporter: Reporter, opening: Opening
) -> None:
    async for census in watch(swarm, signed, pins, gate):
        reporter.seen(census, opening.crowd)
