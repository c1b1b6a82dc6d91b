"""Commands that only ask the grid load no torch, wherever they import: they start in half a second."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMMANDS = (
    "gridllm.cli.status",
    "gridllm.cli.credit",
    "gridllm.cli.grids",
    "gridllm_leaderboard.cli.rank",
    "gridllm_leaderboard.cli.show",
    "gridllm_leaderboard.cli.submissions",
)
COMMAND_ROOMS = ("gridllm.cli.", "gridllm_leaderboard.cli.")  # whose functions import, too
HEAVY = ("torch", "transformers", "hivemind.moe", "huggingface_hub", "sqlalchemy", "matplotlib")


def imports_of(module: str) -> Iterator[str]:
    """All that a module imports at its top and in its functions, but for what only its types need."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(module)
    waiting: list[ast.AST] = [ast.parse(Path(spec.origin).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
        waiting.extend(ast.iter_child_nodes(node))


def reached_from(commands: tuple[str, ...]) -> set[str]:
    """What these commands import, and what the parts of theirs that belong to a command line import in turn."""
    reached: set[str] = set()
    waiting = list(commands)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            if module.startswith(COMMAND_ROOMS):
                waiting.extend(imports_of(module))
    return reached


def test_what_imports_in_a_function_is_seen() -> None:
    assert "torch" in reached_from(("gridllm.cli.bench",))


def test_commands_that_ask_load_nothing_heavy() -> None:
    reached = reached_from(COMMANDS)
    assert "gridllm.swarm.directory" in reached
    lines = [f"import {module}" for module in sorted(reached)]
    script = "\n".join(["import sys", *lines, f"print(*sorted(set({HEAVY}) & set(sys.modules)))"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
