"""What the terminal shows of a first peer, or what programs read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gridllm.cli.grid_view import printable
from gridllm.cli.show import print_json, stderr, stdout
from gridllm.cli.status_line import StatusLine
from gridllm_bootstrap.limits import Tries

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.swarm.interface import Swarm
    from gridllm_bootstrap.first_peer import Census
    from gridllm_bootstrap.fitness.outcomes import FitnessEvent
    from gridllm_bootstrap.keeping.start import Kept
    from gridllm_bootstrap.keeping.witness import Discord
    from gridllm_bootstrap.measuring.events import Event
    from gridllm_bootstrap.measuring.office import Office

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
        self._line = StatusLine(self._console, self._name)
        self._last = ""  # what the census was, for programs
        self._lines = Tries(REFUSED_LINES)

    def started(self, swarm: Swarm, signed: SignedCharter) -> None:
        """The first peer can be dialled from now on."""
        if self._as_json:
            return self._event("ready", peer=swarm.peer, grid=signed.grid, addresses=list(swarm.addresses))
        self._console.print(f"[bold green]Ready[/]: first peer of [bold]{self._name}[/] ({signed.grid[:16]}…)")
        for address in signed.charter.first_peers or swarm.addresses:
            self._console.print(f"  gridllm join {address}", markup=False)
        self._line.begin("Looking for nodes…")
        return None

    def open_to(self, office: Office | None, *, required: bool) -> None:
        """Whether this first peer measures machines."""
        if self._as_json:
            return self._event("authority", open=office is not None, at_once=office.at_once if office else 0)
        if office is not None:
            self._console.print(f"Machines are measured here, {office.at_once} at a time.", markup=False)
        elif required:
            self._console.print(
                "This first peer measures no machines, since it has no maintainer's key. Others of the grid may."
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
        if self._as_json:
            if sentence != self._last:
                self._event("census", **census.states, covered=census.covered, blocks=census.blocks)
            self._last = sentence
            return
        self._line.show(f"{sentence} · {crowd[0]} examined, {crowd[1]} waiting" if any(crowd) else sentence)

    def stopping(self) -> None:
        """The end was asked for."""
        self._line.end()
        if self._as_json:
            self._event("stopped")
        else:
            stderr().print(f"Stopped. Start it again with: {self._again}", markup=False)

    def _event(self, kind: str, **fields: Any) -> None:
        print_json({"event": kind, **fields})
