"""The ``gridllm`` command: finds its sub-commands by entry point and turns errors into one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Final, NoReturn

import typer
import typer.core
import typer.main

from gridllm import __version__
from gridllm.cli.help import COMMAND_ORDER, EPILOG, laid_out, without_values
from gridllm.errors import GridError, UsageError
from gridllm.garbage import end_without_search

COMMAND_GROUP: Final = "gridllm.commands"
INTERRUPTED: Final = 130  # exit code, as shells have it
MACHINE_FAULTS: Final = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room, for your quota is used up",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine, so close some programs",
    errno.EROFS: "choose a folder that can be written to",
}
"""What ends a command through no fault of its own → what to do."""


def named_command(name: str, found: object) -> Any:
    """What an entry point names (a ``typer.Typer`` or a function) → a command called ``name``.

    Raises:
        UsageError: the entry point names something else.
    """
    if isinstance(found, typer.Typer):
        app = found
    elif callable(found):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        function: Callable[..., Any] = found
        app.command(name)(function)
    else:
        raise UsageError(f"The sub-command {name!r} is a {type(found).__name__}, not a typer app or a function.")
    command = typer.main.get_command(app)
    command.name = name
    return command


def _broken(name: str, entry: EntryPoint, error: Exception) -> Any:
    """A stand-in for a command whose module does not import, so that all other commands keep working."""
    package = entry.dist.name if entry.dist else entry.module
    sentence = (
        f"The command 'gridllm {name}' cannot be loaded from {entry.value} ({error}); "
        f"reinstall {package} (pip install --force-reinstall {package})."
    )

    def unusable(_rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise GridError(sentence) from error

    unusable.__doc__ = f"(cannot be loaded: {error})"
    app = typer.Typer(add_completion=False)
    app.command(name, context_settings={"ignore_unknown_options": True, "help_option_names": []})(unusable)
    command = typer.main.get_command(app)
    command.name = name
    return command


class EntryPointGroup(typer.core.TyperGroup):
    """Sub-commands from the entry-point group ``gridllm.commands``, each imported when it is needed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's context subclass
        """Names in the order a newcomer meets them, then any others."""
        others = sorted(set(self._entries) - set(COMMAND_ORDER))
        return [name for name in COMMAND_ORDER if name in self._entries] + others

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Import and return one sub-command; None when there is none of that name."""
        if cmd_name not in self.commands and cmd_name in self._entries:
            entry = self._entries[cmd_name]
            try:
                command = named_command(cmd_name, entry.load())
            except (ImportError, AttributeError, SyntaxError) as error:
                command = _broken(cmd_name, entry, error)
            self.commands[cmd_name] = laid_out(command, ctx)
        return self.commands.get(cmd_name)

    def get_params(self, ctx: Any) -> Any:
        """As typer has them, flags without a value."""
        found = super().get_params(ctx)
        without_values(found)
        return found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, but a mistyped name is compared with all entry points, loaded or not.

        Raises:
            UsageError: it is the name of a command in one of our groups.
        """
        if args and args[0] not in self._entries and not args[0].startswith("-"):
            found = {name: self.get_command(ctx, name) for name in self._entries}
            inner = [name for name, command in found.items() if args[0] in getattr(command, "commands", {})]
            if inner:
                meant = " or ".join(f"gridllm {name} {args[0]}" for name in inner)
                raise UsageError(f"There is no command 'gridllm {args[0]}'; did you mean: {meant}?")
        return super().resolve_command(ctx, args)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gridllm {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=EntryPointGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # main() shows errors as one sentence
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=EPILOG)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Volunteers pool machines to host language models none of them could host alone.

    Example: gridllm demo
    """


def debugging() -> bool:
    """Whether GRIDLLM_DEBUG=1 asks for tracebacks."""
    return os.environ.get("GRIDLLM_DEBUG", "") not in ("", "0")


def complain(sentence: str) -> None:
    """One sentence on stderr, in red where the terminal can."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text.assemble(("gridllm: ", "bold red"), sentence))


def _end_at_once(code: int) -> NoReturn:
    """End without waiting for threads: one that imports torch cannot be interrupted, and Python waits for it, for
    seconds on a busy machine. What has to be put away was put away by what the interrupt went through."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line. Exits 0, 1 for a ``GridError``, 2 for wrong usage, 130 after Ctrl-C; never a traceback
    unless GRIDLLM_DEBUG=1."""
    if args is None:  # the command itself, and no test of it
        end_without_search()
    try:
        app(args=args, prog_name="gridllm")
    except (KeyboardInterrupt, SystemExit) as end:
        code = end.code if isinstance(end, SystemExit) else INTERRUPTED  # typer makes the one the other
        if code == INTERRUPTED and args is None:  # the command itself, and no test of it
            _end_at_once(INTERRUPTED)
        sys.exit(code)
    except GridError as error:
        if debugging():
            raise
        complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except Exception as error:  # the last border: people get a sentence, developers GRIDLLM_DEBUG=1
        if debugging():
            raise
        if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
            where = f" ({error.filename})" if error.filename else ""
            complain(f"{error.strerror}{where}: {MACHINE_FAULTS[error.errno]}, and run the command again.")
            sys.exit(1)
        complain(f"Unexpected {type(error).__name__}: {error}. GRIDLLM_DEBUG=1 shows where; please report it.")
        sys.exit(70)
    sys.exit(0)
