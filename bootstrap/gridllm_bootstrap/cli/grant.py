"""``gridllm bootstrap grant``: new credit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm_bootstrap.cli.common import HomeOption, JsonOption, NameOption, grid_at, home_at

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm_bootstrap.home import Home
    from gridllm_bootstrap.paper import Paper


def grant(
    to: Annotated[str, typer.Argument(help="Peer id (gridllm id) or account of the recipient.")],
    credits_: Annotated[str, typer.Argument(metavar="CREDITS", help="How much, like 100 or 2.5.")],
    why: Annotated[str, typer.Option(help="The reason; everyone can read it.")],
    name: NameOption = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grant new credit to an account, for an audit, a bounty or a prize; a threshold of maintainers must sign.

    Example: gridllm bootstrap grant 12D3KooWJoin… 100 --why "found a double spend"
    """
    from gridllm.identity.keys import load
    from gridllm.ledger.paper import sign as signed_by
    from gridllm.quantities import parse_credits
    from gridllm_bootstrap.cli.notice_view import print_draft
    from gridllm_bootstrap.notices.grants import grant_of
    from gridllm_bootstrap.paper import paper_of, write_paper

    micro = parse_credits(credits_)
    home = home_at(out)
    signed = grid_at(home, name)
    granted = grant_of(signed, to, micro, why)
    paper = paper_of(signed_by(granted, load(home.maintainer_key(signed.charter.name))))
    # Kept before it is handed in: whatever happens then, `bootstrap sign` on the file hands in the same grant again.
    file = home.folder(signed.charter.name) / f"grant-{granted.serial[:16]}.json"
    write_paper(file, paper)
    if signed.charter.threshold == 1:
        book_grant(home, signed, paper, as_json=as_json, file=file)
    elif as_json:
        from gridllm.cli.show import print_json

        print_json({**granted.model_dump(mode="json"), "file": str(file), "keeper": None})
    else:
        print_draft(home, file)


def book_grant(home: Home, signed: SignedCharter, paper: Paper, *, as_json: bool, file: Path | None = None) -> None:
    """Hand a grant that has its signatures to a keeper.

    Raises:
        LedgerError, SwarmError: it was not taken.
    """
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, stdout
    from gridllm.cli.work import step
    from gridllm.errors import SwarmError
    from gridllm.ledger.statements import Grant, peer_of_account
    from gridllm.quantities import spell_credits
    from gridllm_bootstrap.notices.grants import book

    granted = paper.content
    if not isinstance(granted, Grant):
        raise TypeError("This document is not a grant.")
    try:
        with step("Sending it to a keeper"):
            keeper = run_async(book(signed, home.pins, paper.raw, granted.account))
    except SwarmError as error:
        again = "" if file is None else f" Send it later with: gridllm bootstrap sign {file}"
        raise SwarmError(f"{error}{again}") from error
    if file is not None:
        file.unlink(missing_ok=True)
    if as_json and file is not None:
        print_json({**granted.model_dump(mode="json"), "file": None, "keeper": keeper})
    elif not as_json:
        stdout().print(
            f"[bold green]Granted[/]: {spell_credits(granted.micro)} credits to {peer_of_account(granted.account)}, "
            f"in the books of {keeper[:16]}…"
        )
