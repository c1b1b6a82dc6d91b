"""``gridllm leaderboard run``: its flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridllm_bootstrap.cli.common import AnnounceMaddrs, HomeOption, JsonOption, NameOption, grid_at, home_at

DEFAULT_HOST_MADDRS = ("/ip4/0.0.0.0/tcp/31338",)


def run(
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of submissions and grades: sqlite:////path/to/file, or "
            "postgresql+psycopg://user@host/database. Default: leaderboard.sqlite in the maintainer's folder.",
        ),
    ] = None,
    vault: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for weights. Default: in the maintainer's folder.")
    ] = None,
    list_above: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Models that may be served and have more weights are listed before they are graded, so that nodes "
            "serve them and graders grade them through the grid.",
        ),
    ] = "8GiB",
    name: NameOption = None,
    host_maddrs: Annotated[
        list[str] | None, typer.Option(help="Where to listen; may be repeated. Default: /ip4/0.0.0.0/tcp/31338")
    ] = None,
    announce_maddrs: AnnounceMaddrs = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the grid's leaderboard until Ctrl-C: take submissions, hold rounds, crown champions.

    It needs the maintainer's key, rules (gridllm leaderboard init), and the grid's books (gridllm bootstrap run).

    Example: gridllm leaderboard run
    """
    from gridllm.charter.board import NoticeBoard
    from gridllm.cli.runtime import run_async
    from gridllm.errors import LeaderboardError, UsageError
    from gridllm.identity.keys import hold, load
    from gridllm.quantities import parse_size
    from gridllm_bootstrap.measuring.office import find_maintainer
    from gridllm_leaderboard.desk.start import Office
    from gridllm_leaderboard.place import Place
    from gridllm_leaderboard.serve import serve_until_stopped
    from gridllm_leaderboard.wishes import tasks_at

    home = home_at(out)
    signed = grid_at(home, name)
    grid = signed.charter.name
    place = Place(home.folder(grid))
    rules = NoticeBoard(signed, home.pins.notices_path(signed)).rules
    if rules is None or not place.key.exists():
        raise LeaderboardError(
            f"The grid {grid!r} has no leaderboard yet; open one with: gridllm leaderboard init (where several "
            "maintainers sign, after the last one did)."
        )
    maintainer = find_maintainer(home.maintainer_key(grid), signed)
    if maintainer is None:
        raise UsageError(
            f"The leaderboard signs as a maintainer of {grid!r}, and this machine has no maintainer's key."
        )
    identity = load(place.key)
    office = Office(
        identity=identity,
        maintainer=maintainer,
        url=store or place.database_url,
        vault=vault.expanduser() if vault is not None else place.vault,
        drafts=home.folder(grid),
        tasks=tasks_at(place.tasks, rules),
        list_above=parse_size(list_above),
        reload=lambda newer: tasks_at(place.tasks, newer),
    )
    with hold(identity, otherwise="leave it running: a grid has only one leaderboard"):
        run_async(
            serve_until_stopped(
                office,
                signed,
                home.pins,
                tuple(host_maddrs or DEFAULT_HOST_MADDRS),
                tuple(announce_maddrs or ()),
                as_json=as_json,
            )
        )
