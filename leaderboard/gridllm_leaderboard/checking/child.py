"""The process that looks at a stranger's model: ``python -m gridllm_leaderboard.checking.child``.

One JSON object on stdin says what and within which limits; on stdout come lines of JSON: what is looked at now, and at
last how it ended. The limits begin once our own libraries are loaded.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Final

MOST_SAID: Final = 1000  # characters of a sentence


def main() -> None:
    """Look, say, end."""
    asked = json.loads(sys.stdin.buffer.read(64 * 1024))
    folder = Path(asked["folder"])
    import torch
    import transformers  # noqa: F401  # loaded before memory is limited

    from gridllm.errors import GridError
    from gridllm_leaderboard.checking.tokenizer import check_tokenizer
    from gridllm_leaderboard.checking.weights import check_finite, check_shapes

    torch.set_num_threads(1)
    limit(asked["memory_bytes"], asked["cpu_s"])
    try:
        say(phase="config and tensors")
        rows = check_shapes(folder)
        say(phase="tokenizer")
        check_tokenizer(folder, rows)
        say(phase="weights")
        check_finite(folder)
    except GridError as error:
        say(error=_plain(str(error), folder))
    except MemoryError:
        say(memory=True)
    except BaseException as error:  # noqa: BLE001  # whatever a library makes of a stranger's files; Rust's panics, too
        say(error=_plain(f"The model cannot be read: {type(error).__name__}: {error}", folder))
    else:
        say(good=True)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process may use from here on."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + cpu_s, used + cpu_s + 5))
    if sys.platform == "linux":  # elsewhere the kernel does not hold to it
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory_bytes, held + memory_bytes))


def say(**facts: object) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _plain(text: str, folder: Path) -> str:
    """Without this machine's paths, and nothing but printable characters of what strangers wrote."""
    text = " ".join(text.replace(f"{folder}/", "").replace(str(folder), "the model's folder").split())
    return "".join(letter for letter in text if letter.isprintable())[:MOST_SAID]


if __name__ == "__main__":
    main()
