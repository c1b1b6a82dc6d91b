"""Room on the vault's disk, promised to uploads before their bytes come, so that what is begun can be ended."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path
from typing import Final

from gridllm.errors import GridError, NodeFault, NotAccepted

SPARE_BYTES: Final = 256 * 1024 * 1024  # left free on the disk: the store's books and the system need some, too
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Room:
    """What is free, and what of it is promised to whom. Its methods may be called in any thread."""

    def __init__(self, folder: Path, spare_bytes: int = SPARE_BYTES) -> None:
        self._folder = folder
        self._spare = spare_bytes
        self._promised: dict[str, int] = {}  # root → bytes that are yet to come
        self._lock = threading.Lock()

    @property
    def roots(self) -> set[str]:
        """Those to whom something is promised."""
        with self._lock:
            return set(self._promised)

    def free_bytes(self) -> int:
        """Bytes that nobody was promised."""
        with self._lock:
            return max(0, self._left() - sum(self._promised.values()))

    def reserve(self, root: str, size: int) -> None:
        """Promise ``size`` bytes to a model; replaces what it was promised before.

        Raises:
            NotAccepted: there is not so much; what was promised before holds.
        """
        with self._lock:
            free = max(0, self._left() - sum(self._promised.values()) + self._promised.get(root, 0))
            if size > free:
                raise NotAccepted(
                    f"The leaderboard's disk has {free / 1e6:,.0f} MB free, and this model needs {size / 1e6:,.0f} MB; "
                    "try again when its maintainer has made room."
                )
            self._promised[root] = size

    def came(self, root: str, size: int) -> None:
        """So much of what was promised lies on the disk now."""
        with self._lock:
            if root in self._promised:
                self._promised[root] = max(0, self._promised[root] - size)

    def release(self, root: str) -> None:
        """Nothing more comes."""
        with self._lock:
            self._promised.pop(root, None)

    def check(self) -> None:
        """
        Raises:
            NotAccepted: others than uploads filled the disk.
        """
        if self._left() <= 0:
            raise self.full()

    def full(self) -> NotAccepted:
        """The refusal of an upload under way."""
        free = max(0, shutil.disk_usage(self._folder).free)
        return NotAccepted(
            f"The leaderboard's disk is full ({free / 1e6:,.0f} MB free). What it has of this model stays there; "
            "run the same command again when its maintainer has made room, to resume the upload."
        )

    def trouble(self, error: OSError) -> GridError:
        """What to say when the disk does not take something."""
        if error.errno in FULL:
            return self.full()
        return NodeFault(f"The leaderboard cannot write to its disk ({error.strerror}); tell its maintainer.")

    def _left(self) -> int:
        return shutil.disk_usage(self._folder).free - self._spare
