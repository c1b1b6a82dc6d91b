"""The command reference in Markdown, written from the commands themselves: ``python -m gridllm.cli.reference FILE``."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

WIDTH: Final = 116  # of the reference's lines
HEADER: Final = """# Commands

Written by `make docs` from the commands themselves; the tests check that it is up to date. Each command has `--help`.
Errors are one sentence on stderr: exit code 1, or 2 for wrong usage; `GRIDLLM_DEBUG=1` adds the traceback.
"""


def command_reference() -> str:
    """One section for each command and sub-command: what it does, an example, its arguments and options."""
    sections = [_section(name, command) for name, command in commands_of_all()]
    return "\n".join([HEADER, *sections])


def commands_of_all() -> Iterator[tuple[str, Any]]:
    """Each command and sub-command, by what is typed."""
    import typer.main

    from gridllm.cli.main import app

    root: Any = typer.main.get_command(app)
    context = root.make_context("gridllm", [], resilient_parsing=True)
    yield "gridllm", root
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        yield f"gridllm {name}", command
        for inner, inner_command in getattr(command, "commands", {}).items():
            yield f"gridllm {name} {inner}", inner_command


def _section(name: str, command: Any) -> str:
    lines = []
    for line in inspect.cleandoc(command.help or "").splitlines():
        example = line.strip().removeprefix("Example: ")
        lines.append(f"```\n{example}\n```" if example != line.strip() else textwrap.fill(line.strip(), WIDTH))
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    table = ["| | default | |", "|---|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {name}\n", *lines, "", *table])


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    name = (
        (parameter.metavar or parameter.name.upper())
        if is_argument
        else ", ".join(parameter.opts + parameter.secondary_opts)
    )
    default = parameter.default
    shown = (
        "required"
        if parameter.required
        else ""
        if default in (None, False, (), []) or callable(default)
        else f"`{default}`"
    )
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| `{name}` | {shown} | {text} |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(command_reference(), encoding="utf-8")
    else:
        sys.stdout.write(command_reference())
