"""``gridllm relay``: help with a machine that is too small to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def relay(
    identity: Annotated[Path | None, typer.Option(help="Key file; each member needs its own.")] = None,
    host_maddrs: Annotated[
        list[str] | None, typer.Option(help="Where to listen, on a fixed port; may be repeated.")
    ] = None,
    announce_maddrs: Annotated[
        list[str] | None, typer.Option(help="Address at which others reach it (a public or forwarded port).")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
) -> None:
    """Relay traffic for peers that nobody can dial; a Raspberry Pi is enough.

    Runs until Ctrl-C. It also stores DHT records and hands out the grid's documents, but serves no blocks.

    Example: gridllm relay --host-maddrs /ip4/0.0.0.0/tcp/31337 --announce-maddrs /ip4/203.0.113.7/tcp/31337
    """
    from gridllm.cli.helper import help_out

    help_out(
        "relay",
        model=None,
        path=None,
        identity=identity,
        host_maddrs=host_maddrs,
        announce_maddrs=announce_maddrs,
        grid=grid,
    )
