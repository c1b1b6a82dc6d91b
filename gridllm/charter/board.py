"""The maintainers' notices that a process knows: one winner for each subject, kept in a file, told to whoever listens.

A grow-only set with max-merge: the order in which notices come, and how often, does not matter, so that all boards of a
grid agree once they have exchanged what they hold (gossip.py). Processes that share a data folder share the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from gridllm.charter.contest import Crown, Listing, Rules
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import DAY_S, Admission
from gridllm.charter.notice_file import NoticeFile
from gridllm.charter.notices import Amendment, Notice, Revocation, verify_notice
from gridllm.charter.posted import AMENDMENT, CROWN, RULES, Posted, surplus_listings
from gridllm.errors import NoticeError
from gridllm.identity.statement import only_signed_by
from gridllm.ids import PeerId

log = logging.getLogger(__name__)

N = TypeVar("N", bound=Notice)

MAX_REVOCATIONS: Final = 10_000  # the latest are kept; more than a year of one every hour
LONGEST_CERTIFICATE_S: Final = 31 * DAY_S  # the most that a charter or an amendment can allow
CLOCK_SKEW_S: Final = 300

MAX_LISTINGS: Final = 256  # models beside the charter's; the latest are kept, and the champion's


class NoticeBoard:
    """What the maintainers said since founding, as far as this process knows.

    It belongs to one event loop (or thread): listeners are called there, and may ask the board at once.
    """

    def __init__(
        self, signed: SignedCharter, path: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Read what is kept at ``path``; None keeps nothing. Entries that are damaged are dropped with a log line."""
        self._signed = signed
        self._path = path
        self._file = None if path is None else NoticeFile(path, signed.grid)
        self._clock = clock
        self._posted: dict[str, Posted] = {}
        self._sorted: list[Posted] | None = None  # kept while nothing changes: anyone may ask at any time
        self._digest: bytes | None = None
        self._listeners: list[Callable[[], None]] = []
        self._writing = threading.Lock()
        self._merge(self._read_file())

    @property
    def admission(self) -> Admission:
        """The minimums that hold now: the latest amendment's, or the charter's own."""
        latest = self.amendment
        return self._signed.charter.admission if latest is None else latest.admission

    @property
    def amendment(self) -> Amendment | None:
        """The amendment that holds; None while the charter's own minimums do."""
        return self._of(AMENDMENT, Amendment)

    @property
    def revocations(self) -> list[Revocation]:
        """The latest of each peer, the newest first."""
        found = [one.notice for one in self._posted.values() if isinstance(one.notice, Revocation)]
        return sorted(found, key=lambda one: (-one.issued, one.peer))

    @property
    def rules(self) -> Rules | None:
        """Of the leaderboard; None: the grid has none."""
        return self._of(RULES, Rules)

    @property
    def crown(self) -> Crown | None:
        """Who is champion; None: nobody yet."""
        return self._of(CROWN, Crown)

    @property
    def listings(self) -> list[Listing]:
        """Models that may be served beside the charter's, in no order."""
        return [one for one in self.every_listing if not one.withdrawn]

    @property
    def every_listing(self) -> list[Listing]:
        """The same, with those that were withdrawn: the books may name them still."""
        return [one.notice for one in self._posted.values() if isinstance(one.notice, Listing)]

    def _of(self, subject: str, kind: type[N]) -> N | None:
        posted = self._posted.get(subject)
        return posted.notice if posted is not None and isinstance(posted.notice, kind) else None

    def revocation(self, peer: PeerId) -> Revocation | None:
        """The latest revocation of ``peer``, whether or not its ``until`` has passed."""
        return self._of(peer, Revocation)

    @property
    def digest(self) -> bytes:
        """32 bytes, the same for boards that say the same."""
        if self._digest is None:
            self._digest = hashlib.sha256(b"".join(one.digest for one in self._in_order())).digest()
        return self._digest

    def raws(self) -> list[bytes]:
        """The envelopes held, in an order that two equal boards share."""
        return [one.raw for one in self._in_order()]

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each change, from now on; returns what ends that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def add(self, raw: bytes) -> bool:
        """Post one notice and keep it. True when it changed what the board says.

        Raises:
            NoticeError: forged, malformed or of another grid; or posted, but the file cannot be written.
        """
        changed = self._merge([self._verified(raw)])
        if changed:
            self._tell()
            self._write_file()
        return changed

    async def take(self, raws: Sequence[bytes]) -> bool:
        """Post what came from peers, without holding up the event loop; a file that cannot be written is logged only.

        Raises:
            NoticeError: one is forged, malformed or of another grid; the sound ones before it are posted.
        """
        verified, fault = await asyncio.to_thread(self._verified_until_fault, raws)
        changed = self._merge(verified)
        if changed:
            self._tell()
            try:
                await asyncio.to_thread(self._write_file)
            except NoticeError as error:
                log.warning("%s", error)
        if fault is not None:
            raise fault
        return changed

    async def reread(self) -> bool:
        """Take over what another process wrote to the file since. True when that changed what the board says."""
        if self._file is None or not self._file.changed:
            return False
        changed = self._merge(await asyncio.to_thread(self._read_file))
        if changed:
            self._tell()
        return changed

    def _verified(self, raw: bytes) -> Posted:
        notice = verify_notice(raw, self._signed)
        said = type(notice).__name__ + notice.model_dump_json()
        keys = self._signed.charter.maintainers
        return Posted(notice, hashlib.sha256(said.encode("utf-8")).digest(), only_signed_by(raw, keys))

    def _verified_until_fault(self, raws: Sequence[bytes]) -> tuple[list[Posted], NoticeError | None]:
        held = {one.raw: one for one in list(self._posted.values())}
        verified = []
        for raw in raws:
            try:
                verified.append(held.get(raw) or self._verified(raw))
            except NoticeError as error:
                return verified, error
        return verified, None

    def _in_order(self) -> list[Posted]:
        if self._sorted is None:
            self._sorted = sorted(self._posted.values(), key=lambda one: one.digest)
        return self._sorted

    def _merge(self, posted: Iterable[Posted]) -> bool:
        before, touched = self.digest, False
        for one in posted:
            held = self._posted.get(one.subject)
            if not self._spent(one) and (held is None or one.rank > held.rank):
                self._posted[one.subject] = one
                touched = True
        revocations = [one for one in self._posted.values() if isinstance(one.notice, Revocation)]
        dropped = [one for one in revocations if self._spent(one)]
        if len(revocations) - len(dropped) > MAX_REVOCATIONS:
            log.warning("More than %d revocations are in force; the oldest are dropped.", MAX_REVOCATIONS)
            dropped += sorted(set(revocations) - set(dropped), key=lambda one: one.rank)[:-MAX_REVOCATIONS]
        dropped += surplus_listings(self._posted, MAX_LISTINGS)
        for one in dropped:
            del self._posted[one.subject]
        if touched or dropped:
            self._sorted = self._digest = None
        return self.digest != before

    def _spent(self, posted: Posted) -> bool:
        """Whether it can matter to nobody any more: its time is over, and so is that of every certificate it voids."""
        notice, past_s = posted.notice, self._clock() - CLOCK_SKEW_S
        return isinstance(notice, Revocation) and max(notice.until, notice.issued + LONGEST_CERTIFICATE_S) < past_s

    def _tell(self) -> None:
        for callback in list(self._listeners):
            callback()

    def _read_file(self) -> list[Posted]:
        """What is kept, as far as it is sound."""
        return [] if self._file is None else self._sound(self._file.read())

    def _sound(self, raws: Sequence[bytes]) -> list[Posted]:
        held = {one.raw: one for one in list(self._posted.values())}
        sound = []
        for raw in raws:
            try:
                sound.append(held.get(raw) or self._verified(raw))
            except NoticeError as error:
                log.warning("Dropped a damaged notice from %s: %s", self._path, error)
        return sound

    def _write_file(self) -> None:
        """Raises NoticeError."""
        if self._file is None:
            return
        with self._writing:
            self._file.update(self._joined)

    def _joined(self, kept: list[bytes]) -> list[bytes]:
        """What other processes keep, and what is held here."""
        best: dict[str, Posted] = {}
        for one in (*self._sound(kept), *list(self._posted.values())):
            if not self._spent(one) and (one.subject not in best or one.rank > best[one.subject].rank):
                best[one.subject] = one
        for one in surplus_listings(best, MAX_LISTINGS):  # the file grows no more than a board does
            del best[one.subject]
        return [one.raw for one in best.values()]
