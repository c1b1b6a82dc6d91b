"""``gridllm grids``: the grids this machine has joined, and which of them commands use."""

from __future__ import annotations

from typing import Annotated

import typer


def grids(
    use: Annotated[str | None, typer.Option(metavar="NAME", help="Make this the grid that commands use.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the grids this machine has joined; commands use the one marked with a star.

    Example: gridllm grids --use home
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.show import charter_json, facts_text, print_json, room, stdout
    from gridllm.errors import CharterError
    from gridllm.settings import load_settings

    pins = Pins(load_settings().data_dir)
    if use is not None:
        pins.pin(pins.current(use))
    joined = pins.all()
    try:
        current: str | None = pins.current().grid
    except CharterError:  # says how to join when there is none yet; a program gets an empty list
        if not joined and not as_json:
            raise
        current = None  # what was used last is gone; --use chooses another
    if as_json:
        print_json([{**charter_json(signed), "current": signed.grid == current} for signed in joined])
        return
    facts = {
        f"{'*' if signed.grid == current else ' '} {signed.charter.name}": (
            f"{', '.join(entry.name for entry in signed.charter.models)}  ({signed.grid[:16]}…)"
        )
        for signed in joined
    }
    stdout().print(facts_text(facts, room()))
