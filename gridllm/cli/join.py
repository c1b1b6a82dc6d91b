"""``gridllm join``: from one address to a pinned grid. Afterwards no command needs an address."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.minimums import Role
    from gridllm.errors import AddressError, Unreachable
    from gridllm.ids import PeerId


def join(
    address: Annotated[str, typer.Argument(help="Multiaddr of any peer of the grid: /ip4/…/tcp/…/p2p/12D3Koo…")],
    no_admission: Annotated[
        bool, typer.Option("--no-admission", help="Do not measure this machine; generating needs no certificate.")
    ] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="serve, relay or seed; may be repeated. Default: all it qualifies for.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to be measured for; the default is the grid's first.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: the charter's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: the best available.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to compute with.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory for weights and caches, like 4GiB; default: what is free.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option("--wait", min=1.0, help="Seconds to wait for a certificate, also while authorities are down."),
    ] = 600.0,
    identity: Annotated[Path | None, typer.Option(help="Key file of the node to be admitted.")] = None,
    host_maddrs: Annotated[list[str] | None, typer.Option(help="Where to listen; may be repeated.")] = None,
    announce_maddrs: Annotated[
        list[str] | None, typer.Option(help="Address at which others reach it, if different (a forwarded port).")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, max=300.0, help="Seconds to wait for the peer.")
    ] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Join a grid: fetch its charter from a peer and, if the grid has minimums, have this machine measured.

    The charter is verified, shown and pinned. A machine that is admitted gets a certificate to serve with; Ctrl-C puts
    that off. Exits with 1 if this machine is not admitted; the grid is joined all the same.

    Example: gridllm join /ip4/203.0.113.7/tcp/31337/p2p/12D3KooWJoin…
    """
    from gridllm.charter.address import check_places, split_address
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import charter_facts, charter_json, facts_text, print_json, room, stdout
    from gridllm.cli.work import step
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings

    peer, dialled = split_address(address)
    settings = load_settings(
        identity=identity,
        threads=threads,
        device=device,
        dtype=dtype,
        host_maddrs=tuple(host_maddrs) if host_maddrs else None,
        announce_maddrs=tuple(announce_maddrs) if announce_maddrs else None,
    )
    check_places(settings.host_maddrs, settings.announce_maddrs)
    roles = _roles(role)
    mine = load_or_create(settings.identity_path)
    pins = Pins(settings.data_dir)
    with step(f"Asking {peer} for its grid's charter"):
        signed, notices = run_async(ask_for_charter(peer, dialled, timeout_s=timeout_s))
    new = pins.pin(signed)
    pins.remember_peers(signed, {peer: [dialled]})
    board = NoticeBoard(signed, pins.notices_path(signed))
    for notice in notices:
        board.add(notice)
    measures = board.admission.required and not no_admission
    facts = {"pinned": True, "new": new, "peer": mine.peer, **charter_json(signed)}
    if not as_json:
        stdout().print(f"[bold green]{'Joined' if new else 'Joined already'}[/]")
        stdout().print(facts_text(charter_facts(signed, board.admission) | {"Your peer id": mine.peer}, room()))
    elif not measures:
        print_json(facts)
    volunteer = "[bold]gridllm serve[/]"
    if measures:
        from gridllm.cli.candidate import seek_certificate

        outcome = seek_certificate(
            mine, signed, board, pins, settings, model=model, memory=memory, roles=roles, wait_s=wait_s
        )
        if as_json:
            print_json(facts | {"admission_outcome": outcome.json()})
            raise typer.Exit(outcome.exit_code)
        outcome.show(board.admission)
        volunteer = outcome.next_step
    if not as_json:
        stdout().print(f'\nNext: {volunteer} to volunteer, or [bold]gridllm generate "Once upon a time"[/] to use it.')


def _roles(names: list[str] | None) -> tuple[Role, ...] | None:
    """The roles asked for; None: all that are reached.

    Raises:
        UsageError: there is no such role.
    """
    from gridllm.charter.minimums import ROLES
    from gridllm.errors import UsageError

    for name in names or ():
        if name not in ROLES:
            raise UsageError(f"There is no role {name!r}; --role takes {', '.join(ROLES)}.")
    return tuple(role for role in ROLES if role in names) if names else None


def explained(peer: PeerId, address: str, reason: str) -> AddressError | Unreachable:
    """libp2p's reason for a failed dial → what it means for the address that was typed."""
    from gridllm.errors import AddressError, Unreachable

    other = re.search(r"remote key matches (\w+)", reason)
    if other:
        return AddressError(
            f"At {address} answers {other[1]}, and not {peer} as the address says; the grid's first peer may have a "
            "new key: ask for the address again."
        )
    why = reason.rstrip(".").splitlines()[-1].rsplit(": ", 1)[-1].strip()
    return Unreachable(
        f"Nobody answers at {address} ({why}); check that the peer is running and that its port is open, or join "
        "through another peer of the grid."
    )


async def ask_for_charter(peer: PeerId, address: str, *, timeout_s: float) -> tuple[SignedCharter, list[bytes]]:
    """Dial one peer with a throw-away key, fetch its charter and the maintainers' notices, verify them, hang up.

    Raises:
        AddressError, Unreachable: nobody, or somebody else, answers at the address.
        CharterError: the peer belongs to no grid, or its charter is forged.
    """
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.fetch import fetch_charter
    from gridllm.charter.gossip import fetch_notices
    from gridllm.errors import CallTimeout, CharterError, GridError, Refusal, SwarmError, Unreachable
    from gridllm.identity.keys import Identity
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(Identity.ephemeral(), client_only=True)
    try:
        try:
            await swarm.connect(peer, (address,), timeout_s=timeout_s)
        except Unreachable as error:
            raise explained(peer, address, str(error)) from error
        try:
            signed = await fetch_charter(swarm, peer, timeout_s=timeout_s)
        except CallTimeout as error:
            raise CallTimeout(
                f"Peer {peer} took the call but sent no charter within {timeout_s:g} s; it may be overloaded; "
                "try again, or join through another peer."
            ) from error
        except (SwarmError, Refusal) as error:
            raise CharterError(
                f"Peer {peer} answers, but is not a member of a grid: it serves no charter ({error}) Ask for the "
                "address of a GridLLM peer."
            ) from error
        board = NoticeBoard(signed)
        with contextlib.suppress(GridError):  # they come by gossip, too, once this machine takes part
            await fetch_notices(swarm, peer, board, timeout_s=timeout_s)
        return signed, board.raws()
    finally:
        await swarm.close()
