"""How help is laid out: which commands stand together, and what typer's own layout gets wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

PANELS: Final[Mapping[str, tuple[str, ...]]] = {
    "Start here": ("demo", "join", "generate", "status"),
    "Help with your machine": ("bench", "serve", "relay", "seed"),
    "Earn and compete": ("credit", "ledger", "leaderboard"),
    "This machine": ("grids", "id"),
    "Found a grid": ("bootstrap",),
}  # as a newcomer meets them
COMMAND_ORDER: Final = tuple(name for names in PANELS.values() for name in names)
EPILOG: Final = """\
First steps:
  gridllm demo                          a whole grid, on this machine alone
  gridllm join ADDRESS                  its founder tells you the address
  gridllm generate "Once upon a time"   use it; gridllm serve gives back

Each command has an example: gridllm join --help
To complete commands with TAB: gridllm --install-completion"""


def laid_out(command: Any, context: Any) -> Any:
    """``command`` in its panel, and all within it with paragraphs that fill the line.

    Args:
        context: of the command that it is part of.
    """
    command.rich_help_panel = getattr(command, "rich_help_panel", None) or _panel_of(command.name)
    command.help = _joined(command.help)
    own = type(context)(command, parent=context, info_name=command.name)
    without_values(command.get_params(own))
    for inner in getattr(command, "commands", {}).values():
        laid_out(inner, own)
    return command


def without_values(parameters: Iterable[Any]) -> None:
    """Flags take no value; typer says <bool>, as if one had to be typed."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""


def _panel_of(name: str) -> str | None:
    return next((panel for panel, names in PANELS.items() if name in names), None)


def _joined(text: str | None) -> str | None:
    """Paragraphs of one line each: typer keeps the source's line breaks in all but the first."""
    import inspect

    if text is None:
        return None
    return "\n\n".join(" ".join(part.split("\n")) for part in inspect.cleandoc(text).split("\n\n"))
