"""``gridllm bootstrap``: found a grid, keep its first peer running, show what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridllm.cli.amounts import AmountCommand
from gridllm.cli.flags import with_families
from gridllm_bootstrap.cli.common import (
    AnnounceMaddrs,
    HomeOption,
    HostMaddrs,
    JsonOption,
    NameOption,
    digest_progress,
    explained,
    grid_at,
    grid_facts,
    home_at,
    listening_for,
    print_grid,
)
from gridllm_bootstrap.cli.grant import grant
from gridllm_bootstrap.cli.notices import minimums, revoke, sign
from gridllm_bootstrap.cli.run import run
from gridllm_bootstrap.founding.economy_flags import EconomyWishes
from gridllm_bootstrap.founding.minimum_flags import MinimumFlags

if TYPE_CHECKING:
    from gridllm_bootstrap.founding.found import Founding, Rules
    from gridllm_bootstrap.home import Home

app = typer.Typer(
    help="Found a grid and keep its first peer and relay running (for maintainers).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.command()
@with_families
def init(
    *,
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
    open_grid: Annotated[bool, typer.Option("--open", help="Admit everybody: no machine is measured.")] = False,
    minimums: MinimumFlags,
    maintainer: Annotated[
        list[str] | None,
        typer.Option(help="Public key of another maintainer (gridllm bootstrap key); may be repeated."),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="How many maintainers must sign charter, certificates and notices. [a majority]")
    ] = None,
    first_peer: Annotated[
        list[str] | None, typer.Option(help="Multiaddr of another maintainer's first peer; may be repeated.")
    ] = None,
    economy: EconomyWishes,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Found a grid: write its maintainer's key, its first peer's key and its signed charter.

    Machines are measured before they may take part. The minimums follow from the model: a chain of the slowest
    machines admitted still computes 2 tokens a second, and any PC of the last ten years reaches them for the models it
    can be of use to. A --min-… flag replaces one: a value for the role serve, or relay=… or seed=…; 0 asks for nothing.

    Example: gridllm bootstrap init --name home --model demo --announce-maddrs /ip4/203.0.113.7/tcp/31337
    """
    from gridllm_bootstrap.founding.found import Council, check_new, found_grid
    from gridllm_bootstrap.founding.offer import ModelWish

    rules = _rules(open_grid, minimums, economy)
    home = home_at(out)
    check_new(home, name)
    with digest_progress() as progress:
        founding = found_grid(
            home,
            name,
            [ModelWish(source, revision, dtype) for source in model],
            listening=listening_for(home, name, host_maddrs, announce_maddrs),
            progress=progress,
            rules=rules,
            council=Council(tuple(maintainer or ()), threshold, tuple(first_peer or ())),
        )
    _show_founding(home, founding, as_json=as_json)


@app.command()
def key(
    name: Annotated[str, typer.Option(help="Name of the grid that is to be founded.")],
    host_maddrs: HostMaddrs = None,
    announce_maddrs: AnnounceMaddrs = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make (or show) this machine's keys for a grid that another maintainer founds.

    Example: gridllm bootstrap key --name club --announce-maddrs /ip4/203.0.113.8/tcp/31337
    """
    from gridllm.cli.show import facts_text, print_json, room, stdout
    from gridllm_bootstrap.founding.found import check_name, prepare_keys

    check_name(name)
    home = home_at(out)
    listening = listening_for(home, name, host_maddrs, announce_maddrs)
    if home.listens(name) and not home.prepared(name):
        listening = home.listening(name)  # founded already: its charter names the addresses
    maintainer, addresses = prepare_keys(home, name, listening)
    public = maintainer.public_key.hex()
    if as_json:
        print_json({"maintainer": public, "first_peers": addresses, "folder": str(home.folder(name))})
        return
    console = stdout()
    facts: dict[str, str | list[str]] = {
        "Maintainer": public,
        "First peer": addresses,
        "Folder": str(home.folder(name)),
    }
    console.print(facts_text(facts, room()))
    flags = " ".join((f"--maintainer {public}", *(f"--first-peer {address}" for address in addresses)))
    console.print("\nGive to whoever founds the grid, for gridllm bootstrap init:")
    console.print(f"  {flags}", markup=False)


app.command()(run)


@app.command()
def show(name: NameOption = None, out: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a grid founded here, its files, and the line to give to volunteers.

    Example: gridllm bootstrap show --json
    """
    from gridllm.cli.show import print_json

    home = home_at(out)
    signed = grid_at(home, name)
    if as_json:
        print_json(grid_facts(home, signed))
    else:
        print_grid("[bold]Founded here[/]", home, signed)


app.command()(sign)
app.command()(minimums)
app.command()(revoke)
app.command(cls=AmountCommand)(grant)


def _rules(open_grid: bool, minimums: MinimumFlags, economy: EconomyWishes) -> Rules:
    """Raises UsageError."""
    from gridllm.charter.minimums import DAY_S
    from gridllm.errors import UsageError
    from gridllm_bootstrap.founding.found import Rules

    changes, life_s = minimums.changes(), minimums.certificate_s()
    if open_grid and (changes or life_s is not None):
        raise UsageError("An open grid measures nobody: leave out --open, or the --min-… and --certificate-life flags.")
    return Rules(open_grid, DAY_S if life_s is None else life_s, changes, economy)


def _show_founding(home: Home, founding: Founding, *, as_json: bool) -> None:
    from gridllm.cli.show import charter_json, print_json, stdout
    from gridllm_bootstrap.cli.notice_view import print_draft

    if as_json:
        facts = charter_json(founding.paper.unsigned) if founding.signed is None else grid_facts(home, founding.signed)
        print_json({**facts, "file": None if founding.file is None else str(founding.file)})
        return
    if founding.signed is not None:
        reasons = explained(founding.signed.charter.admission, founding.defaults)
        print_grid("[bold green]Founded[/]", home, founding.signed, reasons)
        if founding.file is not None:
            stdout().print(
                f"Give to the other maintainers, who each run gridllm bootstrap sign on it:  {founding.file}"
            )
        return
    if founding.file is not None:
        print_draft(home, founding.file)
