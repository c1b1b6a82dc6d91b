"""What this grader was not able to grade, though the model is not at fault: on disk, and told with each question for
work, so that the leaderboard asks others, or lets the model wait. With other means everything is tried again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gridllm.disk import write_atomically
from gridllm.errors import GridError

KEEP_S: Final = 7 * 86_400  # after which it is tried again
KEEP_UNPAID_S: Final = 86_400  # the same where credit was lacking
PATIENCE_S: Final = 3600  # nodes, or credit, are waited for; so long the others in the round wait, too
LOOK_EVERY_S: Final = 60  # whether nodes serve by now what they did not
MOST_WHY: Final = 200  # characters


class UnableError(GridError):
    """This grader is not able to grade a model; another one may be."""


class Note(msgspec.Struct, frozen=True):
    """Of one model."""

    why: str  # for people
    since: int  # Unix time, seconds
    until: int  # when it is tried again
    nodes: bool = False  # they lack: it can be graded as soon as they serve it
    final: bool = True  # False: what it lacks is still waited for
    looked: int = 0  # when it was looked last whether they serve it


class _Kept(msgspec.Struct, frozen=True):
    means: str  # with which it was tried
    notes: dict[str, Note]  # by submission


class Unables:
    """The file. Its functions block."""

    def __init__(self, path: Path, means: str, clock: Callable[[], float]) -> None:
        """``means``: what the grader's owner gives, spelled."""
        self._path = path
        self._means = means
        self._clock = clock

    def final(self) -> dict[str, Note]:
        """What is not tried any more for now, by submission, the newest first."""
        found = sorted(self._read().items(), key=lambda item: -item[1].since)
        return {submission: note for submission, note in found if note.final}

    def to_look_for(self) -> list[str]:
        """Submissions that lack nodes, where it is time to look for some again; they are taken as looked for."""
        notes, now = self._read(), int(self._clock())
        due = [one for one, note in notes.items() if note.final and note.nodes and note.looked <= now - LOOK_EVERY_S]
        if due:
            self._write(notes | {one: msgspec.structs.replace(notes[one], looked=now) for one in due})
        return due

    def give_up(self, submission: str, why: str) -> None:
        """This one is beyond this grader. Raises OSError."""
        now = int(self._clock())
        self._write(self._read() | {submission: Note(why[:MOST_WHY], now, now + KEEP_S)})

    def lacks(self, submission: str, why: str, *, nodes: bool) -> bool:
        """Whether it has lacked nodes, or credit, for so long that nobody shall wait any more. Raises OSError."""
        notes, now = self._read(), int(self._clock())
        before = notes.get(submission)
        since = before.since if before is not None and not before.final else now
        final = now - since >= PATIENCE_S
        until = now + (KEEP_S if nodes else KEEP_UNPAID_S)
        self._write(notes | {submission: Note(why[:MOST_WHY], now if final else since, until, nodes, final, now)})
        return final

    def forget(self, submission: str) -> None:
        """It can be tried again, or was done. Raises OSError."""
        notes = self._read()
        if notes.pop(submission, None) is not None:
            self._write(notes)

    def _read(self) -> dict[str, Note]:
        """What still holds. A file that rotted is none: everything is tried again."""
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            if kept.means == self._means:
                return {one: note for one, note in kept.notes.items() if note.until > self._clock()}
        return {}

    def _write(self, notes: dict[str, Note]) -> None:
        write_atomically(self._path, msgspec.json.encode(_Kept(self._means, notes)), mode=0o600)
