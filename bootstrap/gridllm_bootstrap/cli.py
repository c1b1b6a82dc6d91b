"""``gridllm bootstrap``: found a grid, keep its first peer running, show what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm_bootstrap.found import Home, Progress

app = typer.Typer(
    help="Found a grid and keep its first peer and relay running (for maintainers).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

HomeOption = Annotated[
    Path | None, typer.Option("--out", "--home", help="The maintainer's folder; the default is in the data folder.")
]
NameOption = Annotated[str | None, typer.Option(help="Which grid, when several were founded here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HostMaddrs = Annotated[
    list[str] | None, typer.Option(help="Where to listen; may be repeated. Default: /ip4/0.0.0.0/tcp/31337")
]
AnnounceMaddrs = Annotated[
    list[str] | None, typer.Option(help="Address others reach it at, if another (a forwarded port); may be repeated.")
]


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The grid's name.")],
    model: Annotated[
        list[str], typer.Option(help="Hub id, model folder, or 'demo'; may be repeated, the first is the default.")
    ],
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit of the model.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 on every node. Default: as the model is stored.")
    ] = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Found a grid: write its maintainer's key, its first peer's key and its signed charter.

    Example: gridllm bootstrap init --name home --model demo --announce-maddrs /ip4/203.0.113.7/tcp/31337
    """
    from gridllm.cli.show import print_json
    from gridllm_bootstrap.found import ModelWish, found_grid
    from gridllm_bootstrap.listen import DEFAULT_HOST_MADDRS

    home = _home(out)
    wishes = [ModelWish(source, revision, dtype) for source in model]
    with _digest_progress() as progress:
        signed = found_grid(
            home,
            name,
            wishes,
            host_maddrs=list(host_maddrs or DEFAULT_HOST_MADDRS),
            announce_maddrs=list(announce_maddrs or ()),
            progress=progress,
        )
    if as_json:
        print_json(_facts(home, signed))
        return
    _print_grid("[bold green]Founded[/]", home, signed)


@app.command()
def run(
    name: NameOption = None,
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the grid's first peer and relay, which hands out the charter, until Ctrl-C.

    Example: gridllm bootstrap run
    """
    from gridllm.cli.runtime import run_async
    from gridllm.identity.keys import hold, load
    from gridllm_bootstrap.serve import serve_until_stopped

    home = _home(out)
    signed = _grid(home, name)
    grid_name = signed.charter.name
    changes = {"host_maddrs": list(host_maddrs or ()), "announce_maddrs": list(announce_maddrs or ())}
    listening = home.listening(grid_name).model_copy(update={key: value for key, value in changes.items() if value})
    identity = load(home.peer_key(grid_name))
    with hold(identity):
        run_async(serve_until_stopped(identity, signed, home.pins, listening, as_json=as_json))


@app.command()
def show(name: NameOption = None, out: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a grid founded here, its files, and the line to give to volunteers.

    Example: gridllm bootstrap show --json
    """
    from gridllm.cli.show import print_json

    home = _home(out)
    signed = _grid(home, name)
    if as_json:
        print_json(_facts(home, signed))
    else:
        _print_grid("[bold]Founded here[/]", home, signed)


def _home(out: Path | None) -> Home:
    from gridllm.settings import load_settings
    from gridllm_bootstrap.found import Home

    return Home(out.expanduser() if out is not None else load_settings().data_dir / "bootstrap")


def _grid(home: Home, name: str | None) -> SignedCharter:
    """The grid called ``name``, or the one founded last.

    Raises:
        UsageError: none was founded here, or none of that name.
    """
    from gridllm.errors import UsageError

    founded = {signed.charter.name: signed for signed in home.pins.all()}
    if not founded:
        raise UsageError(
            f"No grid was founded in {home.root} yet; run: gridllm bootstrap init --name home --model demo — or name "
            "the folder with --home."
        )
    if name is None:
        return home.pins.current()
    if name not in founded:
        raise UsageError(f"No grid called {name!r} was founded in {home.root}; there are: {', '.join(founded)}.")
    return founded[name]


def _facts(home: Home, signed: SignedCharter) -> dict[str, object]:
    from gridllm.cli.show import charter_json

    name = signed.charter.name
    return {
        **charter_json(signed),
        "folder": str(home.folder(name)),
        "maintainer_key": str(home.maintainer_key(name)),
        "peer_key": str(home.peer_key(name)),
        "join": [f"gridllm join {address}" for address in signed.charter.first_peers],
    }


def _print_grid(title: str, home: Home, signed: SignedCharter) -> None:
    from gridllm.cli.show import charter_facts, facts_text, stdout

    name = signed.charter.name
    files = {
        "Files": [
            f"{home.folder(name) / 'charter.json'}  (public)",
            f"{home.maintainer_key(name)}  (secret: signs for the grid; keep a copy offline)",
            f"{home.peer_key(name)}  (secret: the first peer's identity)",
            f"{home.folder(name) / 'listen.json'}  (where the first peer listens)",
        ]
    }
    console = stdout()
    console.print(title)
    console.print(facts_text(charter_facts(signed) | files))
    console.print("\nStart its first peer:  [bold]gridllm bootstrap run[/]")
    console.print("Give to volunteers:")
    for address in signed.charter.first_peers:
        console.print(f"  gridllm join {address}", markup=False)


@contextmanager
def _digest_progress() -> Iterator[Progress]:
    """A progress bar on stderr for digesting models, which takes a second for each GB or two."""
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from gridllm.cli.show import stderr

    columns = (TextColumn("Digesting {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total)
        bar.update(tasks[name], completed=done)

    with Bar(*columns, console=stderr(), transient=True) as bar:
        yield advance
