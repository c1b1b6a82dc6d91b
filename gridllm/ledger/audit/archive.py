"""A grid's whole ledger in one file, which anyone can audit without the grid.

A zip file with these members and no others; ``<key>`` is a keeper's key in hex:

===================================  =======================================================================
``charter.json``                     the charter, as its maintainers signed it (DSSE)
``manifests/<root>.json``            the manifest of each model that the charter or an entry names, for the prices
``heads/<key>/<key>-<n>.json``       a signed head: by which keeper it was shown / of whose log; the n-th, 2 digits
``logs/<key>/<first>.entries``       1024 entries of a log from number ``first`` on (12 digits), the last fewer:
                                     each as its length in bytes (4, big-endian) and the signed statement
===================================  =======================================================================
"""

from __future__ import annotations

import asyncio
import re
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gridllm.charter.document import SignedCharter, verify_charter
from gridllm.charter.fetch import MAX_MANIFEST_BYTES
from gridllm.disk import writing_atomically
from gridllm.errors import KeeperSilent, LedgerError, ModelError
from gridllm.identity.statement import MAX_STATEMENT_BYTES
from gridllm.ids import ModelRoot
from gridllm.ledger.audit.faults import Wrong, short
from gridllm.ledger.audit.following import Follower
from gridllm.ledger.audit.logs import Progress, Seen
from gridllm.ledger.keepers import Keepers
from gridllm.ledger.log.frontier import Frontier
from gridllm.ledger.log.heads import MAX_HEAD_BYTES
from gridllm.ledger.messages import MAX_PAGE, Heads
from gridllm.ledger.paper import model_of
from gridllm.ledger.statements import MAX_LEDGER_STATEMENT_BYTES
from gridllm.merkle import leaf_digest
from gridllm.models.manifest import verify_manifest
from gridllm.models.sizes import block_parameters

SEGMENT: Final = 1024  # entries
LENGTH_BYTES: Final = 4
MAX_MANIFESTS: Final = 1024
MAX_SEGMENT_BYTES: Final = SEGMENT * (LENGTH_BYTES + MAX_LEDGER_STATEMENT_BYTES)
CHARTER: Final = "charter.json"
KEY: Final = "[0-9a-f]{64}"
MEMBERS: Final = {  # what there may be → its size, in bytes, at most
    re.compile(r"charter\.json"): MAX_STATEMENT_BYTES,
    re.compile(rf"manifests/{KEY}\.json"): MAX_MANIFEST_BYTES,
    re.compile(rf"heads/{KEY}/{KEY}-[0-9]{{2}}\.json"): MAX_HEAD_BYTES,
    re.compile(rf"logs/{KEY}/[0-9]{{12}}\.entries"): MAX_SEGMENT_BYTES,
}
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


Find = Callable[[str], Awaitable[bytes | None]]
"""The manifest of the model of a root; None: nobody has it."""


async def export(
    keepers: Keepers,
    signed: SignedCharter,
    manifests: Mapping[str, bytes],
    path: Path,
    progress: Progress,
    find: Find | None = None,
) -> Follower:
    """Write all logs, as far as keepers' newest heads go; what was seen of them is returned.

    Args:
        manifests: of the charter's models, by root.
        find: gets those of other models that entries name; None: those are left out.

    Raises:
        LedgerError: entries do not lead to their head, or nobody answers; or the file cannot be written.
        KeeperSilent: a keeper fell silent half-way.
    """
    follower = Follower(keepers, signed, lambda told: None, prove=None, progress=progress)
    await follower.look(signed.charter.keepers)
    if not follower.seen:
        raise LedgerError(next(iter(follower.silent.values()), "The keepers show no heads of their logs yet."))
    try:
        with (
            writing_atomically(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        ):
            made.writestr(CHARTER, signed.raw)
            for root, raw in manifests.items():
                made.writestr(_manifest_name(root), raw)
            for number, one in enumerate(follower.seen):
                made.writestr(f"heads/{one.holder}/{one.head.keeper}-{number % 100:02}.json", one.raw)
            named = set[str]()
            for best in follower.best():
                named |= await _write_log(made, keepers, best, follower, progress)
            for root in sorted(named - manifests.keys())[: MAX_MANIFESTS - len(manifests)]:
                found = None if find is None else await find(root)
                if found is not None:
                    made.writestr(_manifest_name(root), found)
    except OSError as error:
        raise LedgerError(f"The ledger cannot be written to {path} ({error.strerror or error}).") from error
    return follower


async def _write_log(
    made: zipfile.ZipFile, keepers: Keepers, best: Seen, follower: Follower, progress: Progress
) -> set[str]:
    """Returns roots of the models that its entries name."""
    log, size, named = best.head.keeper, best.head.size, set[str]()
    edge, held = Frontier(), list[bytes]()
    while edge.size < size:
        page = await keepers.entries(best.holder, log, edge.size, min(MAX_PAGE, size - edge.size))
        if not 0 < len(page) <= size - edge.size:
            text = f"The keeper {short(best.holder)} shows {len(page)} entries of {short(log)} from {edge.size} on."
            raise Wrong(text, keeper=best.holder, log=log, index=edge.size)
        edge.extend([leaf_digest(raw) for raw in page])
        named |= await asyncio.to_thread(_models_of, page)
        held += page
        while len(held) >= SEGMENT or (held and edge.size == size):
            first = edge.size - len(held)
            await asyncio.to_thread(made.writestr, _segment_name(log, first), _packed(held[:SEGMENT]))
            held = held[SEGMENT:]
        follower.logs[log].entries = edge.size
        progress(follower.entries, follower.entries + follower.ahead)
    if edge.root().hex() != best.head.root:
        raise Wrong(
            f"The entries that {short(best.holder)} shows are not those of the head of {size} that {short(log)} "
            "signed; gridllm ledger verify tells which.",
            keeper=best.holder,
            log=log,
        )
    state = follower.logs[log]
    state.holder, state.head, state.raw = best.holder, best.head, best.raw
    return named


class Archive:
    """An exported ledger, read strictly: its maker may be anybody. A ``Source`` for an audit."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            LedgerError: not such a file, or of another form.
            CharterError: its charter is forged.
        """
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise LedgerError(f"There is no file {path}; gridllm ledger export writes one.") from error
        except _DAMAGE as error:
            raise LedgerError(f"{path} is no exported ledger, or it is damaged ({error}).") from error
        try:
            self._names = self._checked(self._zip.infolist())
            self.signed = verify_charter(self._member(CHARTER))
            self._check_keys()
        except BaseException:
            self._zip.close()
            raise
        self._segment = lru_cache(maxsize=2)(self._read_segment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def blocks(self) -> dict[str, list[int]]:
        """By model root, the parameters of each block, from the manifests.

        Raises:
            LedgerError: a manifest is missing, or not the one of its root.
        """
        found = {}
        charters = {entry.root for entry in self.signed.charter.models}
        others = {name[len("manifests/") : -len(".json")] for name in self._names if name.startswith("manifests/")}
        for root in sorted(charters | others):
            try:
                manifest = verify_manifest(self._member(_manifest_name(root)), ModelRoot(root))
            except ModelError as error:
                raise LedgerError(f"In {self._path} a manifest is not that of the model {short(root)}.") from error
            found[root] = block_parameters(manifest)
        return found

    async def heads(self, keeper: str, /) -> Heads:
        """See ``logs.Source``."""
        raws = [self._member(name) for name in self._names if name.startswith(f"heads/{keeper}/")]
        if not raws:
            raise KeeperSilent(keeper, "it did not when this file was made")
        return Heads(raws)

    async def entries(self, keeper: str, log: str, first: int, limit: int = MAX_PAGE) -> list[bytes]:
        """See ``logs.Source``; whoever is asked, each log is here once."""
        entries = await asyncio.to_thread(self._segment, log, first - first % SEGMENT)
        return entries[first % SEGMENT :][:limit]

    def _checked(self, members: Iterable[zipfile.ZipInfo]) -> frozenset[str]:
        names = set()
        for member in members:
            most = next((size for form, size in MEMBERS.items() if form.fullmatch(member.filename)), -1)
            if member.filename in names or member.file_size > most:
                raise LedgerError(f"{self._path} is no exported ledger: it has no use for {member.filename[:200]!r}.")
            names.add(member.filename)
        return frozenset(names)

    def _check_keys(self) -> None:
        """Each member must be of this grid's keepers, or a manifest: what nobody asks for would go unread."""
        manifests = [name for name in self._names if name.startswith("manifests/")]
        if len(manifests) > MAX_MANIFESTS:
            raise LedgerError(f"{self._path} is no exported ledger: it holds more than {MAX_MANIFESTS} manifests.")
        for name in sorted(self._names.difference(manifests)):
            if not set(re.findall(KEY, name)) <= set(self.signed.charter.keepers):
                raise LedgerError(f"{self._path} is no exported ledger of its grid: {name} is of nobody there.")

    def _member(self, name: str) -> bytes:
        if name not in self._names:
            raise LedgerError(f"{self._path} lacks {name}; export the ledger again.")
        try:
            return self._zip.read(name)  # no more than its directory says, which was checked
        except _DAMAGE as error:
            raise LedgerError(f"{self._path} is damaged in {name} ({error}); export the ledger again.") from error

    def _read_segment(self, log: str, first: int) -> list[bytes]:
        name = _segment_name(log, first)
        raw, at, entries = self._member(name), 0, list[bytes]()
        while at < len(raw):
            end = at + LENGTH_BYTES + int.from_bytes(raw[at : at + LENGTH_BYTES], "big")
            if end > len(raw) or len(entries) == SEGMENT:
                raise LedgerError(f"{self._path} is damaged in {name}: entry {first + len(entries)} is cut off.")
            entries.append(raw[at + LENGTH_BYTES : end])
            at = end
        return entries


def _manifest_name(root: str) -> str:
    return f"manifests/{root}.json"


def _models_of(raws: Iterable[bytes]) -> set[str]:
    return {root for root in map(model_of, raws) if root is not None}


def _segment_name(log: str, first: int) -> str:
    return f"logs/{log}/{first:012}.entries"


def _packed(entries: Iterable[bytes]) -> bytes:
    return b"".join(len(raw).to_bytes(LENGTH_BYTES, "big") + raw for raw in entries)
