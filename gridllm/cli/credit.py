"""``gridllm credit``: what an account has, what it did, and sending some of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gridllm.cli.amounts import AmountCommand

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.cli.credit_view import CreditView
    from gridllm.cli.history_view import Lines
    from gridllm.ledger.outbox import Outbox
    from gridllm.settings import Settings

GridOption = Annotated[str | None, typer.Option(help="Name of the grid; the default is the one joined last.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AccountOption = Annotated[
    str | None, typer.Option(metavar="PEER", help="Peer id or public key of the account; default: this machine's.")
]
IdentityOption = Annotated[Path | None, typer.Option(help="Key file; the default is in the data folder.")]

MAX_MEMO: Final = 140
MOST_LINES: Final = 10_000

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def credit(
    ctx: typer.Context,
    account: AccountOption = None,
    identity: IdentityOption = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show your credit: balance, earned, spent, in escrow, and what it opens.

    Example: gridllm credit
    """
    if ctx.invoked_subcommand is not None:
        return
    from gridllm.cli.credit_view import credit_facts, credit_json
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import facts_text, print_json, room, stdout

    settings, signed, pins = _opened(identity, grid)
    view = run_async(_look(signed, pins, account_of_whom(account, settings)))
    if as_json:
        print_json(credit_json(view))
    else:
        stdout().print(facts_text(credit_facts(view), room()))


@app.command()
def history(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only from then on: 7d, 12h, or a day like 2026-11-01 (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_LINES, help="Show at most this many lines, the newest.")] = 30,
    account: AccountOption = None,
    identity: IdentityOption = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what an account served, used, was granted, sent and received, newest first.

    A session's bills at one node are one line; an amount in brackets is set aside and not used yet.

    Example: gridllm credit history --since 7d
    """
    import time

    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.catalogue import Catalogue
    from gridllm.cli.history_view import history_json, history_table
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import print_json, print_whole, room, stdout

    settings, signed, pins = _opened(identity, grid)
    from_s = 0 if since is None else parse_since(since, time.time())
    lines = run_async(_gather(signed, pins, account_of_whom(account, settings), from_s, limit)).lines[:limit]
    names = Catalogue(signed, NoticeBoard(signed, pins.notices_path(signed))).names
    if as_json:
        print_json(history_json(lines, names))
    elif not lines:
        stdout().print("Nothing yet." if since is None else f"Nothing since {since}.", markup=False)
    else:
        print_whole(history_table(lines, names, room()))


@app.command(cls=AmountCommand)
def send(
    payee: Annotated[str, typer.Argument(metavar="PEER", help="Peer id or public key of the recipient.")],
    amount: Annotated[str, typer.Argument(metavar="CREDITS", help="Like 12 or 0.25.")],
    memo: Annotated[str, typer.Option(help="A short note; everybody can read it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    identity: IdentityOption = None,
    grid: GridOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send credit to another account. They can spend it; it is not a contribution of theirs, and lowers yours.

    If no answer comes, run the same command again: it pays only once. After an answer, it pays again.

    Example: gridllm credit send 12D3Koo… 2.5 --memo "for the weekend"
    """
    import sys

    from gridllm.cli.runtime import run_async
    from gridllm.errors import UsageError
    from gridllm.ledger.statements import account_named
    from gridllm.quantities import count_credits, parse_credits

    settings, signed, pins = _opened(identity, grid)
    to, micro, outbox = account_named(payee), parse_credits(amount), outbox_of(settings, signed, pins)
    if to == outbox.account:
        raise UsageError("That is your own account; name another one to send credit to.")
    if not 0 < micro < 2**62 or len(memo) > MAX_MEMO:
        raise UsageError(f"Send a positive amount, with a memo of up to {MAX_MEMO} characters.")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("This is not a terminal, so nobody can confirm the transfer; add --yes.")
        run_async(_warn(signed, pins, to))
        typer.confirm(f"Send {count_credits(micro)} to {to} in {signed.charter.name}?", abort=True, err=True)
    run_async(_send(signed, pins, outbox, to, micro, memo, warn=yes, as_json=as_json))


def account_of_whom(account: str | None, settings: Settings) -> str:
    """The account that was named, or this machine's. Raises UsageError, IdentityError."""
    from gridllm.identity.keys import load_or_create
    from gridllm.ledger.statements import account_named

    return account_named(account) if account is not None else load_or_create(settings.identity_path).public_key.hex()


def parse_since(text: str, now_s: float) -> int:
    """``7d``, ``12h`` or ``2026-11-01`` → Unix time.

    Raises:
        UsageError: neither a duration nor a day.
    """
    from datetime import UTC, datetime

    from gridllm.errors import UsageError
    from gridllm.quantities import parse_duration

    try:
        return max(0, int(datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()))
    except ValueError:
        pass
    try:
        return max(0, int(now_s - parse_duration(text)))
    except UsageError as error:
        raise UsageError(f"{text!r} is not a starting time; write it like 7d, 12h or 2026-11-01.") from error


def outbox_of(settings: Settings, signed: SignedCharter, pins: Pins) -> Outbox:
    """Where this machine's unanswered transfers are kept. Raises IdentityError."""
    from gridllm.identity.keys import load_or_create
    from gridllm.ledger.outbox import Outbox

    return Outbox(pins.notices_path(signed).parent / "outbox", signed, load_or_create(settings.identity_path))


def _opened(identity: Path | None, grid: str | None) -> tuple[Settings, SignedCharter, Pins]:
    from gridllm.charter.pin import Pins
    from gridllm.cli.keeper_link import check_metered
    from gridllm.settings import load_settings

    settings = load_settings(identity=identity)
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    check_metered(signed)
    return settings, signed, pins


async def _look(signed: SignedCharter, pins: Pins, account: str) -> CreditView:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.news import hear_news
    from gridllm.cli.credit_asking import standing
    from gridllm.cli.credit_view import CreditView
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.ledger.statements import peer_of_account

    board = NoticeBoard(signed, pins.notices_path(signed))
    async with asking_keepers(signed, pins) as keepers:
        await hear_news(keepers.swarm, board, pins.peers(signed))
        sums, said_by = await standing(keepers, account)
        return CreditView(signed, account, peer_of_account(account), keepers.home(account), said_by, sums, board)


async def _gather(signed: SignedCharter, pins: Pins, account: str, since: int, limit: int) -> Lines:
    from gridllm.cli.credit_asking import gather_history
    from gridllm.cli.keeper_link import asking_keepers

    async with asking_keepers(signed, pins) as keepers:
        return await gather_history(keepers, account, since, limit)


async def _warn(signed: SignedCharter, pins: Pins, payee: str) -> None:
    from gridllm.cli.credit_asking import warn_if_unknown
    from gridllm.cli.keeper_link import asking_keepers

    async with asking_keepers(signed, pins) as keepers:
        await warn_if_unknown(keepers, payee)


async def _send(
    signed: SignedCharter, pins: Pins, outbox: Outbox, payee: str, micro: int, memo: str, *, warn: bool, as_json: bool
) -> None:
    from gridllm.cli.credit_asking import deliver, standing, warn_if_unknown
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.cli.show import print_json, stdout
    from gridllm.quantities import count_credits

    async with asking_keepers(signed, pins) as keepers:
        if warn:
            await warn_if_unknown(keepers, payee)
        sent, moved = await deliver(keepers, outbox, payee, micro, memo)
        view, _ = await standing(keepers, outbox.account)
    balance = view.granted + view.earned + view.received - view.spent - view.sent
    if as_json:
        said = sent.transfer
        print_json(
            {
                "payee": said.payee,
                "amount": said.micro,
                "memo": said.memo,
                "serial": said.serial,
                "sent_before": not moved,
                "balance": balance,
            }
        )
        return
    before = "" if moved else " (by an earlier command; nothing was sent now)"
    stdout().print(f"Sent {count_credits(micro)} to {payee}{before}.", markup=False)
    stdout().print(f"The balance is {count_credits(balance)}.", markup=False)
