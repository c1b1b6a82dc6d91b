"""``gridllm join``: from one address to a pinned grid. Afterwards no command needs an address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.errors import AddressError, Unreachable
    from gridllm.ids import PeerId


def join(
    address: Annotated[str, typer.Argument(help="Multiaddr of any peer of the grid: /ip4/…/tcp/…/p2p/12D3Koo…")],
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, max=300.0, help="Seconds to wait for the peer.")
    ] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Join a grid: fetch its charter from a peer, verify it, show it and pin it.

    Example: gridllm join /ip4/203.0.113.7/tcp/31337/p2p/12D3KooWJoin…
    """
    from gridllm.charter.address import split_address
    from gridllm.charter.pin import Pins
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import charter_facts, charter_json, facts_text, print_json, stderr, stdout
    from gridllm.identity.keys import load_or_create
    from gridllm.settings import load_settings

    peer, dialled = split_address(address)
    settings = load_settings()
    mine = load_or_create(settings.identity_path)
    pins = Pins(settings.data_dir)
    with stderr().status(f"Asking {peer} for its grid's charter…"):
        signed = run_async(ask_for_charter(peer, dialled, timeout_s=timeout_s))
    new = pins.pin(signed)
    pins.remember_peers(signed, {peer: [dialled]})
    if as_json:
        print_json({"pinned": True, "new": new, "peer": mine.peer, **charter_json(signed)})
        return
    console = stdout()
    console.print(f"[bold green]{'Joined' if new else 'Joined already'}[/]")
    console.print(facts_text(charter_facts(signed) | {"Your peer id": mine.peer}))
    console.print(
        '\nNext: [bold]gridllm serve[/] to volunteer, or [bold]gridllm generate "Once upon a time"[/] to use it.'
    )


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


async def ask_for_charter(peer: PeerId, address: str, *, timeout_s: float) -> SignedCharter:
    """Dial one peer with a throw-away key, fetch its charter, verify it, hang up.

    Raises:
        AddressError, Unreachable: nobody, or somebody else, answers at the address.
        CharterError: the peer belongs to no grid, or its charter is forged.
    """
    from gridllm.charter.fetch import fetch_charter
    from gridllm.errors import CallTimeout, CharterError, Refusal, SwarmError, Unreachable
    from gridllm.identity.keys import Identity
    from gridllm.swarm.libp2p import open_swarm

    swarm = await open_swarm(Identity.ephemeral(), client_only=True)
    try:
        try:
            await swarm.connect(peer, (address,), timeout_s=timeout_s)
        except Unreachable as error:
            raise explained(peer, address, str(error)) from error
        try:
            return await fetch_charter(swarm, peer, timeout_s=timeout_s)
        except CallTimeout as error:
            raise CallTimeout(
                f"Peer {peer} took the call but sent no charter within {timeout_s:g} s; it may be overloaded: try "
                "again, or join through another peer."
            ) from error
        except (SwarmError, Refusal) as error:
            raise CharterError(
                f"Peer {peer} answers, but is not a member of a grid: it serves no charter ({error}) Ask for the "
                "address of a GridLLM peer."
            ) from error
    finally:
        await swarm.close()
