"""Run as a script between us and p2pd: sets up the process, then becomes p2pd (same pid, about 20 ms).

* A session of its own: Ctrl-C in a terminal reaches the whole group, and must not end the daemon while a node drains.
* On Linux, death with its parent: p2pd by itself notices a killed parent only when it next writes a log line.

Imports nothing of ours: it runs isolated, without site packages.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process when ``parent`` ends; nothing where the kernel cannot."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


if __name__ == "__main__":
    os.setsid()
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # the path comes from hivemind's own package
