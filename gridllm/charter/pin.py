"""The grids this machine has joined, on disk: each one's charter, and the peers it was last seen with.

::

    data_dir/current                      name of the grid that commands use
    data_dir/grids/<name>/charter.json    the charter as it was signed
    data_dir/grids/<name>/known_peers.json   peer id → multiaddrs, hints only
    data_dir/grids/<name>/notices.json    what its maintainers said since founding (board.py)
    data_dir/grids/<name>/models.json     roots of the submitted models that were ever listed, as far as seen here
    data_dir/grids/<name>/passes/<account>.json   what an account may use, as its keeper last said (the client's wallet)
    data_dir/grids/<name>/purse-<key>.db  vouchers that a node was paid with (node/counter/purse.py)
    data_dir/manifests/<root>.json        model manifests, verified by their name
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gridllm.charter.address import split_address
from gridllm.charter.document import NAME_PATTERN, SignedCharter, verify_charter
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import AddressError, CharterError
from gridllm.ids import ModelRoot, PeerId

MAX_KNOWN_PEERS: Final = 64
MAX_ADDRESSES_PER_PEER: Final = 8


class Pins:
    """What is pinned below one data folder. Reads and verifies afresh on each call; writes are atomic."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def pin(self, signed: SignedCharter) -> bool:
        """Remember the grid and make it the current one. False when it was pinned already.

        Raises:
            CharterError: another charter is pinned under the same name, or the folder cannot be written.
        """
        name = signed.charter.name
        pinned = next((one for one in self.all() if one.charter.name.casefold() == name.casefold()), None)
        if pinned is not None and pinned.grid != signed.grid:
            raise CharterError(
                f"Another grid is pinned under the name {pinned.charter.name!r}: you joined {pinned.grid[:16]}…, now "
                f"{signed.grid[:16]}… is offered. A charter never changes, so this is a different grid. If you want it "
                f"in place of the old one, remove {self._folder(pinned.charter.name)} and join again."
            )
        try:
            folder = self._folder(name)
            make_private_dir(folder)
            write_atomically(folder / "charter.json", signed.raw)
            write_atomically(self.data_dir / "current", name.encode("utf-8"))
        except OSError as error:
            raise CharterError(f"The charter cannot be pinned in {self.data_dir} ({error.strerror}).") from error
        return pinned is None

    def current(self, name: str | None = None) -> SignedCharter:
        """The grid that commands use: the one called ``name``, or the one joined last.

        Raises:
            CharterError: none joined yet, none of that name, or its pinned charter is damaged.
        """
        if name is None:
            try:
                name = (self.data_dir / "current").read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                name = ""
        path = self._folder(name) / "charter.json"
        if not re.match(NAME_PATTERN, name) or not path.is_file():
            joined = sorted(found.parent.name for found in self.data_dir.glob("grids/*/charter.json"))
            if name and joined:
                raise CharterError(
                    f"No grid called {name!r} joined; gridllm grids lists those joined: {', '.join(joined)}."
                )
            which = f"No grid called {name!r} joined" if name else "No grid joined"
            raise CharterError(
                f"{which} yet; run: gridllm join <multiaddr> — or try everything here with: gridllm demo"
            )
        return self._read(path)

    def all(self) -> list[SignedCharter]:
        """Every grid joined, by name.

        Raises:
            CharterError: a pinned charter is damaged.
        """
        return [self._read(path) for path in sorted(self.data_dir.glob("grids/*/charter.json"))]

    def known_peers(self, signed: SignedCharter) -> dict[PeerId, tuple[str, ...]]:
        """Peers met in this grid before, the latest last. They are hints: a damaged file counts as none."""
        try:
            stored = json.loads((self._folder(signed.charter.name) / "known_peers.json").read_bytes())
            if stored["grid"] != signed.grid:
                return {}
            return {PeerId(peer): tuple(map(str, addresses)) for peer, addresses in stored["peers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def remember_peers(self, signed: SignedCharter, peers: Mapping[PeerId, Iterable[str]]) -> None:
        """Add to the known peers, newest last; the oldest beyond ``MAX_KNOWN_PEERS`` are dropped.

        Raises:
            CharterError: the folder cannot be written.
        """
        merged = self.known_peers(signed)
        for peer, addresses in peers.items():
            merged.pop(peer, None)
            merged[peer] = tuple(addresses)[:MAX_ADDRESSES_PER_PEER]
        latest = dict(list(merged.items())[-MAX_KNOWN_PEERS:])
        try:
            folder = self._folder(signed.charter.name)
            make_private_dir(folder)
            raw = json.dumps({"grid": signed.grid, "peers": latest}, indent=1).encode("utf-8")
            write_atomically(folder / "known_peers.json", raw)
        except OSError as error:
            raise CharterError(f"Known peers cannot be written in {self.data_dir} ({error.strerror}).") from error

    def initial_peers(self, signed: SignedCharter) -> tuple[str, ...]:
        """Multiaddrs to enter the grid through: the charter's first peers, then peers met before, newest first."""
        known = [address for addresses in reversed(self.known_peers(signed).values()) for address in addresses]
        return tuple(dict.fromkeys(address for address in (*signed.charter.first_peers, *known) if _dialable(address)))

    def peers(self, signed: SignedCharter) -> list[tuple[PeerId, tuple[str, ...]]]:
        """``initial_peers`` by peer, in the same order."""
        found: dict[PeerId, tuple[str, ...]] = {}
        for address in self.initial_peers(signed):
            peer, _ = split_address(address)
            found[peer] = (*found.get(peer, ()), address)
        return list(found.items())

    def notices_path(self, signed: SignedCharter) -> Path:
        """Where the maintainers' notices are kept (``board.NoticeBoard``)."""
        return self._folder(signed.charter.name) / "notices.json"

    def pass_path(self, signed: SignedCharter, account: str) -> Path:
        """Where the latest access pass of an account (hex key) is kept."""
        return self._folder(signed.charter.name) / "passes" / f"{account}.json"

    def purse_path(self, signed: SignedCharter, account: str) -> Path:
        """Where a node keeps the vouchers it is paid with; ``account`` is its key in hex."""
        return self._folder(signed.charter.name) / f"purse-{account[:16]}.db"

    def manifest(self, root: ModelRoot) -> bytes | None:
        """A model's manifest stored before; None when it is missing or no longer matches its root."""
        try:
            raw = self._manifest_path(root).read_bytes()
        except OSError:
            return None
        return raw if hashlib.sha256(raw).hexdigest() == root else None

    def save_manifest(self, root: ModelRoot, raw: bytes) -> None:
        """Keep a manifest for the next start.

        Raises:
            CharterError: the folder cannot be written.
        """
        path = self._manifest_path(root)
        try:
            make_private_dir(path.parent)
            write_atomically(path, raw)
        except OSError as error:
            raise CharterError(f"The manifest cannot be written to {path} ({error.strerror}).") from error

    def models(self, signed: SignedCharter) -> list[ModelRoot]:
        """Roots remembered by ``remember_model``, sorted. A damaged file counts as none."""
        try:
            stored = json.loads((self._folder(signed.charter.name) / "models.json").read_bytes())
            if stored["grid"] != signed.grid:
                return []
            return sorted(ModelRoot(root) for root in stored["roots"] if re.fullmatch("[0-9a-f]{64}", root))
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def remember_model(self, signed: SignedCharter, root: ModelRoot) -> None:
        """A model beyond the charter's is, or was, of this grid: the books may name it for ever.

        Raises:
            CharterError: the folder cannot be written.
        """
        known = self.models(signed)
        if root in known:
            return
        try:
            folder = self._folder(signed.charter.name)
            make_private_dir(folder)
            raw = json.dumps({"grid": signed.grid, "roots": [*known, root]}, indent=1).encode("utf-8")
            write_atomically(folder / "models.json", raw)
        except OSError as error:
            raise CharterError(f"Models cannot be remembered in {self.data_dir} ({error.strerror}).") from error

    def _folder(self, name: str) -> Path:
        return self.data_dir / "grids" / name

    def _manifest_path(self, root: ModelRoot) -> Path:
        return self.data_dir / "manifests" / f"{root}.json"

    def _read(self, path: Path) -> SignedCharter:
        try:
            return verify_charter(path.read_bytes())
        except OSError as error:
            raise CharterError(f"The pinned charter {path} cannot be read ({error.strerror}).") from error
        except CharterError as error:
            # Not its folder: the purse beside it holds vouchers that are still to be paid.
            raise CharterError(f"The pinned charter {path} is damaged; remove this file and join again.") from error


def _dialable(address: str) -> bool:
    try:
        split_address(address)
    except AddressError:
        return False
    return True
