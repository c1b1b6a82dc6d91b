"""What only keepers on line can be asked: do their sums agree with the statements, do their proofs hold?"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import fields
from typing import Final

from gridllm.errors import LedgerError, Refusal
from gridllm.ledger.audit.faults import Wrong, short
from gridllm.ledger.audit.logs import Log, Seen
from gridllm.ledger.audit.tally import Tally
from gridllm.ledger.fold import Account
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.proof import verify_consistency, verify_inclusion
from gridllm.ledger.messages import MAX_PAGE, AccountView
from gridllm.quantities import spell_credits

PROOFS: Final = 4  # entries of each log that each keeper must prove
SPARE_ACCOUNTS: Final = 10_000  # that may have come up since the entries were read
SUMS: Final = tuple(field.name for field in fields(Account))


async def check_proofs(keepers: Keepers, log: Log, seen: Seen, rng: random.Random) -> None:
    """Have the holder of a head prove some entries under it, and that the log began as it was read.

    Raises:
        Wrong: a proof does not hold.
    """
    size, root = seen.head.size, bytes.fromhex(seen.head.root)
    where = f"The keeper {short(seen.holder)} cannot prove what it holds of the log of {short(log.keeper)}"
    for index in rng.sample(range(size), min(PROOFS, size)):
        try:
            proof = await keepers.proof(seen.holder, log.keeper, size, index=index)
            verify_inclusion(root, size, index, log.tiles.node(0, index), proof)
        except (LedgerError, Refusal) as error:
            text = f"{where}: entry {index} of {size}: {error}"
            raise Wrong(text, keeper=seen.holder, log=log.keeper, index=index) from error
    if size > 1:
        first = rng.randrange(1, size)
        try:
            proof = await keepers.proof(seen.holder, log.keeper, size, first=first)
            verify_consistency(first, size, log.tiles.root(first), root, proof)
        except (LedgerError, Refusal) as error:
            text = f"{where}: that its first {first} entries begin those {size}: {error}"
            raise Wrong(text, keeper=seen.holder, log=log.keeper, index=first) from error


class Statements:
    """What one keeper says of every account, beside what follows from the entries."""

    def __init__(self, keepers: Keepers, keeper: str) -> None:
        self._keepers, self.keeper = keepers, keeper
        self._said: dict[str, AccountView] = {}
        self._least: dict[str, Account] = {}  # what followed from the entries before it was first asked
        self._open: set[str] = set()  # accounts that did not agree yet

    async def ask(self, tally: Tally) -> None:
        """Ask for all accounts; where that was done before, for those that did not agree."""
        if self._said:
            views = [await self._keepers.account(one, keeper=self.keeper) for one in sorted(self._open)]
        else:
            self._open = set(tally.accounts)
            views = [view async for view in self._pages(2 * len(tally.accounts) + SPARE_ACCOUNTS)]
        for view in views:
            self._said[view.account] = view
            self._open.add(view.account)
        for account in self._open:  # at first sight only: a keeper that copies a busy log is always a little behind
            if account not in self._least:
                self._least[account] = _copy(tally.sums(account))

    async def _pages(self, most: int) -> AsyncIterator[AccountView]:
        after = ""
        while True:
            page = await self._keepers.accounts(self.keeper, after)
            for view in page:
                if view.account <= after:
                    raise Wrong(f"The keeper {short(self.keeper)} lists its accounts out of order.", keeper=self.keeper)
                after, most = view.account, most - 1
                yield view
            if most < 0:
                raise Wrong(f"The keeper {short(self.keeper)} lists accounts without end.", keeper=self.keeper)
            if len(page) < MAX_PAGE:
                return

    def settle(self, tally: Tally) -> None:
        """Strike off who agrees. Sums only rise: so what was said must lie between what followed from the entries
        when the account was first asked for and what follows from them now, when more of them may have been read.
        """
        self._open = {one for one in self._open if not self._agrees(one, tally.sums(one))}

    def faults(self, tally: Tally) -> Iterable[Wrong]:
        """Accounts that do not agree."""
        for account in sorted(self._open):
            said, found = self._said.get(account), tally.sums(account)
            for name in SUMS:
                told, follows = getattr(said, name, 0), getattr(found, name)
                if told != follows:
                    yield Wrong(
                        f"The keeper {short(self.keeper)} says that the account {short(account)} has {name} "
                        f"{spell_credits(told)} credits; from the entries follow {spell_credits(follows)}.",
                        keeper=self.keeper,
                    )

    def _agrees(self, account: str, most: Account) -> bool:
        said, least = self._said.get(account), self._least[account]
        return all(getattr(least, name) <= getattr(said, name, 0) <= getattr(most, name) for name in SUMS)


def _copy(account: Account) -> Account:
    return Account(*(getattr(account, name) for name in SUMS))
