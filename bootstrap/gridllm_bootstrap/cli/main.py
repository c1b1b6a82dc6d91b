"""``gridllm bootstrap``: found a grid, keep its first peer running, show what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridllm.cli.amounts import AmountCommand
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
from gridllm_bootstrap.founding.economy_flags import (
    Allowance,
    DecodePrice,
    EconomyWishes,
    EscrowLife,
    KeeperKey,
    Ledger,
    Newcomers,
    PassLife,
    PrefillPrice,
    PriorityClass,
    Starter,
    Submit,
    TierFlag,
    Trust,
    Window,
)
from gridllm_bootstrap.founding.minimum_flags import (
    CertificateLife,
    MinBatch,
    MinDecode,
    MinDisk,
    MinDownload,
    MinMemory,
    MinPrefill,
    MinReachable,
    MinUpload,
    MinVersion,
)

if TYPE_CHECKING:
    from gridllm_bootstrap.founding.found import Founding, Rules
    from gridllm_bootstrap.founding.minimum_flags import Changes
    from gridllm_bootstrap.home import Home

app = typer.Typer(
    help="Found a grid and keep its first peer and relay running (for maintainers).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


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
    open_grid: Annotated[bool, typer.Option("--open", help="Admit everybody: no machine is measured.")] = False,
    min_decode: MinDecode = None,
    min_batch: MinBatch = None,
    min_prefill: MinPrefill = None,
    min_memory: MinMemory = None,
    min_disk: MinDisk = None,
    min_upload: MinUpload = None,
    min_download: MinDownload = None,
    min_reachable: MinReachable = None,
    min_version: MinVersion = None,
    certificate_life: CertificateLife = None,
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
    ledger: Ledger = None,
    decode_price: DecodePrice = None,
    prefill_price: PrefillPrice = None,
    starter: Starter = None,
    newcomers: Newcomers = None,
    allowance: Allowance = None,
    trust: Trust = None,
    priority_class: PriorityClass = None,
    tier: TierFlag = None,
    submit: Submit = None,
    window: Window = None,
    pass_life: PassLife = None,
    escrow_life: EscrowLife = None,
    keeper: KeeperKey = None,
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
    from gridllm_bootstrap.founding.minimum_flags import collect
    from gridllm_bootstrap.founding.offer import ModelWish

    rules = _rules(
        open_grid,
        certificate_life,
        collect(
            decode_blocks_per_s=min_decode,
            batch_blocks_per_s=min_batch,
            prefill_blocks_per_s=min_prefill,
            memory_bytes=min_memory,
            disk_bytes=min_disk,
            upload_mbit_s=min_upload,
            download_mbit_s=min_download,
            reachable=min_reachable,
            version=min_version,
        ),
        EconomyWishes(
            ledger=ledger,
            decode_price=decode_price,
            prefill_price=prefill_price,
            starter=starter,
            newcomers=newcomers,
            allowance=allowance,
            trust=trust,
            classes=tuple(priority_class or ()),
            tiers=tuple(tier or ()),
            submit=submit,
            window=window,
            pass_life=pass_life,
            escrow_life=escrow_life,
            keepers=tuple(keeper or ()),
        ),
    )
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


def _rules(open_grid: bool, certificate_life: str | None, changes: Changes, economy: EconomyWishes) -> Rules:
    """Raises UsageError."""
    from gridllm.charter.minimums import DAY_S
    from gridllm.errors import UsageError
    from gridllm_bootstrap.founding.found import Rules
    from gridllm_bootstrap.founding.minimum_flags import parse_life

    if open_grid and (changes or certificate_life is not None):
        raise UsageError("An open grid measures nobody: leave out --open, or the --min-… and --certificate-life flags.")
    life_s = DAY_S if certificate_life is None else parse_life(certificate_life)
    return Rules(open_grid, life_s, changes, economy)


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
