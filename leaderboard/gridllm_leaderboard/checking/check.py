"""All that is checked of a model before it is graded: by its author before it is sent, by the leaderboard after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gridllm.errors import LeaderboardError, ModelError
from gridllm.models.manifest import Manifest
from gridllm_leaderboard.checking.facts import check_manifest

MOST_SAID_BYTES: Final = 64 * 1024  # by the child
READ_BYTES_PER_S: Final = 20 * 1024 * 1024  # of weights, at least
KEPT: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the process that looks at a model."""

    memory_bytes: int = 4 * 2**30  # beside our own libraries
    cpu_s: int = 120  # and what reading the weights takes
    wall_s: float = 600.0  # likewise

    def with_weights(self, size: int) -> Limits:
        """For a model with so many bytes of weights."""
        more = size // READ_BYTES_PER_S
        return Limits(self.memory_bytes, self.cpu_s + more, self.wall_s + 2 * more)


async def check_in_child(folder: Path, manifest: Manifest, limits: Limits | None = None) -> None:
    """Look at a whole model folder in a process of its own. Its digests are not checked here (the vault did).

    Args:
        limits: None: the usual ones; what reading the weights takes is added.

    Raises:
        ModelError: what is wrong with the model, in one sentence.
        LeaderboardError: this machine is at fault, and the model was not looked at.
    """
    check_manifest(manifest)
    limits = (limits or Limits()).with_weights(sum(one.size for one in manifest.tensors.values()))
    code, said = await _run(folder, limits)
    last = said[-1] if said else {}
    if last.get("good") is True and code == 0:
        return
    if isinstance(last.get("error"), str):
        raise ModelError(last["error"])
    phase = next((line["phase"] for line in reversed(said) if isinstance(line.get("phase"), str)), None)
    if phase is None:
        raise LeaderboardError("No model can be checked: the checking process does not start on this machine.")
    raise ModelError(f"The model's {phase} cannot be read within bounds: {_why(code, last, limits)}.")


def _why(code: int | None, last: dict[str, Any], limits: Limits) -> str:
    if code is None:
        return f"it took more than {limits.wall_s:.0f} s"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it took more than {limits.cpu_s} s of processor time"
    if "memory" in last or code == -signal.SIGABRT:  # a library that gets no memory aborts
        return f"it takes more than {limits.memory_bytes / 2**30:.1f} GiB of memory"
    return f"the process that reads it ended with code {code}"


async def _run(folder: Path, limits: Limits) -> tuple[int | None, list[dict[str, Any]]]:
    """The child's exit code (None: it took too long) and the lines it said."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gridllm_leaderboard.checking.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )
    asked = {
        "folder": str(await asyncio.to_thread(folder.resolve)),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": limits.cpu_s,
    }
    raw, code = bytearray(), None
    try:
        async with asyncio.timeout(limits.wall_s):
            await _talk(child, json.dumps(asked).encode(), raw)
            code = await child.wait()
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    lines = [json.loads(line) for line in raw.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    return code, lines


async def _talk(child: asyncio.subprocess.Process, asked: bytes, heard: bytearray) -> None:
    """Ask; what it says goes to ``heard``, until it has said enough."""
    if child.stdin is None or child.stdout is None:
        raise ModelError("The process that looks at models has no pipes.")
    child.stdin.write(asked)
    child.stdin.close()
    while len(heard) < MOST_SAID_BYTES and (piece := await child.stdout.read(MOST_SAID_BYTES)):
        heard += piece
