"""The file of a backup: a tar whose last member has the digests of all before it; one that was cut short lacks it.

::

    leaderboard.json             Header
    rows/<table>/<n>.msgpack     pages of rows
    weights/<root>/manifest.json one for each model that is whole, followed by those of its digests that came not yet:
    weights/<root>/<digest>      a tensor's or file's bytes
    contents.json                Contents
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from gridllm.errors import LeaderboardError

FORMAT: Final = 1
HEADER: Final = "leaderboard.json"
CONTENTS: Final = "contents.json"
MAX_MEMBER_BYTES: Final = 256 * 1024 * 1024  # of all but weights, which are read piece by piece
PIECE_BYTES: Final = 4 * 1024 * 1024

S = TypeVar("S", bound=msgspec.Struct)
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the backup is of."""

    format: Annotated[int, Meta(ge=1)]
    grid: Hex
    account: Hex  # the leaderboard's
    made: Annotated[int, Meta(ge=0)]  # Unix time, seconds
    weights: bool  # whether they are in it


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end: only a backup that is whole has it."""

    digests: dict[str, Hex]  # SHA-256 of each member, by its name
    gone: list[Hex] = []  # roots of models that were taken down while they were copied


class Writer:
    """Members, one after another."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by ``end``
        self._digests: dict[str, str] = {}

    def add(self, name: str, data: bytes) -> None:
        """A small member."""
        self.copy(name, io.BytesIO(data), len(data))

    def copy(self, name: str, source: IO[bytes], size: int) -> str:
        """A member of ``size`` bytes, from where ``source`` stands: hex digest. Raises OSError: it has fewer."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        reader = _Hashing(source)
        self._tar.addfile(info, reader)
        self._digests[name] = reader.digest
        self._tar.members = []  # type: ignore[attr-defined]  # tarfile would remember them all
        return reader.digest

    def end(self, gone: list[str]) -> None:
        """The last member."""
        self.add(CONTENTS, msgspec.json.encode(Contents(dict(self._digests), gone)))
        self._tar.close()


class Member:
    """One member that is being read; it must be read to its end before the next."""

    def __init__(self, info: tarfile.TarInfo, source: IO[bytes], digests: dict[str, str]) -> None:
        self.name, self.size, self.end = info.name, info.size, info.offset_data + info.size
        self.digest = ""  # once its bytes were read
        self._source = source
        self._digests = digests

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""
        digest = hashlib.sha256()
        while piece := self._source.read(PIECE_BYTES):
            digest.update(piece)
            yield piece
        self.digest = self._digests[self.name] = digest.hexdigest()

    def data(self) -> bytes:
        """Its bytes, at once. Raises LeaderboardError: it is larger than any but weights may be."""
        if self.size > MAX_MEMBER_BYTES:
            raise LeaderboardError(f"The backup's member {self.name} is larger than it may be.")
        return b"".join(self.pieces())


class Reader:
    """Members in their order; ``contents`` once all were read."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._digests: dict[str, str] = {}
        self.contents: Contents | None = None

    def header(self) -> Header:
        """The first member. Raises LeaderboardError: it is another program's file, or a newer GridLLM's."""
        first = next(self.members(), None)
        if first is None or first.name != HEADER:
            raise LeaderboardError("The file is not a leaderboard backup.")
        header = _decode(first.data(), Header)
        if header.format > FORMAT:
            raise LeaderboardError(f"The backup has format {header.format}; this GridLLM reads {FORMAT}. Update it.")
        return header

    def names(self) -> Iterator[tuple[str, int, int]]:
        """Name, end in the file, and size of each member that comes yet; nothing of them is read."""
        while (info := self._tar.next()) is not None:
            self._tar.members = []  # type: ignore[attr-defined]
            yield info.name, info.offset_data + info.size, info.size

    def members(self) -> Iterator[Member]:
        """Those that come yet, but the last. Raises LeaderboardError: a member is not what was written."""
        while (info := self._tar.next()) is not None:
            source = self._tar.extractfile(info) if info.isreg() else None
            if source is None or self.contents is not None or info.name in self._digests:
                raise LeaderboardError(f"The backup has an unexpected member: {info.name[:100]!r}.")
            self._tar.members = []  # type: ignore[attr-defined]  # tarfile would remember them all
            member = Member(info, source, self._digests)
            if info.name != CONTENTS:
                yield member
                continue
            wanted = dict(self._digests)
            self.contents = _decode(member.data(), Contents)
            if self.contents.digests != wanted:
                raise LeaderboardError("The backup is damaged: its members are not those it was written with.")


@contextmanager
def reading_archive(path: Path) -> Iterator[Reader]:
    """Read a backup. Raises LeaderboardError: there is none, it cannot be read, or was cut short."""
    try:
        with tarfile.open(path, "r:") as tar:
            reader = Reader(tar)
            yield reader
    except (tarfile.TarError, EOFError) as error:
        raise LeaderboardError(f"{path} is not a leaderboard backup, or is truncated ({error}).") from error
    except FileNotFoundError as error:
        raise LeaderboardError(f"There is no backup {path}.") from error


def _decode(raw: bytes, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LeaderboardError(f"The backup does not parse: {error}.") from error


class _Hashing(io.RawIOBase):
    """What is read through it is digested."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._sha256.update(data)
        return data
