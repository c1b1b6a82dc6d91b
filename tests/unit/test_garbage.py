"""Commands do not look for garbage in what they imported: neither meanwhile nor at the end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from gridllm.garbage import YOUNG, searched_rarely

ENDS = """
import atexit, sys
from gridllm.cli import main as cli

class Circle:
    def __init__(self):
        self.me = self

    def __del__(self):
        print("looked at")

circle = Circle()

def command():
    atexit.register(print, "registered")
    {end}

cli.app.command("end")(command)
sys.argv = ["gridllm", "end"]
cli.main()
"""


def test_a_block_is_searched_rarely_and_what_follows_as_before() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyboardInterrupt), searched_rarely():
        assert gc.get_threshold() == (YOUNG, *before[1:])
        raise KeyboardInterrupt
    assert gc.get_threshold() == before
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise SystemExit(3)", 3), ("raise cli.GridError('it rains')", 1)],
    ids=["done", "left", "failed"],
)
def test_a_command_ends_without_a_search_and_puts_away_what_it_has_to(end: str, code: int) -> None:
    script = ENDS.format(end=end)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "registered\n"), done.stderr
