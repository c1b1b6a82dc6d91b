"""``gridllm ledger``: check the grid's books, take them home, and read what credit costs and opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins

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
        typer.Option(metavar="KEY", help="Read only from this keeper (its key, or the start of it); may be repeated."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Check an exported ledger, without the grid.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Check every row of a keeper's own database: a URL or an SQLite file."),
    ] = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every balance from the keepers' logs, and compare it with what the keepers say.

    Each entry's signatures and price are checked, each log against its signed head, and all heads with each other.
    Exits with 1 if something is wrong, and names the first wrong entry.

    Example: gridllm ledger verify
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.ledger_checks import verify_database, verify_file, verify_live
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.ledger.audit.archive import Archive
    from gridllm.settings import load_settings

    data_dir = load_settings().data_dir
    pins = Pins(data_dir)
    if database is not None:
        if keeper or file is not None:
            raise UsageError("--database is checked on its own; leave out --keeper and --from.")
        verify_database(database, data_dir, grid, as_json=as_json)
        return
    if file is None:
        signed = _metered(pins, grid)
        run_async(verify_live(signed, pins, chosen(signed, keeper), as_json=as_json))
        return
    if keeper or grid is not None:
        raise UsageError("With --from everything is read from the file; leave out --keeper and --grid.")
    with Archive(file) as archive:
        run_async(verify_file(archive, pins, as_json=as_json))


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
    from gridllm.cli.ledger_checks import export_books
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.settings import load_settings

    pins = Pins(load_settings().data_dir)
    signed = _metered(pins, grid)
    path = out or Path(f"{signed.charter.name}-ledger.zip")
    if path.exists():
        raise UsageError(f"{path} exists already; remove it, or name another file with --out.")
    run_async(export_books(signed, pins, path, as_json=as_json))


@app.command()
def policy(grid: GridOption = None, as_json: JsonOption = False) -> None:
    """Show what service costs in this grid and what credit opens, as its charter says; works offline.

    Example: gridllm ledger policy
    """
    from gridllm.charter.pin import Pins
    from gridllm.cli.economy_view import economy_lines
    from gridllm.cli.show import facts_text, print_json, room, stdout
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
    stdout().print(facts_text(facts, room()))


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
