"""``gridllm serve``: volunteer this machine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import ModelEntry
    from gridllm.identity.keys import Identity
    from gridllm.node.enrolment import Membership
    from gridllm.node.succession.following import Following
    from gridllm.node.wishes import Wishes
    from gridllm.settings import Settings


def serve(
    blocks: Annotated[str, typer.Option(help="Blocks to serve, like 4:12; auto: those the grid needs most.")] = "auto",
    model: Annotated[
        str | None,
        typer.Option(help="Model to serve, or @champion: whichever leads the leaderboard; default: the grid's first."),
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Folder with the model's files, if this machine has them.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory for weights and caches, like 4GiB; default: what is free.")
    ] = None,
    cache_tokens: Annotated[int | None, typer.Option(min=64, help="Tokens of KV cache; default: what fits.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: the best available.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: the charter's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to compute with.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Key file; each node needs its own.")] = None,
    host_maddrs: Annotated[list[str] | None, typer.Option(help="Where to listen; may be repeated.")] = None,
    announce_maddrs: Annotated[
        list[str] | None, typer.Option(help="Address at which others reach it, if different (a forwarded port).")
    ] = None,
    grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds that sessions may go on after Ctrl-C, or an old champion takes new ones."),
    ] = 30.0,
    grid: Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")] = None,
) -> None:
    """Serve blocks of a model to the grid until Ctrl-C; a second Ctrl-C leaves without waiting for sessions.

    With --model @champion the node switches to each new champion by itself, once nodes serve all of its blocks;
    sessions with the old one may finish (docs/champion.md).

    Example: gridllm serve --memory 4GiB
    """
    from gridllm.charter.address import check_places
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.catalogue import CHAMPION, Catalogue
    from gridllm.charter.pin import Pins
    from gridllm.cli.catalogue import find_entry
    from gridllm.errors import UsageError
    from gridllm.identity.keys import hold, load_or_create
    from gridllm.settings import load_settings

    span = _parse_blocks(blocks)
    settings = load_settings(
        identity=identity,
        threads=threads,
        device=device,
        dtype=dtype,
        host_maddrs=tuple(host_maddrs) if host_maddrs else None,
        announce_maddrs=tuple(announce_maddrs) if announce_maddrs else None,
    )
    check_places(settings.host_maddrs, settings.announce_maddrs)
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    board = NoticeBoard(signed, pins.notices_path(signed))
    follows = model == CHAMPION
    if follows and path is not None:
        raise UsageError(
            "--path holds one model's files, and @champion changes; leave it out: files are fetched from seeds."
        )
    catalogue = Catalogue(signed, board)
    # Without a champion the grid's first model: who leads by now is asked once the node is in the grid.
    entry = catalogue.champion or catalogue.model() if follows else find_entry(signed, pins, board, model)
    _set_logging(debug=settings.debug)
    mine = load_or_create(settings.identity_path)
    with hold(mine):

        def wishes_for(served: ModelEntry) -> Wishes:
            return _wishes(settings, served, span, memory=memory, cache_tokens=cache_tokens, path=path, grace_s=grace)

        wishes = wishes_for(entry)

        from gridllm.admission.gate import Gatekeeper
        from gridllm.admission.store import Certificates
        from gridllm.cli.candidate_view import Outcome
        from gridllm.cli.runtime import run_async
        from gridllm.errors import AdmissionError
        from gridllm.models.borrowed import Borrowing
        from gridllm.node.enrolment import Membership
        from gridllm.node.standing import Standing
        from gridllm.node.succession.following import Following

        gate = Gatekeeper(signed, board)
        store = Certificates(settings.data_dir)
        borrowing = Borrowing(settings.cache_dir, lambda: catalogue.lasting) if follows else None
        wishes = replace(wishes, borrowing=borrowing)

        def member_for(served: ModelEntry, dtype: str) -> Membership:
            standing = Standing(signed, gate, mine.peer, served.model_root, dtype, store=store)
            return Membership(signed, served, pins, standing, mine)

        def settle(served: ModelEntry) -> tuple[Membership, Wishes]:
            wishes = replace(wishes_for(served), borrowing=borrowing)
            return member_for(served, wishes.dtype), wishes

        following = Following(signed, board, settle) if follows else None
        try:
            run_async(_volunteer(mine, member_for(entry, wishes.dtype), wishes, settings, following))
        except AdmissionError as error:
            outcome = Outcome(None, error=error)
            if outcome.figures is not None:  # measured, and found short: say of what, as join does
                outcome.show(gate.board.admission)
            raise


async def _volunteer(
    identity: Identity, membership: Membership, wishes: Wishes, settings: Settings, following: Following | None
) -> None:
    from functools import partial

    from gridllm.charter.catalogue import Catalogue
    from gridllm.charter.entering import enter
    from gridllm.cli.serve_view import make_report
    from gridllm.cli.signals import two_stops
    from gridllm.node.lifecycle import Volunteer
    from gridllm.node.stops import Stops

    places = settings.host_maddrs, settings.announce_maddrs
    entering = partial(enter, identity, membership.signed, membership.pins, *places, relay=settings.relay)
    catalogue = Catalogue(membership.signed, membership.standing.gate.board)
    report = make_report(membership.entry.name, lambda: catalogue.names)
    with two_stops() as (stop, hurry):
        try:
            await Volunteer(membership, wishes, entering, report, Stops(stop, hurry), following).run()
        finally:
            report.close()
    report.note("Left the grid.")


def _wishes(
    settings: Settings,
    entry: ModelEntry,
    span: tuple[int, int] | None,
    *,
    memory: str | None,
    cache_tokens: int | None,
    path: Path | None,
    grace_s: float,
) -> Wishes:
    """Flags and settings, checked before anything is started."""
    from gridllm.cli.compute import device_of, dtype_of
    from gridllm.errors import UsageError
    from gridllm.node.wishes import Wishes
    from gridllm.quantities import parse_size

    if span is not None and span[1] > entry.blocks:
        raise UsageError(f"{entry.name} has blocks 0:{entry.blocks}; {span[0]}:{span[1]} are not among them.")
    dtype = dtype_of(settings, entry)
    memory_bytes = None if memory is None else parse_size(memory)

    from gridllm.node.source import local_folder  # imports torch: after what can be said at once

    return Wishes(
        blocks=span,
        memory_bytes=memory_bytes,
        cache_tokens=cache_tokens,
        device=device_of(settings),
        dtype=dtype,
        folder=local_folder(entry, path),
        grace_s=grace_s,
        cache_dir=settings.cache_dir,
    )


def _parse_blocks(text: str) -> tuple[int, int] | None:
    """``4:12`` → (4, 12); ``auto`` → None.

    Raises:
        UsageError: neither.
    """
    from gridllm.errors import UsageError

    if text == "auto":
        return None
    match = re.fullmatch(r"(\d{1,5}):(\d{1,5})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(f"--blocks takes auto, or a range like 4:12 (the last one not included), not {text!r}.")
    return int(match[1]), int(match[2])


def _set_logging(*, debug: bool) -> None:
    import logging

    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s")
