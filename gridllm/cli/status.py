"""``gridllm status``: who serves which blocks, and where the grid has gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.cli.grid_view import ModelView
    from gridllm.ids import PeerId
    from gridllm.swarm.directory import Directory
    from gridllm.swarm.interface import Swarm
    from gridllm.wire.record import NodeRecord

PING_CALL: Final = "gridllm.ping"
PING_TIMEOUT_S: Final = 2.0
PINGS_AT_ONCE: Final = 32
WATCH_S: Final = 2.0


def status(
    model: Annotated[str | None, typer.Option(help="Model to show; the default is the grid's first.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every model of the grid.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option(help="Refresh until Ctrl-C.")] = False,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
) -> None:
    """Show the grid: nodes, their blocks and speed, and how well each block is covered.

    Example: gridllm status --watch
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.settings import load_settings

    if watch and as_json:
        raise UsageError("--watch and --json do not go together; call --json as often as you need it.")
    settings = load_settings()
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    entries = signed.charter.models if everything else [signed.charter.model(model)]
    run_async(_show(signed, entries, pins.initial_peers(signed), as_json=as_json, watch=watch))


async def _show(
    signed: SignedCharter, entries: Sequence[ModelEntry], initial_peers: Sequence[str], *, as_json: bool, watch: bool
) -> None:
    from rich.console import Group

    from gridllm.cli.grid_view import WIDE, model_renderable, view_json
    from gridllm.cli.show import print_json, stderr, stdout
    from gridllm.identity.keys import Identity
    from gridllm.swarm.directory import Directory
    from gridllm.swarm.libp2p import open_swarm

    with stderr().status(f"Looking up the nodes of {signed.charter.name}…"):
        swarm = await open_swarm(
            Identity.ephemeral(), initial_peers=initial_peers, client_only=True, namespace=signed.grid
        )
    try:
        directory = Directory(swarm, signed.grid)
        if watch:
            await _watch(swarm, directory, entries)
            return
        views = await look(swarm, directory, entries)
        if as_json:
            models = [view_json(view) for view in views]
            print_json({"grid": signed.grid, "name": signed.charter.name, "models": models})
        else:
            console = stdout()
            width = console.width if console.is_terminal else WIDE
            console.print(Group(*(model_renderable(view, width) for view in views)), width=width, crop=False)
    finally:
        await swarm.close()


async def _watch(swarm: Swarm, directory: Directory, entries: Sequence[ModelEntry]) -> None:
    import asyncio

    from rich.console import Group
    from rich.live import Live

    from gridllm.cli.grid_view import model_renderable
    from gridllm.cli.show import stdout

    console = stdout()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            views = await look(swarm, directory, entries)
            live.update(Group(*(model_renderable(view, console.width) for view in views)), refresh=True)
            await asyncio.sleep(WATCH_S)


async def look(swarm: Swarm, directory: Directory, entries: Sequence[ModelEntry]) -> list[ModelView]:
    """Fetch the records of each model and measure the way to each node."""
    import asyncio
    import time

    from gridllm.cli.grid_view import ModelView

    found = await asyncio.gather(*(directory.nodes(entry.model_root) for entry in entries))
    everyone = {record.peer: record for records in found for record in records}
    limit = asyncio.Semaphore(PINGS_AT_ONCE)

    async def measure(record: NodeRecord) -> tuple[PeerId, float | None]:
        async with limit:
            return record.peer, await ping_ms(swarm, record)

    rtts = dict(await asyncio.gather(*map(measure, everyone.values())))
    now_s = time.time()
    return [
        ModelView(entry.name, entry.model_root, entry.blocks, records, rtts, now_s)
        for entry, records in zip(entries, found, strict=True)
    ]


async def ping_ms(swarm: Swarm, record: NodeRecord) -> float | None:
    """Round trip to a node in milliseconds, the connection already up; None when it does not answer."""
    import time

    from gridllm.errors import GridError

    try:
        await swarm.connect(record.peer, tuple(record.addresses), timeout_s=PING_TIMEOUT_S)
        await swarm.call(record.peer, PING_CALL, b"", timeout_s=PING_TIMEOUT_S)  # opens the protocol's handler
        started = time.perf_counter()
        await swarm.call(record.peer, PING_CALL, b"", timeout_s=PING_TIMEOUT_S)
        return (time.perf_counter() - started) * 1000
    except GridError:
        return None
