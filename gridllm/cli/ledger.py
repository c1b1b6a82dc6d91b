"""``gridllm ledger``: check the grid's books, take them home, and read what credit costs and opens."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.ledger.audit.archive import Archive
    from gridllm.ledger.audit.examine import Audit
    from gridllm.ledger.audit.following import Follower

GridOption = Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    help="Check the grid's books yourself, and read what credit costs and opens.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.command()
def verify(
    keeper: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Read from this keeper alone (its key, or how that begins); may be repeated."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Check an exported ledger, without the grid.")
    ] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every balance from the keepers' logs, and compare what keepers say with it.

    Each entry's signatures and price are checked, each log against its signed head, and all heads with each other.
    Exits with 1 when something is wrong, and names the first wrong entry.

    Example: gridllm ledger verify
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.ledger.audit.archive import Archive
    from gridllm.settings import load_settings

    pins = Pins(load_settings().data_dir)
    if file is None:
        signed = _metered(pins, grid)
        run_async(_verify_live(signed, pins, chosen(signed, keeper), as_json=as_json))
        return
    if keeper or grid is not None:
        raise UsageError("With --from everything is read from the file; leave out --keeper and --grid.")
    with Archive(file) as archive:
        run_async(_verify_file(archive, pins, as_json=as_json))


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="File to write; default: <grid>-ledger.zip here.")] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all keepers' logs, with their signed heads and the charter, into one file.

    Example: gridllm ledger export --out books.zip
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.settings import load_settings

    pins = Pins(load_settings().data_dir)
    signed = _metered(pins, grid)
    path = out or Path(f"{signed.charter.name}-ledger.zip")
    if path.exists():
        raise UsageError(f"{path} exists already; remove it, or name another file with --out.")
    run_async(_export(signed, pins, path, as_json=as_json))


@app.command()
def policy(grid: GridOption = None, as_json: JsonOption = False) -> None:
    """Show what service costs in this grid and what credit opens, as its charter says; asks nobody.

    Example: gridllm ledger policy
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.economy_view import economy_lines
    from gridllm.cli.show import facts_text, print_json, stdout
    from gridllm.settings import load_settings

    signed = Pins(load_settings().data_dir).current(grid)
    charter = signed.charter
    if as_json:
        economy = charter.economy.model_dump(mode="json") | {"keepers": charter.keepers}
        print_json({"grid": signed.grid, "name": charter.name, "unit": "micro-credit"} | economy)
        return
    facts: dict[str, str | list[str]] = {"Grid": charter.name, "Credit": economy_lines(charter)}
    if charter.economy.required:
        facts["Keepers"] = list(charter.keepers)
    stdout().print(facts_text(facts))


def chosen(signed: SignedCharter, named: list[str] | None) -> list[str]:
    """The keepers whose keys begin as ``named``; all where none is.

    Raises:
        UsageError: a name fits no keeper, or several.
    """
    from gridllm.errors import UsageError

    keepers, found = signed.charter.keepers, []
    for name in named or []:
        fitting = [one for one in keepers if one.startswith(name.lower())]
        if len(fitting) != 1:
            raise UsageError(
                f"{name!r} names {len(fitting) or 'none'} of the grid's keepers, which are: {', '.join(keepers)}."
            )
        found += fitting
    return list(dict.fromkeys(found)) or keepers


def _metered(pins: Pins, grid: str | None) -> SignedCharter:
    from gridllm.cli.keeper_link import check_metered

    signed = pins.current(grid)
    check_metered(signed)
    return signed


async def _verify_live(signed: SignedCharter, pins: Pins, holders: list[str], *, as_json: bool) -> None:
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.cli.ledger_files import SeenHeads, manifests_of
    from gridllm.ledger.audit.examine import Audit
    from gridllm.models.sizes import block_parameters

    async with asking_keepers(signed, pins) as keepers:
        manifests = await manifests_of(signed, pins, keepers.swarm)
        blocks = {root: block_parameters(manifest) for root, (manifest, _) in manifests.items()}
        seen = SeenHeads(signed, pins)
        with _progress("Checking entries") as progress:
            audit = Audit(keepers, signed, blocks, holders=holders, known=seen.load(), progress=progress)
            fault = await _run(audit)
        if fault is None:
            seen.save({log.keeper: log.raw for log in audit.report.logs.values() if log.head is not None})
    _show(audit, signed, fault, pins, as_json=as_json)


async def _verify_file(archive: Archive, pins: Pins, *, as_json: bool) -> None:
    from gridllm.cli.show import stderr
    from gridllm.ledger.audit.examine import Audit

    signed = archive.signed
    if signed.grid not in {one.grid for one in pins.all()}:
        stderr().print(
            f"This machine has not joined the grid {signed.charter.name!r} of that file; compare its id with what "
            f"its members know: {signed.grid}",
            markup=False,
        )
    with _progress("Checking entries") as progress:
        audit = Audit(archive, signed, archive.blocks(), progress=progress)
        fault = await _run(audit)
    _show(audit, signed, fault, pins, as_json=as_json)


async def _run(audit: Audit) -> Exception | None:
    """What is wrong, if anything; that nobody could be asked is an error of its own."""
    from gridllm.ledger.audit.faults import Wrong

    try:
        await audit.run()
    except Wrong as wrong:
        return wrong
    return None


def _show(audit: Audit, signed: SignedCharter, fault: Exception | None, pins: Pins, *, as_json: bool) -> None:
    """
    Raises:
        Wrong: the fault, once the table is out.
        Exit: with 1, after JSON.
    """
    from gridllm.cli.ledger_files import keep_evidence
    from gridllm.cli.ledger_view import audit_json, audit_renderable
    from gridllm.cli.show import print_json, stderr, stdout

    if as_json:
        print_json(audit_json(audit.report, signed, fault))
        if fault is not None:
            raise typer.Exit(1)
        return
    console = stdout()
    console.print(audit_renderable(audit.report, signed, fault), crop=False)
    if fault is not None:
        kept = keep_evidence(fault, signed, pins)
        if kept is not None:
            stderr().print(f"The evidence, which anyone can check with the charter, is in {kept}", markup=False)
        raise fault


async def _export(signed: SignedCharter, pins: Pins, path: Path, *, as_json: bool) -> None:
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.cli.ledger_files import manifests_of
    from gridllm.cli.ledger_view import export_json
    from gridllm.cli.show import print_json, stderr, stdout
    from gridllm.ledger.audit.archive import export as write_archive

    async with asking_keepers(signed, pins) as keepers:
        manifests = {root: raw for root, (_, raw) in (await manifests_of(signed, pins, keepers.swarm)).items()}
        with _progress("Fetching entries") as progress:
            done: Follower = await write_archive(keepers, signed, manifests, path, progress)
    for keeper, why in done.silent.items():
        copied = f"its log is as {done.logs[keeper].holder[:16]}… holds it" if done.logs[keeper].holder else "left out"
        stderr().print(f"{why} ({copied})", markup=False)
    if as_json:
        print_json(export_json(done, path))
    else:
        stdout().print(f"{done.entries:,} entries of {len(done.best())} logs are in {path}", markup=False)
        stdout().print(f"Check them anywhere with: gridllm ledger verify --from {path}", markup=False)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gridllm.cli.show import stderr

    columns: Any = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
