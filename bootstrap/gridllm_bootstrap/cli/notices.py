"""``gridllm bootstrap sign``, ``minimums`` and ``revoke``: what maintainers say about a grid that is founded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridllm.cli.flags import with_families
from gridllm_bootstrap.cli.common import HomeOption, JsonOption, NameOption, grid_at, home_at, print_grid
from gridllm_bootstrap.founding.minimum_flags import MinimumFlags

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.identity.keys import Identity
    from gridllm_bootstrap.home import Home


def sign(
    file: Annotated[Path, typer.Argument(help="File that init, minimums, revoke or grant wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add this machine's signature to a charter or notice; with enough of them it takes effect.

    A complete charter is installed here, ready for gridllm bootstrap run; pass the file on so that the other
    maintainers can install it, too. A complete notice is posted to the grid.

    Example: gridllm bootstrap sign founding.json
    """
    from gridllm.cli.show import print_json, stderr
    from gridllm.cli.work import step
    from gridllm.ledger.statements import Grant
    from gridllm_bootstrap.cli.grant import book_grant
    from gridllm_bootstrap.cli.notice_view import print_case, print_missing, print_told
    from gridllm_bootstrap.notices.cosign import keep, look
    from gridllm_bootstrap.notices.cosign import sign as add_signature

    home = home_at(out)
    before = look(home, file)
    console = stderr()
    if not as_json:
        print_case(before)
    if sys.stdin.isatty() and not yes:
        typer.confirm("Sign this?", abort=True)
    case = add_signature(home, before)
    installed = keep(home, case, file)
    told = None
    granted = case.signed is not None and isinstance(case.paper.content, Grant)
    if case.signed is not None and not case.missing and isinstance(case.paper.content, Grant):
        book_grant(home, case.signed, case.paper, as_json=as_json)
    elif case.signed is not None and not case.missing:
        with step("Telling the grid"):
            told = _post(home, case.signed, lambda _: case.paper.raw)
    if as_json:
        print_json({"signed_by": list(case.signers), "missing": case.missing, "file": str(file), "told": told})
    elif installed is not None:
        print_grid("[bold green]Signed and founded[/]", home, installed)
        console.print(f"Hand {file} on: the other maintainers install it with the same command.", markup=False)
    elif told is not None:
        print_told(told)
    elif case.missing or not granted:
        print_missing(case, file)


@with_families
def minimums(
    *,
    flags: MinimumFlags,
    required: Annotated[
        bool | None, typer.Option("--required/--open", help="Whether machines must be measured at all.")
    ] = None,
    name: NameOption = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the minimums in force; with flags, change them by a signed amendment sent to the grid.

    A flag takes a value for the role serve, or relay=… or seed=…; 0 asks for nothing. Certificates already issued stay
    valid until they expire.

    Example: gridllm bootstrap minimums --min-memory 2GiB --min-upload relay=20
    """
    from gridllm.charter.board import NoticeBoard
    from gridllm_bootstrap.cli.notice_view import print_minimums
    from gridllm_bootstrap.notices.minimums import Change, amendment

    home = home_at(out)
    signed = grid_at(home, name)
    change = Change(flags.changes(), flags.certificate_s(), required)
    if not change:
        print_minimums(signed, NoticeBoard(signed, home.pins.notices_path(signed)), as_json=as_json)
        return
    say(
        home,
        signed,
        "amendment",
        lambda board, maintainer: amendment(signed, board, change, maintainer),
        as_json=as_json,
    )
    if not as_json and signed.charter.threshold == 1:
        from gridllm.cli.runtime import run_async
        from gridllm.cli.show import stdout
        from gridllm_bootstrap.notices.reach import ask_who_falls_short

        print_minimums(signed, NoticeBoard(signed, home.pins.notices_path(signed)), as_json=False)
        if told := run_async(ask_who_falls_short(signed, home.pins)):
            stdout().print(told, markup=False)


def revoke(
    peer: Annotated[str, typer.Argument(help="Peer id of the node: 12D3Koo…")],
    why: Annotated[str, typer.Option(help="The reason; everyone in the grid can read it.")],
    for_time: Annotated[
        str,
        typer.Option(
            "--for", metavar="DURATION", help="How long it gets no new certificate; 0: it may get one at once."
        ),
    ] = "7d",
    name: NameOption = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a node's admission: clients and nodes leave it within a minute. A later one replaces it.

    Example: gridllm bootstrap revoke 12D3KooWJoin… --why "answers with made-up tokens" --for 7d
    """
    from gridllm.quantities import parse_duration
    from gridllm_bootstrap.notices.revoke import check_wish, revocation

    revoked = check_wish(peer, why, for_s := parse_duration(for_time))
    home = home_at(out)
    signed = grid_at(home, name)
    say(
        home,
        signed,
        "revocation",
        lambda board, maintainer: revocation(signed, board, revoked, why, for_s, maintainer),
        as_json=as_json,
    )


def say(
    home: Home,
    signed: SignedCharter,
    kind: str,
    make: Callable[[NoticeBoard, Identity], bytes],
    *,
    as_json: bool,
) -> None:
    """Make a notice; post it, or put it down for the other maintainers' signatures.

    Raises:
        IdentityError: the maintainer's key cannot be used.
        NoticeError: it cannot be kept.
    """
    from gridllm.cli.show import print_json
    from gridllm.cli.work import step
    from gridllm.identity.keys import load
    from gridllm_bootstrap.cli.notice_view import print_draft, print_told
    from gridllm_bootstrap.paper import Paper, paper_of, write_paper

    maintainer = load(home.maintainer_key(signed.charter.name))
    alone = signed.charter.threshold == 1
    made: list[Paper] = []

    def compose(board: NoticeBoard) -> bytes | None:
        made.append(paper_of(make(board, maintainer)))
        return made[0].raw if alone else None

    with step("Telling the grid" if alone else "Asking the grid for earlier notices"):
        told = _post(home, signed, compose)
    file = None
    if not alone:
        file = home.folder(signed.charter.name) / f"{kind}-{made[0].content_digest[:16]}.json"
        write_paper(file, made[0])
    if as_json:
        notice = made[0].content.model_dump(mode="json")
        print_json({**notice, "told": told, "file": None if file is None else str(file)})
    elif file is not None:
        print_draft(home, file)
    else:
        print_told(told)


def _post(home: Home, signed: SignedCharter, make: Callable[[NoticeBoard], bytes | None]) -> int:
    from gridllm.cli.runtime import run_async
    from gridllm_bootstrap.notices.posting import post

    return run_async(post(signed, home.pins, make))
