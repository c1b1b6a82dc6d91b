"""One submission from the author's side: enter, upload, wait for the check, pay, wait for the queue.

Whatever breaks, ``Author.submit`` goes on where the leaderboard says that it stands: it is asked first for a
submission of this model by this account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from pydantic import ValidationError

from gridllm.errors import Full, KeeperSilent, LeaderboardError, SwarmError, TooSoon, UsageError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models.manifest import Manifest, root
from gridllm_leaderboard.checking.facts import facts_of
from gridllm_leaderboard.link import LeaderboardLink
from gridllm_leaderboard.messages import (
    DOSSIER_CALL,
    ENTER_CALL,
    SUBMISSIONS_CALL,
    AskDossier,
    AskSubmissions,
    Dossier,
    Enter,
    Submissions,
    SubmissionView,
)
from gridllm_leaderboard.statements import Submission, sign
from gridllm_leaderboard.upload.sending import Bundle, send_bundle

T = TypeVar("T")

LOOK_S: Final = 1.0  # between two looks at how it stands
LONGEST_LOOK_S: Final = 10.0
PATIENT_S: Final = 300.0  # of a leaderboard that does not answer, or a keeper
SEEN_S: Final = 600.0  # until the leaderboard finds a payment in the books
CALL_S: Final = 30.0
WANTED: Final = {
    "name": "up to 64 letters, digits, blanks, dots, hyphens or underscores, with a letter or digit at both ends",
    "message": "up to 500 characters",
    "license": "up to 64 characters, such as Apache-2.0",
    "base": "the root of a model, 64 hex digits, as gridllm leaderboard show has it",
}
"""What the author's words have to be, by their flag."""
OVER: Final = ("refused", "withdrawn")  # the same model may be submitted again
DONE: Final = ("queued", "locked", "graded", "failed")


@dataclass(frozen=True, slots=True)
class Words:
    """What the author says of the model."""

    name: str
    message: str
    license: str
    base: str | None = None
    serve: bool = True


class Told(Protocol):
    """Who hears how it goes."""

    def state(self, view: SubmissionView, resumed: bool) -> None:
        """It stands so now."""

    def sent(self, done: int, total: int) -> None:
        """Of the upload."""

    def paid(self, micro: int, now: bool) -> None:
        """The fee; ``now``: by this command."""


Pay = Callable[[SubmissionView], Awaitable[bool]]
"""Pays the fee that is due; whether only now (``fee.pay_fee``)."""


def check_words(grid: str, account: str, words: Words) -> None:
    """Before a large model is read: can a submission say this? Raises UsageError."""
    _document(grid, account, words, {"root": "0" * 64, "weights": "0" * 64, "parameters": 1, "size": 1, "issued": 1})


def submission_of(grid: str, account: str, manifest: Manifest, words: Words, issued: int) -> Submission:
    """The document to be signed.

    Raises:
        UsageError: what the author says of the model cannot stand in one.
    """
    facts = facts_of(manifest)
    said = {"weights": facts.weights, "parameters": facts.parameters, "size": facts.size}
    return _document(grid, account, words, {"root": root(manifest), **said, "issued": issued})


def _document(grid: str, account: str, words: Words, facts: dict[str, Any]) -> Submission:
    fields: dict[str, Any] = {"grid": grid, "account": account, **asdict(words), **facts}
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "submission"
        said = str(fields.get(field))[:80]
        why = WANTED.get(field) or first["msg"].removesuffix(".")
        raise UsageError(f"--{field} {said!r} cannot be used: {why}.") from error


class Author:
    """One model and whose it is, on a line to the leaderboard."""

    def __init__(self, link: LeaderboardLink, identity: Identity, pay: Pay, told: Told) -> None:
        self._link = link
        self._identity = identity
        self._pay = pay
        self._told = told
        self._looked = False

    async def submit(self, folder: Path, manifest: Manifest, words: Words, *, wait: bool = True) -> SubmissionView:
        """Until it is in the queue, or without ``wait`` until its files are there.

        Raises:
            NotAccepted: the leaderboard does not take it, and why.
            LeaderboardError: it was taken, and refused when it was looked at.
            SwarmError, Refusal, ModelError: what stood in the way; the same command goes on.
        """
        view = await self._entered(manifest, words)
        bundle: Bundle | None = None
        pause, paid_at = LOOK_S, 0.0
        while view.state not in DONE:
            if view.state in OVER:
                raise LeaderboardError(f"The leaderboard does not take {view.name!r}: {view.why}")
            if view.state == "uploading":
                if bundle is None:
                    bundle = await asyncio.to_thread(lambda: Bundle(folder, manifest))
                await send_bundle(self._link.swarm, self._where, view.id, self._delegation, bundle, self._told.sent)
                pause = LOOK_S
            elif not wait:
                break
            elif view.state == "unpaid" and not paid_at:
                now = await self._patiently(lambda view=view: self._pay(view))  # type: ignore[misc]
                self._told.paid(view.fee, now)
                paid_at, pause = time.monotonic(), LOOK_S
            else:
                if view.state == "unpaid" and time.monotonic() > paid_at + SEEN_S:
                    raise LeaderboardError(
                        "The fee is paid, but the leaderboard has not seen it in the ledger yet. Run the same "
                        "command again later; it does not pay twice."
                    )
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, LONGEST_LOOK_S)
            before, view = view.state, await self._look(view.id)
            if view.state != before:
                self._told.state(view, False)
        return view

    async def _entered(self, manifest: Manifest, words: Words) -> SubmissionView:
        """As the leaderboard has it already, or now."""
        known = await self._known(root(manifest))
        if known is not None:
            self._told.state(known, True)
            return known
        link, account, now = self._link, self._identity.public_key.hex(), int(time.time())
        for issued in (now, now + 1):  # signed in the same second, it would be the one that was refused
            raw = sign(submission_of(link.signed.grid, account, manifest, words, issued), self._identity)
            ask = Enter(raw)
            view = await self._patiently(
                lambda ask=ask: link.ask(ENTER_CALL, ask, SubmissionView, timeout_s=CALL_S)  # type: ignore[misc]
            )
            if view.state not in OVER:
                break
        self._told.state(view, False)
        return view

    async def _known(self, wanted: str) -> SubmissionView | None:
        """A submission of this model by this account that stands, from an earlier run."""
        account, seen = self._identity.public_key.hex(), 0
        while True:
            ask = AskSubmissions(account, seen, 1000)
            page = await self._patiently(
                lambda ask=ask: self._link.ask(SUBMISSIONS_CALL, ask, Submissions, timeout_s=CALL_S)  # type: ignore[misc]
            )
            for view in page.submissions:
                if view.root == wanted and view.account == account and view.state not in OVER:
                    return view
            seen += len(page.submissions)
            if not page.submissions or seen >= page.total:
                return None

    async def _look(self, id_: str) -> SubmissionView:
        ask = AskDossier(id_)
        return (await self._patiently(lambda: self._link.ask(DOSSIER_CALL, ask, Dossier, timeout_s=CALL_S))).view

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while nobody answers, or others come first. Raises what comes last, or says no for good."""
        give_up_at = time.monotonic() + PATIENT_S
        while True:
            try:
                return await ask()
            except (SwarmError, TooSoon, Full) as error:
                if time.monotonic() >= give_up_at:
                    raise
                if not isinstance(error, KeeperSilent | TooSoon | Full):
                    await self._reconnect()
            await asyncio.sleep(LOOK_S)

    async def _reconnect(self) -> None:
        try:
            peer, addresses = await self._where()
            await self._link.swarm.connect(peer, addresses)
        except SwarmError:
            return  # ``_patiently`` asks again

    async def _where(self) -> tuple[PeerId, tuple[str, ...]]:
        """Where the leaderboard is: as the line has it, and after that as its newest card says."""
        from gridllm.admission.cards import find_leaderboard

        link = self._link
        if not self._looked:
            self._looked = True
            return link.peer, link.addresses
        card = await find_leaderboard(link.swarm, link.signed, link.rules)
        return (link.peer, link.addresses) if card is None else (PeerId(card.peer), tuple(card.addresses))

    def _delegation(self) -> bytes:
        return self._link.delegation(self._identity, time.time())
