"""The fee, paid once: whatever breaks in between, the same command finds out whether it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from gridllm.cli.credit_asking import deliver
from gridllm.disk import make_private_dir
from gridllm.errors import LeaderboardError, StatementError
from gridllm.identity.statement import read_unverified, type_of
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.outbox import Outbox
from gridllm.ledger.statements import TRANSFER_TYPE, Transfer
from gridllm_leaderboard.messages import SubmissionView
from gridllm_leaderboard.payments import memo_for

PAGE: Final = 100  # statements: fit a call, however long they are
EARLIER_S: Final = 86_400  # looked at before the submission was signed: clocks differ


async def pay_fee(keepers: Keepers, outbox: Outbox, view: SubmissionView) -> bool:
    """Send what is due, if it was not sent before; whether it moves credit only now.

    Raises:
        Insufficient: the balance does not cover it.
        Refusal: the home keeper declines for another reason.
        KeeperSilent: it does not answer; the same command goes on later, and pays once.
        LeaderboardError: another process pays now.
    """
    with _alone(outbox):
        if await _was_paid(keepers, outbox.account, view):
            return False
        _, moved = await deliver(keepers, outbox, view.pay_to, view.fee, memo_for(view.id))
        return moved


async def _was_paid(keepers: Keepers, account: str, view: SubmissionView) -> bool:
    """Whether the account's books have a transfer of this fee: down to the last page, for who gives up pays twice."""
    before, since = None, max(0, view.issued - EARLIER_S)
    while True:
        rows = await keepers.history(account, since=since, before=before, limit=PAGE)
        if any(_pays(row.statement, account, view) for row in rows):
            return True
        if not rows or (before is not None and rows[-1].cursor >= before):
            return False
        before = rows[-1].cursor


def _pays(raw: bytes, account: str, view: SubmissionView) -> bool:
    try:
        if type_of(raw) != TRANSFER_TYPE:
            return False
        said, _ = read_unverified(raw, Transfer, TRANSFER_TYPE)
    except StatementError:
        return False
    return (said.payer, said.payee, said.memo) == (account, view.pay_to, memo_for(view.id)) and said.micro >= view.fee


@contextlib.contextmanager
def _alone(outbox: Outbox) -> Iterator[None]:
    """Two processes that both found nothing paid would both pay."""
    try:
        make_private_dir(outbox.folder)
        handle = os.open(
            outbox.folder / f"{outbox.account[:16]}.fee.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise LeaderboardError(f"{outbox.folder} cannot be written ({error.strerror}); nothing was paid.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LeaderboardError("Another process of yours is paying a fee; run the command again.") from None
    finally:
        os.close(handle)
