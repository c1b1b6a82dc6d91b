"""One tensor or file on its way into the vault: it goes on at the byte where the process before was killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

REREAD_BYTES: Final = 1024 * 1024  # at once, when what came before is digested again


class Part:
    """A file that grows. Its methods block, and are called one at a time.

    All of them raise OSError; after one the part must be dropped.
    """

    def __init__(self, path: Path, digest: str, header: bytes, size: int) -> None:
        """
        Args:
            path: where it grows; what lies there already is gone on with.
            digest: hex SHA-256 that its bytes shall have.
            header: what stands before them in the file, and does not count.
            size: bytes in all.
        """
        self.path = path
        self.digest = digest
        self.size = size
        self.offset = 0
        self._header = header
        self._sha256 = hashlib.sha256()
        self._file: BinaryIO | None = None

    @property
    def complete(self) -> bool:
        """Whether all bytes came; they are not checked yet."""
        return self.offset == self.size

    def open(self) -> None:
        """Find out where it goes on. What is longer than it may be, or has another header, begins anew."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        have = os.fstat(self._file.fileno()).st_size - len(self._header)
        if 0 < have <= self.size and self._file.read(len(self._header)) == self._header:
            while piece := self._file.read(REREAD_BYTES):
                self._sha256.update(piece)
                self.offset += len(piece)
            return
        self._file.seek(0)
        self._file.truncate()
        write_all(self._file, self._header)

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes. They are not synced: after a power cut the digest tells, and the part begins anew."""
        if self._file is None:
            self.open()
        if self._file is not None:
            write_all(self._file, data)
        self._sha256.update(data)
        self.offset += len(data)

    def finish(self, place: Path) -> bool:
        """Put it in its place, synced; False, and nothing is kept, when its digest is another."""
        self.add(b"")  # what is empty has a file, too
        if self._sha256.hexdigest() != self.digest or self._file is None:
            self.drop()
            return False
        os.fsync(self._file.fileno())
        self.close()
        place.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(place)
        return True

    def close(self) -> None:
        """Let go of the file; it stays as it is."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def drop(self) -> None:
        """Nothing of it stays."""
        with contextlib.suppress(OSError):
            self.close()
        self.path.unlink(missing_ok=True)
        self.offset, self._sha256 = 0, hashlib.sha256()


def write_all(file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    """All of it, however little an unbuffered write takes at once. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
