"""Files that must never be seen half-written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def make_private_dir(path: Path) -> None:
    """Create ``path`` and its parents; what is new is readable by the owner alone.

    Raises:
        OSError: the folder cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write ``data`` so that readers see the old file or the whole new one, also after a power cut.

    Raises:
        FileExistsError: ``replace`` is False and the file exists (checked without a race).
        OSError: the folder is missing or not writable, or the disk is full.
    """
    with writing_atomically(path, mode=mode, replace=replace) as file:
        file.write(data)


@contextlib.contextmanager
def writing_atomically(path: Path, *, mode: int = 0o644, replace: bool = True) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which stands at ``path`` once the block ends; after an error it never does.

    Raises:
        FileExistsError, OSError: as ``write_atomically``.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, this fails when the name is taken
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)  # the new name itself lives in the folder
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
