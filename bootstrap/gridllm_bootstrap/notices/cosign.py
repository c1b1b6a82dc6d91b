"""Adding this machine's signature to a charter or notice of several maintainers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gridllm.charter.document import Charter, SignedCharter
from gridllm.errors import CharterError, UsageError
from gridllm.identity.keys import load
from gridllm_bootstrap.founding.found import install
from gridllm_bootstrap.home import Home
from gridllm_bootstrap.paper import Paper, read_paper, write_paper


@dataclass(frozen=True, slots=True)
class Case:
    """A paper, the grid it is about, and who signed it so far."""

    paper: Paper
    charter: Charter
    signed: SignedCharter | None  # None: the paper is the charter itself
    signers: tuple[str, ...]  # maintainers whose signature is valid

    @property
    def missing(self) -> int:
        """How many signatures it lacks."""
        return max(0, self.charter.threshold - len(self.signers))


def look(home: Home, file: Path) -> Case:
    """Read a paper and find out where it stands.

    Raises:
        UsageError: no such paper, or a notice of a grid that is not founded here.
    """
    return _case(home, read_paper(file))


def sign(home: Home, case: Case) -> Case:
    """Add the signature of this machine's maintainer key; signing again does no harm.

    Raises:
        UsageError: this machine has no key for the grid, or it is not a maintainer's.
        IdentityError: the key cannot be used.
        CharterError: another charter has this name here.
    """
    name = case.charter.name
    path = home.maintainer_key(name)
    if not path.exists():
        raise UsageError(
            f"There is no maintainer's key for {name!r} in {home.root}; make one with: gridllm bootstrap key --name "
            f"{name!r} — and give it to whoever founds the grid."
        )
    maintainer = load(path)
    own = maintainer.public_key.hex()
    if own not in case.charter.maintainers:
        raise UsageError(
            f"This machine's key for {name!r}, {own}, is not among its maintainers; whoever founds it names it with "
            f"--maintainer {own}"
        )
    founded = next((one for one in home.pins.all() if one.charter.name == name), None)
    if case.signed is None and founded is not None and founded.grid != case.paper.unsigned.grid:
        raise CharterError(
            f"Another grid called {name!r} was founded here, {founded.grid[:16]}…; a second one needs another name."
        )
    return _case(home, case.paper.signed_by(maintainer))


def keep(home: Home, case: Case, file: Path) -> SignedCharter | None:
    """Write the signatures back to the file; a charter that has enough of them is installed, and returned.

    Raises:
        UsageError: the file cannot be written.
        CharterError: the charter cannot be installed.
    """
    write_paper(file, case.paper)
    if case.signed is not None or case.missing:
        return None
    if not home.listens(case.charter.name):
        raise CharterError(
            f"Nothing says where this machine's first peer of {case.charter.name!r} listens; run: gridllm bootstrap "
            f"key --name {case.charter.name!r} — then sign again."
        )
    return install(home, case.paper)


def _case(home: Home, paper: Paper) -> Case:
    content = paper.content
    if isinstance(content, Charter):
        return Case(paper, content, None, tuple(paper.signers(content.maintainers)))
    signed = next((one for one in home.pins.all() if one.grid == content.grid), None)
    if signed is None:
        raise UsageError(
            f"This is a notice of the grid {content.grid[:16]}…, which is not in {home.root}; name the maintainer's "
            "folder with --home."
        )
    return Case(paper, signed.charter, signed, tuple(paper.signers(signed.charter.maintainers)))
