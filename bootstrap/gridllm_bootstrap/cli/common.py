"""What the commands of ``gridllm bootstrap`` share: options, the folder they mean, and how a grid is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.minimums import Admission
    from gridllm_bootstrap.founding.offer import Progress
    from gridllm_bootstrap.home import Home
    from gridllm_bootstrap.listen import Listening

HomeOption = Annotated[
    Path | None, typer.Option("--out", "--home", help="The maintainer's folder; the default is in the data folder.")
]
NameOption = Annotated[str | None, typer.Option(help="Which grid, if several were founded here.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HostMaddrs = Annotated[
    list[str] | None, typer.Option(help="Where to listen; may be repeated. Default: /ip4/0.0.0.0/tcp/31337")
]
AnnounceMaddrs = Annotated[
    list[str] | None,
    typer.Option(help="Address at which others reach it, if different (a forwarded port); may be repeated."),
]


class PaceName(StrEnum):
    """``gridllm.admission.examination.stages`` has the numbers."""

    FULL = "full"
    BRIEF = "brief"


PaceOption = Annotated[
    PaceName,
    typer.Option(
        help="How long a machine is measured: full takes 10 to 25 s; brief takes about 4 s, checks less and scatters "
        "more: for grids of acquaintances and for tests."
    ),
]


def home_at(out: Path | None) -> Home:
    """The maintainer's folder that a command works with."""
    from gridllm.settings import load_settings
    from gridllm_bootstrap.home import Home, default_root

    return Home(out.expanduser() if out is not None else default_root(load_settings()))


def grid_at(home: Home, name: str | None) -> SignedCharter:
    """The grid called ``name``, or the one founded last.

    Raises:
        UsageError: none was founded here, or none of that name.
    """
    from gridllm.errors import UsageError

    founded = {signed.charter.name: signed for signed in home.pins.all()}
    drafts = {path.parent.name: path for path in home.drafts()}
    if drafts and (name in drafts or (name is None and not founded)):
        file = drafts[name or next(iter(drafts))]
        raise UsageError(
            f"The charter of {file.parent.name!r} lacks signatures; give {file} to the other maintainers, then run: "
            f"gridllm bootstrap sign {file}"
        )
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


def listening_for(
    home: Home, name: str, host_maddrs: Sequence[str] | None, announce_maddrs: Sequence[str] | None
) -> Listening:
    """What was typed, or else what ``gridllm bootstrap key`` wrote down before, or else the default."""
    from gridllm_bootstrap.listen import DEFAULT_HOST_MADDRS, Listening

    known = home.listening(name) if home.prepared(name) and home.listens(name) else None
    before = known or Listening(host_maddrs=list(DEFAULT_HOST_MADDRS), announce_maddrs=[])
    return Listening(
        host_maddrs=list(host_maddrs or before.host_maddrs),
        announce_maddrs=list(announce_maddrs or before.announce_maddrs),
    )


def grid_facts(home: Home, signed: SignedCharter) -> dict[str, object]:
    """A grid founded here, for programs."""
    from gridllm.charter.board import NoticeBoard
    from gridllm.cli.show import charter_json

    name = signed.charter.name
    board = NoticeBoard(signed, home.pins.notices_path(signed))
    return {
        **charter_json(signed),
        "admission": board.admission.model_dump(mode="json"),
        "folder": str(home.folder(name)),
        "maintainer_key": str(home.maintainer_key(name)),
        "peer_key": str(home.peer_key(name)),
        "join": [f"gridllm join {address}" for address in signed.charter.first_peers],
    }


def print_grid(title: str, home: Home, signed: SignedCharter, explained: dict[str, list[str]] | None = None) -> None:
    """A grid founded here, for people."""
    from rich.markup import escape

    from gridllm.charter.board import NoticeBoard
    from gridllm.cli.show import charter_facts, facts_text, room, stdout

    name = signed.charter.name
    files = {
        "Files": [
            f"{home.folder(name) / 'charter.json'}  (public)",
            f"{home.maintainer_key(name)}  (secret: signs for the grid; keep a copy offline)",
            f"{home.peer_key(name)}  (secret: the first peer's identity)",
            f"{home.folder(name) / 'listen.json'}  (where the first peer listens)",
        ]
    }
    board = NoticeBoard(signed, home.pins.notices_path(signed))
    console = stdout()
    console.print(title)
    facts = charter_facts(signed, board.admission) | (explained or {}) | files
    console.print(facts_text(facts, room()))
    console.print(f"\nStart its first peer:  [bold]{escape(home.run_command(name))}[/]")
    console.print("Give to volunteers:")
    for address in signed.charter.first_peers:
        console.print(f"  gridllm join {address}", markup=False)


def explained(admission: Admission, defaults: Admission) -> dict[str, list[str]]:
    """Each minimum on a line of its own: what it is, and why it has this value."""
    from gridllm.cli.minimums_view import admission_lines
    from gridllm_bootstrap.founding.defaults import why
    from gridllm_bootstrap.notices.minimums import rows

    lines = {"Admission": admission_lines(admission)[:1]}
    if not admission.required:
        return lines
    for row in rows(admission):
        _, figure, value, what = row.cells
        usual = getattr(defaults.of(row.role), row.name) == row.value
        reason = why(row.role, row.name) if usual else "as you asked"
        lines.setdefault(f"To {row.role}", []).append(f"{figure} {value}: {what}" + (f" ({reason})" if reason else ""))
    return lines


@contextmanager
def digest_progress() -> Iterator[Progress]:
    """What is read of the models, which takes a second for each GB or two."""
    from gridllm.cli.work import work

    with work("bytes") as shown:
        shown.tell("Looking at the model")
        yield lambda name, done, total: shown.tell(f"Reading {name}", done, total)
