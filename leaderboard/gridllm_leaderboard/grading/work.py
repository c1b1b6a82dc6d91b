"""What the leaderboard wants graded, checked before anything is run: rules, lock, beacon, items, submissions.

A grader signs with its own name, so that it takes nobody's word: the items must be those that the beacon decides where
it can draw them itself, and in any case those that the signed draw names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from gridllm.charter.contest import Rules, TaskRule
from gridllm.charter.document import SignedCharter
from gridllm.charter.notices import verify_notice
from gridllm.errors import LeaderboardError, NoticeError
from gridllm_leaderboard import tasks
from gridllm_leaderboard.beacon import seed_of, verify_beacon
from gridllm_leaderboard.messages import Work
from gridllm_leaderboard.results import Line, digest_of, items_root, read_items
from gridllm_leaderboard.statements import Draw, ItemSet, Lock, Submission, id_of, verify_document
from gridllm_leaderboard.tasks.items import checked_all

FetchLines = Callable[[str], Awaitable[bytes]]
FetchFile = Callable[[str, str], Awaitable[bytes]]
"""(task, name of the file) → the file."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model to be graded."""

    id: str
    submission: Submission
    serve: bool  # the grid may run it


@dataclass(frozen=True, slots=True)
class Sheet:
    """The round's items of one task, and public ones."""

    task: tasks.Task
    root: str
    items: Sequence[Line]
    practice: Sequence[Line]
    drawn_here: bool  # we drew them ourselves from the beacon, and they are the same


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything that one round asks of this grader, checked."""

    rules: Rules
    lock: Lock
    draw: Draw
    models: Sequence[Wanted]

    @property
    def seed(self) -> bytes:
        """That the round's items follow from."""
        return seed_of(id_of(self.lock), self.draw.head.encode())


def read_work(work: Work, signed: SignedCharter, grader: str) -> Assignment | None:
    """The assignment; None: there is nothing to grade now.

    Args:
        grader: our account, which may not grade a model of its own.

    Raises:
        LeaderboardError: a document is forged, or does not belong to the others.
    """
    if not work.tasks:
        return None
    if work.rules is None or work.lock is None or work.draw is None:
        raise LeaderboardError("The leaderboard sent work without the rules, lock and draw that it is done by.")
    try:
        rules = verify_notice(work.rules, signed)
    except NoticeError as error:
        raise LeaderboardError(f"The leaderboard sent rules that cannot be used: {error}") from error
    if not isinstance(rules, Rules):
        raise LeaderboardError("The leaderboard sent another notice where its rules should be.")
    lock = verify_document(work.lock, Lock, signed.grid, rules.account)
    draw = verify_document(work.draw, Draw, signed.grid, rules.account)
    _check_belong(rules, lock, draw)
    verify_beacon(draw.head.encode(), lock, signed)
    models = []
    for task in work.tasks:
        submission = verify_document(task.submission, Submission, signed.grid, rules.account)
        name = id_of(submission)
        if name not in lock.submissions and name != lock.champion:
            raise LeaderboardError(f"The leaderboard asks for a grade of {name[:16]}…, which is not in the round.")
        if submission.account != grader:
            models.append(Wanted(name, submission, task.serve and submission.serve))
    return Assignment(rules, lock, draw, models)


def _check_belong(rules: Rules, lock: Lock, draw: Draw) -> None:
    if lock.rules != id_of(rules):
        raise LeaderboardError("The round was locked under other rules than those that were sent.")
    if draw.lock != id_of(lock) or draw.round != lock.round:
        raise LeaderboardError("The draw is of another round than the lock.")
    ruled = [(task.name, task.commitment, task.items) for task in rules.tasks]
    if [(one.task, one.commitment, one.count) for one in draw.items] != ruled:
        raise LeaderboardError("The draw is of other tasks than the rules name, or of another number of items.")


async def fetch_sheets(
    assignment: Assignment, lines: FetchLines, file: FetchFile, own: Mapping[str, tasks.Task]
) -> list[Sheet]:
    """All items of the round.

    Args:
        own: tasks that are kept here, by name, as folders with their pools may be.

    Raises:
        LeaderboardError: items or a task are not what rules and draw commit to.
        SwarmError, Refusal, WireError: they cannot be had.
    """
    rules = {rule.name: rule for rule in assignment.rules.tasks}
    sheets = []
    for drawn in assignment.draw.items:
        task = own.get(drawn.task) or await _task_of(rules[drawn.task], file)
        if task.commitment != drawn.commitment:
            raise LeaderboardError(
                f"The task {drawn.task} is not the one that the rules commit to: this program's generator or the "
                "files differ. Use the version of gridllm that the maintainers use."
            )
        sheets.append(checked_sheet(task, drawn, read_items(await lines(drawn.root)), assignment.seed))
    return sheets


def checked_sheet(task: tasks.Task, drawn: ItemSet, items: list[Line], seed: bytes) -> Sheet:
    """The items, once they are known to be those of the draw and, where that can be told, of the beacon.

    Raises:
        LeaderboardError: they are not.
    """
    if items_root(items) != drawn.root or len(items) != drawn.count:
        raise LeaderboardError(f"The items of {task.name} are not those that the draw names.")
    checked_all(items, task.kind, f"The items of {task.name}")
    practice = task.practice()
    if {digest_of(item) for item in practice} & {digest_of(item) for item in items}:
        raise LeaderboardError(f"Items of {task.name} were drawn that are public.")
    pool = task.pool() if isinstance(task, tasks.FolderTask) else None
    if pool is not None and not {digest_of(item) for item in items} <= {digest_of(item) for item in pool}:
        raise LeaderboardError(f"Items of {task.name} were drawn that are not in its pool.")
    if task.generated and task.draw(seed, drawn.count) != items:
        raise LeaderboardError(f"The items of {task.name} are not those that follow from the beacon.")
    return Sheet(task, drawn.root, items, practice[: drawn.count], task.generated)


async def _task_of(rule: TaskRule, file: FetchFile) -> tasks.Task:
    if rule.name in tasks.BUILT_IN:
        built_in = tasks.load(rule.name)
        if built_in.commitment == rule.commitment:
            return built_in
    return tasks.from_files(await file(rule.name, "task.yaml"), await file(rule.name, "practice.jsonl"))
