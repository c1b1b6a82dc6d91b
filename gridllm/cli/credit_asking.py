"""What ``gridllm credit`` asks keepers."""

from __future__ import annotations

from typing import Final

from gridllm.cli.history_view import Lines
from gridllm.cli.show import stderr
from gridllm.errors import KeeperSilent, LedgerError, Refusal, StatementError
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import AccountView
from gridllm.ledger.outbox import Outbox, Pending
from gridllm.quantities import count_credits

HISTORY_PAGE: Final = 100  # statements: fit a call, however long they are
MOST_PAGES: Final = 2000


async def standing(keepers: Keepers, account: str) -> tuple[AccountView, str]:
    """The account's sums and who told them: its home keeper, or while that is silent another.

    Raises:
        KeeperSilent: nobody answers.
    """

    home = keepers.home(account)
    try:
        return await keepers.account(account), home
    except KeeperSilent as silent:
        for other in keepers.all:
            if other != home:
                try:
                    return await keepers.account(account, keeper=other), other
                except KeeperSilent:
                    continue
        raise silent


async def gather_history(keepers: Keepers, account: str, since: int, limit: int) -> Lines:
    """At least ``limit`` lines, if there are as many since then. Raises KeeperSilent, LedgerError."""

    _, keeper = await standing(keepers, account)
    lines = Lines(account, keepers.signed.charter.economy.starter)
    before = None
    for _ in range(MOST_PAGES):
        rows = await keepers.history(account, since=since, before=before, limit=HISTORY_PAGE, keeper=keeper)
        try:
            for row in rows:
                lines.add(row)
        except StatementError as error:
            raise LedgerError(f"The keeper {keeper[:16]}… sent something that is not a statement: {error}") from error
        enough = len(lines.lines) > limit  # one more: what older statements tell of the last bill is then likely seen
        if enough or not rows or (before is not None and rows[-1].cursor >= before):
            break
        before = rows[-1].cursor
    return lines


async def warn_if_unknown(keepers: Keepers, account: str) -> None:
    """A remark on stderr where no book has the account: an id that was mistyped is somebody's, too, and nobody's."""

    try:
        view, _ = await standing(keepers, account)
    except KeeperSilent:
        return  # sending says so
    if not any((view.granted, view.earned, view.spent, view.received, view.sent, view.escrowed)):
        stderr().print(
            "That account is not in the ledger yet: it has neither earned, used nor received "
            "anything. If its id is mistyped, what you send is lost.",
            markup=False,
        )


async def deliver(keepers: Keepers, outbox: Outbox, payee: str, micro: int, memo: str) -> tuple[Pending, bool]:
    """Hand in a transfer, after those that were left without an answer; one of the same words is taken for this one.

    Returns:
        What was handed in, and whether it moves credit only now.

    Raises:
        KeeperSilent: what was signed is kept.
        Refusal: the home keeper declines.
    """

    same = None
    for left in outbox.pending():
        said = left.transfer
        if same is None and (said.payee, said.micro, said.memo) == (payee, micro, memo):
            same = left
            continue
        earlier = f"An earlier transfer of {count_credits(said.micro)} to {said.payee[:16]}…"
        try:
            await outbox.hand_in(keepers, left)
            stderr().print(f"{earlier}, whose answer never came, is done.", markup=False)
        except KeeperSilent:
            raise
        except Refusal as refusal:
            stderr().print(f"{earlier}, whose answer never came, was declined: {refusal}", markup=False)
    if same is not None:
        stderr().print("This transfer was signed earlier and never answered; sending it again.", markup=False)
    pending = same or outbox.write(payee, micro, memo)
    return pending, await outbox.hand_in(keepers, pending)
