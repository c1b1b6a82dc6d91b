"""Which tasks are practised: those named, else the leaderboard's, else the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridllm.errors import CharterError, GridError, LeaderboardError
from gridllm_leaderboard.tasks import BUILT_IN, Task, from_files, load

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules, TaskRule
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm_leaderboard.link import LeaderboardLink


class Home(NamedTuple):
    """The grid that this machine joined."""

    pins: Pins
    signed: SignedCharter

    @staticmethod
    def find(data_dir: Path, name: str | None) -> Home | None:
        """None: no grid was joined, and none was asked for. Raises CharterError."""
        from gridllm.charter.pin import Pins

        pins = Pins(data_dir)
        try:
            return Home(pins, pins.current(name))
        except CharterError:
            if name is not None:
                raise
            return None


async def practice_tasks(home: Home | None, named: Sequence[str] | None) -> tuple[list[Task], Mapping[str, int]]:
    """The tasks, and what each weighs in the leaderboard's score.

    Args:
        named: built-in tasks, folders, or tasks of the leaderboard; None: all of the leaderboard's.

    Raises:
        LeaderboardError: there is no such task, or it cannot be used.
        SwarmError: it is one of the leaderboard's, which does not answer.
    """
    known = [] if named is None else [one for one in named if _is_here(one)]
    if named is not None and (home is None or len(known) == len(named)):
        return [load(one) for one in named], {}
    if home is None:
        return [load(one) for one in BUILT_IN], {}
    try:
        return await _ask(home, named)
    except GridError as error:
        if named is not None:
            raise
        from gridllm.cli.show import stderr

        stderr().print(f"{error} Practising the built-in tasks instead.", style="yellow", markup=False)
        return [load(one) for one in BUILT_IN], {}


def _is_here(name: str) -> bool:
    return name in BUILT_IN or Path(name).is_dir()


async def _ask(home: Home, named: Sequence[str] | None) -> tuple[list[Task], Mapping[str, int]]:
    from gridllm_leaderboard.cli.asking import the_leaderboard

    async with the_leaderboard(home.signed.charter.name) as link:
        ruled = {rule.name: rule for rule in link.rules.tasks}
        names = list(ruled) if named is None else named
        found = [await _task(link, ruled[one]) if one in ruled else load(one) for one in names]
        return found, _weights(link.rules)


async def _task(link: LeaderboardLink, rule: TaskRule) -> Task:
    """As the rules commit to it: ours, where it is that one, else by its public files."""
    if rule.name in BUILT_IN and load(rule.name).commitment == rule.commitment:
        return load(rule.name)
    task = from_files(await link.file(rule.name, "task.yaml"), await link.file(rule.name, "practice.jsonl"))
    if task.name != rule.name or task.commitment != rule.commitment:
        raise LeaderboardError(f"The leaderboard sent another task than the {rule.name} of its rules.")
    return task


def _weights(rules: Rules) -> Mapping[str, int]:
    return {task.name: task.weight for task in rules.tasks}
