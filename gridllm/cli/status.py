"""``gridllm status``: who serves which blocks, and where the grid has gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rich.console import Group

    from gridllm.admission.certificate import Certificate
    from gridllm.admission.gate import Gatekeeper
    from gridllm.charter.document import ModelEntry, SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.cli.grid_view import ModelView
    from gridllm.cli.helper_view import HelperView
    from gridllm.ids import PeerId
    from gridllm.swarm.directory import Directory
    from gridllm.swarm.interface import Swarm
    from gridllm.wire.helper import HelperRecord
    from gridllm.wire.record import NodeRecord

PING_CALL: Final = "gridllm.ping"
PING_TIMEOUT_S: Final = 2.0
PINGS_AT_ONCE: Final = 32
WATCH_S: Final = 2.0
NEWS_TIMEOUT_S: Final = 2.0  # for a first peer to tell of new notices; without it, those known before hold


def status(
    model: Annotated[str | None, typer.Option(help="Model to show; the default is the grid's first.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every model of the grid, and nodes that are not admitted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option(help="Refresh until Ctrl-C.")] = False,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
) -> None:
    """Show the grid: nodes, their blocks and speed, how well each block is covered, relays and seeds.

    Example: gridllm status --watch
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.settings import load_settings

    if watch and as_json:
        raise UsageError("--watch and --json cannot be combined; run --json as often as you need it.")
    settings = load_settings()
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    run_async(_show(signed, model, pins, everything=everything, as_json=as_json, watch=watch))


async def _show(
    signed: SignedCharter,
    model: str | None,
    pins: Pins,
    *,
    everything: bool,
    as_json: bool,
    watch: bool,
) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    from gridllm.admission.gate import Gatekeeper
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.catalogue import Catalogue
    from gridllm.charter.entering import visiting
    from gridllm.charter.gossip import gossiping
    from gridllm.charter.news import hear_news
    from gridllm.cli.grid_view import WIDE, view_json
    from gridllm.cli.helper_view import helpers_json, look_for_helpers
    from gridllm.cli.show import print_json, stdout
    from gridllm.cli.work import step
    from gridllm.swarm.directory import Directory
    from gridllm.swarm.helpers import Helpers

    async with AsyncExitStack() as stack:
        with step(f"Looking up the nodes of {signed.charter.name}"):
            swarm = await stack.enter_async_context(visiting(signed, pins))
            board = NoticeBoard(signed, pins.notices_path(signed))
            gate = Gatekeeper(signed, board)
            directory = Directory(swarm, signed.grid, gate.admit)
            await hear_news(swarm, board, pins.peers(signed), timeout_s=NEWS_TIMEOUT_S)
            helpers = Helpers(swarm, signed.grid, gate.admit_helper)
            catalogue = Catalogue(signed, board)

            async def look_once() -> tuple[list[ModelView], HelperView]:
                served = catalogue.entries
                entries = served if everything else [catalogue.model(model)]
                names = {entry.root: entry.name for entry in served}
                return await asyncio.gather(
                    look(swarm, directory, gate, entries, everything=everything),
                    look_for_helpers(swarm, helpers, names, everything=everything),
                )

            views, helping = await look_once()
        if watch:
            async with gossiping(swarm, board, lambda: pins.peers(signed), serve=False):
                await _watch(look_once)
        if as_json:
            models = [view_json(view) for view in views]
            grid = {"grid": signed.grid, "name": signed.charter.name, "models": models}
            print_json(grid | helpers_json(helping))
        else:
            console = stdout()
            if not console.is_terminal:
                console.width = WIDE  # rich would take 80
            console.print(_everything(views, helping, console.width), crop=False)


def _everything(views: Sequence[ModelView], helping: HelperView, width: int) -> Group:
    from rich.console import Group

    from gridllm.cli.grid_view import model_renderable
    from gridllm.cli.helper_view import helpers_renderable

    table = helpers_renderable(helping)
    return Group(*(model_renderable(view, width) for view in views), *([] if table is None else [table]))


async def _watch(look_once: Callable[[], Awaitable[tuple[list[ModelView], HelperView]]]) -> NoReturn:
    import asyncio

    from rich.live import Live

    from gridllm.cli.show import stdout

    console = stdout()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(_everything(*await look_once(), console.width), refresh=True)
            await asyncio.sleep(WATCH_S)


async def look(
    swarm: Swarm, directory: Directory, gate: Gatekeeper, entries: Sequence[ModelEntry], *, everything: bool = False
) -> list[ModelView]:
    """Fetch the records of each model and measure the way to each admitted node; with ``everything``, list others."""
    import asyncio
    import time

    from gridllm.cli.grid_view import ModelView

    seen = await asyncio.gather(*(directory.census(entry.model_root) for entry in entries))
    found = [[record for record, fault in records if fault is None] for records in seen]
    outside = [[(record, fault) for record, fault in records if fault is not None] for records in seen]
    everyone = {record.peer: record for records in found for record in records}
    limit = asyncio.Semaphore(PINGS_AT_ONCE)

    async def measure(record: NodeRecord) -> tuple[PeerId, float | None]:
        async with limit:
            return record.peer, await ping_ms(swarm, record)

    rtts = dict(await asyncio.gather(*map(measure, everyone.values())))
    now_s = time.time()
    return [
        ModelView(
            entry.name,
            entry.model_root,
            entry.blocks,
            records,
            rtts,
            now_s,
            certificates_of(records, gate),
            outsiders if everything else None,
        )
        for entry, records, outsiders in zip(entries, found, outside, strict=True)
    ]


def certificates_of(records: Sequence[NodeRecord], gate: Gatekeeper) -> dict[PeerId, Certificate]:
    """What admits each node; nothing in an open grid."""
    from gridllm.errors import CertificateError

    found = {}
    for record in records:
        try:
            certificate = gate.check(record.certificate, record.peer, model=record.model, dtype=record.dtype)
        except CertificateError:
            continue  # it ran out between two looks
        if certificate is not None:
            found[record.peer] = certificate
    return found


async def ping_ms(swarm: Swarm, record: NodeRecord | HelperRecord) -> float | None:
    """Round trip to a node or helper in milliseconds, the connection already up; None when it does not answer."""
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
