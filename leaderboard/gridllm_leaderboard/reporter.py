"""What the terminal shows of a leaderboard that runs, or what programs read of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gridllm.cli.grid_view import printable
from gridllm.cli.show import print_json, stderr, stdout
from gridllm.cli.status_line import StatusLine
from gridllm.quantities import count_credits, count_things

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.swarm.interface import Swarm
    from gridllm_leaderboard.desk.desk import Desk


class Reporter:
    """Tells people (a live status line, or plain lines where there is no terminal) or programs (JSON lines)."""

    def __init__(self, name: str, *, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._console = stdout()
        self._line = StatusLine(self._console, name)

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
        self._line.begin("…")
        return None

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Something happened."""
        if self._as_json:
            return print_json({"event": kind, **facts})
        self._console.print(printable(_sentence(kind, facts)), markup=False)
        return None

    def seen(self, sentence: str) -> None:
        """How things stand; programs ask for it instead."""
        if not self._as_json:
            self._line.show(sentence)

    def stopping(self) -> None:
        """The end was asked for."""
        self._line.end()
        if self._as_json:
            print_json({"event": "stopped"})
        else:
            stderr().print("Stopped. Start it again with: gridllm leaderboard run", markup=False)


def _sentence(kind: str, facts: Mapping[str, Any]) -> str:
    whose = f"Submission {str(facts.get('submission', ''))[:12]}…"
    number = f"Round {facts.get('round')}"
    match kind:
        case "entered":
            return f"{whose}: {facts['name']}, by {facts['account'][:16]}…"
        case "checked":
            return f"{whose} was checked and is {facts['state']}"
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
        case "found":
            return f"The files of the champion {facts['name']} are sound again"
        case "waits":
            return f"{whose}: {facts['text']}"
        case "deferred":
            return f"{number}: no grader is able to grade {facts['submission'][:12]}…; it is queued again"
        case "crowned":
            return f"{facts['name']} is champion"
        case "bounty":
            return f"Bounty: {count_credits(facts['micro'])} to {facts['account'][:16]}… ({facts['how']})"
        case "draft":
            return f"Other maintainers must sign: gridllm bootstrap sign {facts['file']}"
        case "trouble":
            return f"Not now: {facts['text']}"
    return f"{whose} {kind}"
