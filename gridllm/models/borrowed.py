"""Models in the cache that nobody named: fetched to serve whichever is the champion, and taken off for another's sake.

::

    cache_dir/models/<root>/.borrowed   notes such a model; whoever has it in use holds a shared lock on it
    cache_dir/models/.gone-…            one that is being taken off, or begun
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final

from gridllm.disk import make_private_dir
from gridllm.ids import ModelRoot
from gridllm.models.cached import model_folder

log = logging.getLogger(__name__)

NOTE: Final = ".borrowed"
GONE_PREFIX: Final = ".gone-"
_ROOT: Final = re.compile(r"[0-9a-f]{64}")


class Borrowing:
    """What one process borrowed; lives on the event loop."""

    def __init__(self, cache_dir: Path, needed: Callable[[], Collection[str]]) -> None:
        """``needed``: roots of models that are kept, in use or not."""
        self._models = cache_dir / "models"
        self._cache_dir = cache_dir
        self._needed = needed
        self._held: dict[ModelRoot, BinaryIO] = {}  # the notes, locked

    async def take(self, root: ModelRoot) -> None:
        """Have a model in use. What is here of it already, unless borrowed too, is the user's: it stays for ever."""
        if root in self._held:
            return
        try:
            file = await asyncio.to_thread(self._noted, root)
        except OSError as error:  # of a disk that knows no locks, perhaps: then nothing is ever taken off
            log.info("%s cannot be noted as borrowed, and stays: %s", root, error)
            return
        if file is not None:
            self._held[root] = file

    def release(self, root: ModelRoot) -> None:
        """It is in use here no longer."""
        if (file := self._held.pop(root, None)) is not None:
            file.close()

    async def make_room(self) -> bool:
        """Take off what was borrowed, is not needed, and is in use by nobody. Returns whether there was anything."""
        return await asyncio.to_thread(self._make_room, frozenset(self._needed()))

    def _make_room(self, needed: frozenset[str]) -> bool:
        for note in list(self._models.glob(f"*/{NOTE}")):
            if _ROOT.fullmatch(note.parent.name) and note.parent.name not in needed:
                self._put_aside(note.parent)
        gone = list(self._models.glob(f"{GONE_PREFIX}*"))  # of a process that was killed at it, too
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
        return bool(gone)

    def _noted(self, root: ModelRoot) -> BinaryIO | None:
        """The model's note, locked; None: it is the user's. Raises OSError."""
        folder = model_folder(self._cache_dir, root)
        note = folder / NOTE
        if not folder.exists():
            self._begin(folder)
        if not note.exists():
            return None
        file = note.open("rb")
        try:
            fcntl.flock(file, fcntl.LOCK_SH)  # whoever takes it off holds it for a moment
            if not os.path.samestat(os.fstat(file.fileno()), note.stat()):
                raise FileNotFoundError(folder)
        except OSError:
            file.close()
            raise
        return file

    def _begin(self, folder: Path) -> None:
        """Make the folder with its note in one step: one that is seen without it is the user's."""
        make_private_dir(self._models)
        made = Path(tempfile.mkdtemp(dir=self._models, prefix=GONE_PREFIX))  # swept up, if this process is killed here
        (made / NOTE).touch()
        try:
            made.rename(folder)
        except OSError:  # another process was first: its folder is not empty
            shutil.rmtree(made, ignore_errors=True)

    def _put_aside(self, folder: Path) -> None:
        """At once and as a whole: whoever wants the model from here on fetches it anew."""
        if folder.is_symlink():  # it lies elsewhere: the user put it there
            return
        try:
            with (folder / NOTE).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (folder / NOTE).exists():  # nobody named it meanwhile
                    folder.rename(Path(tempfile.mkdtemp(dir=self._models, prefix=GONE_PREFIX)) / folder.name)
        except OSError as error:  # somebody has it in use
            log.debug("%s stays: %s", folder, error)


def name_model(cache_dir: Path, root: ModelRoot) -> None:
    """The user named this model: what is here of it stays."""
    with contextlib.suppress(OSError):
        (model_folder(cache_dir, root) / NOTE).unlink()
