"""One audit from beginning to end. It keeps nothing on disk and needs nobody's books but the logs.

1. See the heads that all keepers show, of their own logs and of those they copy.
2. Read each log up to its newest head: each entry's signatures, price and right to stand there; the entries' root must
   be what the head says.
3. Compare all heads: one keeper's word to different people must fit one history.
4. Fold: balances add up to what was granted, nobody is below zero, nobody was paid without being admitted.
5. Ask keepers on line: for proofs of some entries, and what they say of every account.

A grid goes on while it is read. What does not fit at first, for a log was read a moment before another, is looked at
again with what came since.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gridllm.charter.document import SignedCharter
from gridllm.errors import LedgerError, SwarmError
from gridllm.ledger.audit.asking import Statements, check_proofs
from gridllm.ledger.audit.faults import Wrong, short
from gridllm.ledger.audit.following import Follower
from gridllm.ledger.audit.logs import Learn, Log, Progress, Source
from gridllm.ledger.audit.tally import Tally
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.messages import Heads
from gridllm.ledger.paper import Rulebook
from gridllm.ledger.readers import Readers

ROUNDS: Final = 8
PAUSE_S: Final = 1.5  # between rounds: time for keepers to hear of each other's entries and to sign heads


@dataclass
class Report:
    """What was found, as far as the audit came."""

    logs: dict[str, Log] = field(default_factory=dict)  # by keeper
    silent: dict[str, str] = field(default_factory=dict)  # keepers that did not answer: why
    tally: Tally | None = None
    asked: list[str] = field(default_factory=list)  # keepers whose word on all accounts agrees with the entries


class Audit:
    """See the module. ``report`` tells how far it came, also when it ends with ``Wrong``."""

    def __init__(
        self,
        source: Source,
        signed: SignedCharter,
        blocks: Mapping[str, Sequence[int]],
        *,
        holders: Sequence[str] | None = None,
        known: Mapping[str, bytes] | None = None,
        progress: Progress = lambda done, total: None,
        workers: int | None = None,
        admitted: bool | None = None,
        learn: Learn | None = None,
    ) -> None:
        """
        Args:
            source: ``Keepers``, or an exported file.
            blocks: by model root, the parameters of each block (``models.sizes.block_parameters``).
            holders: keepers (hex keys) to read from; None: all.
            known: heads seen before, by keeper: the logs must continue them.
            workers: processes to check entries with; None: as many as are worth it.
            admitted: see ``Tally``.
            learn: see ``Follower``.
        """
        self._source, self._signed, self._blocks = source, signed, blocks
        self._keepers = source if isinstance(source, Keepers) else None
        self._holders = list(signed.charter.keepers if holders is None else holders)
        self._known, self._workers = known or {}, workers
        self.tally = Tally(signed, admitted=admitted)
        prove = None if self._keepers is None else self._keepers.proof
        self._follower = Follower(source, signed, self.tally.take, prove=prove, progress=progress, learn=learn)
        self.report = Report(self._follower.logs, self._follower.silent, self.tally)

    async def run(self) -> Report:
        """The whole audit.

        Raises:
            Wrong: the first thing that is not as it should be. Keepers are told, where it is one of them that lied.
            LedgerError: no keeper answers, or a log is to be had from nobody.
        """
        try:
            return await self._run()
        except Wrong as wrong:
            if wrong.evidence:
                await self._hand_on(wrong.evidence)
            raise

    async def _run(self) -> Report:
        await self._look()
        rules = Rulebook(self._signed, self._blocks)
        with Readers(rules, entries=self._follower.ahead, workers=self._workers) as readers:
            await self._follow(readers)
            said = await self._ask()
            for round_ in range(ROUNDS):
                faults = list(chain(self.tally.faults(), *(one.faults(self.tally) for one in said)))
                if not faults:
                    break
                if self._keepers is None:
                    raise _of_a_file(faults[0])
                if round_ == ROUNDS - 1:
                    raise faults[0]
                await asyncio.sleep(PAUSE_S)
                await self._look()
                await self._follow(readers)
                await self._settle(said)
        self.report.asked = [one.keeper for one in said]
        return self.report

    async def _look(self) -> None:
        await self._follower.look(self._holders)
        self.report.silent = self._follower.silent
        if len(self._follower.silent) == len(self._holders):
            raise LedgerError(next(iter(self._follower.silent.values())))
        shown = {one.head.keeper for one in self._follower.seen}
        for keeper, log in self._follower.logs.items():
            if keeper in shown or log.entries:
                continue
            if keeper in self._holders and keeper not in self._follower.silent:
                raise Wrong(f"The keeper {short(keeper)} shows no head of its own log.", keeper=keeper, log=keeper)
            raise LedgerError(
                f"The log of {short(keeper)} is to be had from nobody: its keeper was not asked or is silent, and no "
                "other shows a copy. Without it balances cannot be known; try again when it is on line."
            )

    async def _hand_on(self, evidence: bytes) -> None:
        """Have the keepers know it: they pass it on, and take nothing more from whom it convicts."""
        if self._keepers is None:
            return
        asked = [one for one in self._holders if one not in self._follower.silent]
        await asyncio.gather(
            *(self._keepers.heads(one, Heads([], [evidence])) for one in asked), return_exceptions=True
        )

    async def _follow(self, readers: Readers) -> None:
        await self._follower.follow(readers)
        self._follower.compare(self._known)

    async def _ask(self) -> list[Statements]:
        if self._keepers is None:
            return []
        rng = random.SystemRandom()
        for one in self._follower.seen:
            await check_proofs(self._keepers, self._follower.logs[one.head.keeper], one, rng)
        said = [Statements(self._keepers, one) for one in self._holders if one not in self._follower.silent]
        await self._settle(said)
        return said

    async def _settle(self, said: list[Statements]) -> None:
        for one in list(said):
            try:
                one.settle(self.tally)
                await one.ask(self.tally)
                one.settle(self.tally)
            except SwarmError as error:  # what it said before cannot be cleared up
                self.report.silent[one.keeper] = str(error)
                said.remove(one)


def _of_a_file(fault: Wrong) -> Wrong:
    """Nothing more can be read than was written, maybe one log a moment before another."""
    text = f"{fault} If the keepers were busy when the file was written, export it again before anyone is blamed."
    return Wrong(text, keeper=fault.keeper, log=fault.log, index=fault.index, evidence=fault.evidence)


async def audit(source: Source, signed: SignedCharter, blocks: Mapping[str, Sequence[int]]) -> Report:
    """An audit of all there is, with nothing to watch. Raises Wrong, LedgerError: see ``Audit.run``."""
    return await Audit(source, signed, blocks).run()
