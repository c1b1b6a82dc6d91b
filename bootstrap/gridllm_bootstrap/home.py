"""The maintainer's folder on disk.

::

    root/grids/<name>/maintainer.key   signs for the grid
    root/grids/<name>/peer.key         the first peer's identity
    root/grids/<name>/listen.json      where the first peer listens
    root/grids/<name>/ledger.sqlite    the grid's books, where this maintainer keeps them and names no other database
    root/grids/<name>/founding.json    charter and manifests, passed round among several maintainers
    root/grids/<name>/charter.json     … and the rest of a volunteer's Pins, once the charter is signed
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gridllm.charter.pin import Pins
from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import CharterError
from gridllm_bootstrap.listen import Listening

if TYPE_CHECKING:
    from gridllm.settings import Settings


def default_root(settings: Settings) -> Path:
    """The maintainer's folder where none is named."""
    return settings.data_dir / "bootstrap"


@dataclass(frozen=True, slots=True)
class Home:
    """Charters, known peers and manifests in it have the layout of a volunteer's ``Pins``."""

    root: Path

    @property
    def pins(self) -> Pins:
        """Charters and manifests of the grids founded here."""
        return Pins(self.root)

    def folder(self, name: str) -> Path:
        """Where the files of one grid are."""
        return self.root / "grids" / name

    def maintainer_key(self, name: str) -> Path:
        """Signs charter and notices; an admission authority needs it on line."""
        return self.folder(name) / "maintainer.key"

    def peer_key(self, name: str) -> Path:
        """The first peer's libp2p identity; its peer id stands in the charter."""
        return self.folder(name) / "peer.key"

    def ledger_url(self, name: str) -> str:
        """Where the grid's books lie unless another database is named."""
        return f"sqlite:///{(self.folder(name) / 'ledger.sqlite').absolute()}"

    def founding_file(self, name: str) -> Path:
        """Charter and manifests for the other maintainers."""
        return self.folder(name) / "founding.json"

    def run_command(self, name: str) -> str:
        """What to type to run the first peer of a grid in this folder: with the flags that are needed to find it."""
        from gridllm.settings import load_settings

        words = ["gridllm", "bootstrap", "run"]
        if self.root != default_root(load_settings()):
            words += ["--home", str(self.root)]
        if any(signed.charter.name != name for signed in self.pins.all()):
            words += ["--name", name]
        return shlex.join(words)

    def prepared(self, name: str) -> bool:
        """Whether there are keys for this grid, but no charter yet, signed or not."""
        started = (self.folder(name) / "charter.json", self.founding_file(name))
        return self.maintainer_key(name).exists() and not any(path.exists() for path in started)

    def drafts(self) -> list[Path]:
        """Charters founded here that lack signatures."""
        found = sorted(self.root.glob("grids/*/founding.json"))
        return [path for path in found if not (path.parent / "charter.json").exists()]

    def listening(self, name: str) -> Listening:
        """How the first peer starts.

        Raises:
            CharterError: ``listen.json`` is missing or damaged.
        """
        path = self.folder(name) / "listen.json"
        try:
            return Listening.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CharterError(f"{path} is missing or damaged; restore it from a backup.") from error

    def listens(self, name: str) -> bool:
        """Whether it is written down how the first peer starts."""
        return (self.folder(name) / "listen.json").exists()

    def keep_listening(self, name: str, listening: Listening) -> None:
        """Write down how the first peer starts.

        Raises:
            CharterError: the folder cannot be written.
        """
        folder = self.folder(name)
        try:
            make_private_dir(folder)
            write_atomically(folder / "listen.json", listening.model_dump_json(indent=1).encode())
        except OSError as error:
            raise CharterError(f"The grid's files cannot be written to {folder} ({error.strerror}).") from error
