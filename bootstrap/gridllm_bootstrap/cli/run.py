"""``gridllm bootstrap run``: its flags."""

from __future__ import annotations

from typing import Annotated

import typer

from gridllm_bootstrap.cli.common import (
    AnnounceMaddrs,
    HomeOption,
    HostMaddrs,
    JsonOption,
    NameOption,
    PaceName,
    PaceOption,
    grid_at,
    home_at,
)


def run(
    name: NameOption = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    authority: Annotated[
        bool, typer.Option(help="Measure and certify machines, if the maintainer's key is here.")
    ] = True,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="Machines measured at once; more disturb each other.")
    ] = 2,
    tries: Annotated[int, typer.Option(min=1, max=1000, help="How often one machine may be measured in an hour.")] = 6,
    pace: PaceOption = PaceName.FULL,
    keeper: Annotated[bool, typer.Option(help="Keep the grid's ledger, if a keeper's key is here.")] = True,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the ledger: sqlite:////path/to/file, or postgresql+psycopg://user@host/database. "
            "Default: ledger.sqlite in the maintainer's folder.",
        ),
    ] = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the grid's first peer and relay until Ctrl-C; it also measures machines and keeps the ledger.

    Example: gridllm bootstrap run
    """
    from gridllm.admission.examination.stages import BRIEF, FULL
    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.identity.keys import hold, load
    from gridllm_bootstrap.keeping.start import bookkeeping
    from gridllm_bootstrap.measuring.office import Office, find_maintainer
    from gridllm_bootstrap.serve import serve_until_stopped

    home = home_at(out)
    signed = grid_at(home, name)
    grid_name = signed.charter.name
    changes = {"host_maddrs": list(host_maddrs or ()), "announce_maddrs": list(announce_maddrs or ())}
    listening = home.listening(grid_name).model_copy(update={key: value for key, value in changes.items() if value})
    identity = load(home.peer_key(grid_name))
    maintainer = find_maintainer(home.maintainer_key(grid_name), signed) if authority or keeper else None
    office = books = None
    if maintainer is not None and authority:
        office = Office(maintainer, at_once, tries, BRIEF if pace is PaceName.BRIEF else FULL)
    if maintainer is not None and keeper:
        books = bookkeeping(signed, maintainer, ledger or home.ledger_url(grid_name))
    if ledger is not None and books is None:
        raise UsageError(
            "--ledger names a database, but no ledger is kept here: this machine has no keeper's key of this grid."
        )
    again = home.run_command(grid_name)
    with hold(identity, otherwise="leave it running: a grid's first peer runs only once"):
        run_async(
            serve_until_stopped(
                identity, signed, home.pins, listening, as_json=as_json, again=again, office=office, books=books
            )
        )
