"""Says what follows from verdicts and withdrawals: notices, and the bounty. What stands already is not said again."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Final

from gridllm.charter.notices import KINDS
from gridllm.errors import LedgerError, Refusal, SwarmError
from gridllm.identity.statement import sign_statement
from gridllm.ledger.paper import sign as sign_entry
from gridllm_leaderboard.desk.arrivals import kept_shape
from gridllm_leaderboard.desk.consequences import bounty, crown, crown_serial, delisting, listing
from gridllm_leaderboard.desk.deferring import want_nodes
from gridllm_leaderboard.statements import Verdict, Withdrawal, id_of, verify_document

if TYPE_CHECKING:
    from pathlib import Path

    from gridllm.charter.contest import Crown, Listing, Rules
    from gridllm.identity.keys import Identity
    from gridllm.ledger.statements import Grant
    from gridllm_leaderboard.desk.consequences import Shape
    from gridllm_leaderboard.desk.desk import Desk
    from gridllm_leaderboard.records import Entry, ReignRow
    from gridllm_leaderboard.statements import Submission
    from gridllm_leaderboard.store.batch import Batch
    from gridllm_leaderboard.store.view import View

BOUNTY_KEY: Final = "bounty:"  # with the verdict's id: booked, or the file of its draft
CROWN_KEY: Final = "crown:"  # with the verdict's id: the serial of its crown


class Proclaimer:
    """Signs as a maintainer. Where the charter asks for several, it writes drafts for ``gridllm bootstrap sign``."""

    def __init__(self, desk: Desk, maintainer: Identity, drafts: Path, list_above: int) -> None:
        """``list_above``: bytes of weights above which a model is listed before it is graded, so that nodes serve it
        and graders can grade it through them.
        """
        self._desk = desk
        self._maintainer = maintainer
        self._drafts = drafts
        self._list_above = list_above
        self._alone = desk.signed.charter.threshold == 1

    async def go_on(self) -> None:
        """Say all that is due.

        Raises:
            LeaderboardError: the store cannot be used.
            KeeperSilent, LedgerError: a bounty could not be booked now.
        """
        await self._list_large()
        await self._delist()
        await self._crown()
        await self._pay()

    async def _list_large(self) -> None:
        desk = self._desk
        unheld = await desk.books.read(lambda view: {one.id for one in want_nodes(view, desk.rules, desk.now)})
        # Not while they are queued: a stranger's copy would come into the same round, and win it by chance.
        for entry in await desk.books.read(lambda view: view.in_state("locked")):
            if entry.id in unheld or (entry.submission.serve and entry.submission.size > self._list_above):
                await self._list(entry, desk.rules, entry.entered)

    async def _delist(self) -> None:
        standing = {one.submission: one for one in self._desk.board.listings}
        withdrawn = await self._desk.books.read(lambda view: view.several(list(standing)))
        for entry in withdrawn.values():
            if entry.withdrawal is None:
                continue
            said = await asyncio.to_thread(
                verify_document, entry.withdrawal, Withdrawal, self._desk.signed.grid, self._desk.account
            )
            if await self._say(delisting(standing[entry.id], said.issued)):
                self._desk.tell("delisted", {"submission": entry.id})

    async def _crown(self) -> None:
        desk = self._desk
        found = await desk.books.read(partial(_reigning, desk=desk))
        if found is None:
            return
        entry, former, verdict, rules = found
        verdict_id = id_of(verdict)
        await self._list(entry, rules, verdict.issued)
        standing = desk.board.crown
        if standing is None or standing.verdict != verdict_id:
            serial = await desk.books.write(partial(_serial, verdict_id=verdict_id, round_=verdict.round, on=standing))
            if standing is None or standing.serial < serial:
                facts = {"submission": entry.id, "name": entry.submission.name, "round": verdict.round}
                if await self._say(crown(entry.submission, entry.id, verdict, verdict_id, serial, former)):
                    desk.tell("crowned", facts)

    async def _pay(self) -> None:
        """Bounties of all champions that were not paid yet: a keeper that was silent may have outlasted a reign.

        Raises:
            KeeperSilent, LedgerError: one could not be booked now; the others were.
        """
        desk, fault = self._desk, None
        for entry, verdict, rules in await desk.books.read(partial(_unpaid, desk=desk)):
            verdict_id = id_of(verdict)
            grant = bounty(entry.submission, verdict, verdict_id, rules)
            if grant is None:
                continue
            try:
                done = await self._grant(grant)
            except (LedgerError, SwarmError, Refusal) as error:
                fault = error
                continue
            await desk.books.write(lambda batch, key=BOUNTY_KEY + verdict_id, done=done: batch.keep(key, done))  # type: ignore[misc]
            desk.tell("bounty", {"submission": entry.id, "account": grant.account, "micro": grant.micro, "how": done})
        if fault is not None:
            raise fault

    async def _list(self, entry: Entry, rules: Rules, issued: int) -> None:
        root = entry.submission.root
        if any(one.model.root == root for one in self._desk.board.listings):
            return
        shape: Shape | None = await self._desk.books.read(partial(kept_shape, root=root))
        if shape is not None:
            said = listing(self._desk.signed.grid, entry.id, entry.submission, shape, rules.tier, issued)
            if await self._say(said):
                self._desk.tell("listed", {"submission": entry.id, "name": entry.submission.name})

    async def _say(self, notice: Listing | Crown) -> bool:
        """Whether the board says something new; a draft does not yet."""
        kind = next(name for name, model in KINDS.items() if isinstance(notice, model))
        raw = await asyncio.to_thread(sign_statement, notice, kind, [self._maintainer])
        if self._alone:
            return await self._desk.board.take([raw])
        await self._draft(raw, type(notice).__name__.lower())
        return False

    async def _grant(self, grant: Grant) -> str:
        """Book it; the file of the draft where more must sign. Raises LedgerError, KeeperSilent."""
        raw = await asyncio.to_thread(sign_entry, grant, self._maintainer)
        if not self._alone:
            return await self._draft(raw, "grant")
        keepers = self._desk.keepers
        (outcome,) = await keepers.submit(keepers.home(grant.account), [raw])
        if outcome.code not in ("accepted", "known"):
            raise LedgerError(f"The bounty of {grant.account[:16]}… was not booked: {outcome.text or outcome.code}")
        return "booked"

    async def _draft(self, raw: bytes, kind: str) -> str:
        """A file for the other maintainers, written once."""
        from gridllm_bootstrap.paper import paper_of, write_paper

        paper = paper_of(raw)
        digest = hashlib.sha256(paper.content.model_dump_json().encode()).hexdigest()
        file = self._drafts / f"{kind}-{digest[:16]}.json"
        if not await asyncio.to_thread(file.exists):
            await asyncio.to_thread(write_paper, file, paper)
            self._desk.tell("draft", {"file": str(file)})
        return str(file)


def _serial(batch: Batch, verdict_id: str, round_: int, on: Crown | None) -> int:
    """Chosen once for each verdict: a crown that is said again is the same crown."""
    kept = batch.value(CROWN_KEY + verdict_id)
    if kept is None:
        kept = str(crown_serial(on, round_))
        batch.keep(CROWN_KEY + verdict_id, kept)
    return int(kept)


def _reigning(view: View, desk: Desk) -> tuple[Entry, Submission | None, Verdict, Rules] | None:
    """The champion, the one before, the verdict that made it one, and the rules of that round.

    None: there was none yet, or it lost the title with its files, and was withdrawn since.
    """
    reigns = view.reigns()
    found = _crowned(view, desk, reigns[-1]) if reigns else None
    if found is None or found[0].state == "withdrawn":
        return None
    before = view.entry(reigns[-2].submission) if len(reigns) > 1 else None
    entry, verdict, rules = found
    return entry, None if before is None else before.submission, verdict, rules


def _unpaid(view: View, desk: Desk) -> list[tuple[Entry, Verdict, Rules]]:
    """Champions whose bounty nobody was told to pay yet, oldest first."""
    found = [_crowned(view, desk, row) for row in view.reigns() if row.bounty]
    return [one for one in found if one is not None and view.value(BOUNTY_KEY + id_of(one[1])) is None]


def _crowned(view: View, desk: Desk, row: ReignRow) -> tuple[Entry, Verdict, Rules] | None:
    """Who reigned, by which verdict; it is signed by whom the rules of its round name, who may be another by now."""
    round_, entry = view.round(row.round), view.entry(row.submission)
    if round_ is None or round_.verdict_raw is None or entry is None:
        return None
    rules = desk.rules_of(view, round_.lock.rules)
    return entry, verify_document(round_.verdict_raw, Verdict, desk.signed.grid, rules.account), rules
