"""``gridllm seed``: hand out a model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def seed(
    model: Annotated[str | None, typer.Option(help="Model to hand out; the default is the grid's first.")] = None,
    path: Annotated[
        Path | None, typer.Option(help="Folder with the model's files; without it they are fetched first.")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="Key file; each member needs its own.")] = None,
    host_maddrs: Annotated[
        list[str] | None, typer.Option(help="Where to listen, on a fixed port; may be repeated.")
    ] = None,
    announce_maddrs: Annotated[
        list[str] | None, typer.Option(help="Address at which others reach it (a public or forwarded port).")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
) -> None:
    """Hand out a model's weights to nodes and clients that lack them.

    Runs until Ctrl-C, and also relays. It needs disk space and bandwidth but no fast processor, and serves no blocks.

    Example: gridllm seed --path ~/models/our-model
    """
    from gridllm.cli.helper import help_out

    help_out(
        "seed",
        model=model,
        path=path,
        identity=identity,
        host_maddrs=host_maddrs,
        announce_maddrs=announce_maddrs,
        grid=grid,
    )
