"""Doing what ``gridllm ledger`` was asked for, and showing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.pin import Pins
    from gridllm.ledger.audit.archive import Archive
    from gridllm.ledger.audit.examine import Audit
    from gridllm.ledger.audit.following import Follower


async def verify_live(signed: SignedCharter, pins: Pins, holders: list[str], *, as_json: bool) -> None:
    """Audit what the keepers ``holders`` hold. Raises Wrong, LedgerError, SwarmError; Exit."""
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.cli.ledger_files import SeenHeads, always_admitted, manifests_of, unlisted
    from gridllm.cli.show import stderr
    from gridllm.errors import LedgerError
    from gridllm.ledger.audit.examine import Audit

    async with asking_keepers(signed, pins) as keepers:
        manifests = await manifests_of(signed, pins, keepers.swarm)

        async def learn(root: str) -> Sequence[int]:
            if not await manifests.find(keepers.swarm, root):
                raise LedgerError(
                    f"Entries name the model {root[:16]}…, and nobody sent its manifest: their prices cannot be "
                    "checked. A keeper holds the manifest of every model in its books; try again when all are on line."
                )
            return manifests.blocks[root]

        seen = SeenHeads(signed, pins)
        with _progress("Checking entries") as progress:
            audit = Audit(
                keepers,
                signed,
                dict(manifests.blocks),
                holders=holders,
                known=seen.load(),
                progress=progress,
                admitted=always_admitted(signed, pins),
                learn=learn,
            )
            fault = await _run(audit)
        if fault is None:
            seen.save({log.keeper: log.raw for log in audit.report.logs.values() if log.head is not None})
        for root in unlisted(manifests, signed, pins):
            stderr().print(
                f"Entries name the model {root}, which is not listed now: it was listed once, or the keepers that "
                "took these entries must say why. Its prices follow from its manifest.",
                markup=False,
            )
    _show(audit, signed, fault, pins, as_json=as_json)


async def verify_file(archive: Archive, pins: Pins, *, as_json: bool) -> None:
    """Audit an exported file. Raises Wrong, LedgerError; Exit."""
    from gridllm.cli.ledger_files import always_admitted
    from gridllm.cli.show import stderr
    from gridllm.ledger.audit.examine import Audit

    signed = archive.signed
    if signed.grid not in {one.grid for one in pins.all()}:
        stderr().print(
            f"This machine has not joined the grid {signed.charter.name!r} of that file; compare its id with what "
            f"its members know: {signed.grid}",
            markup=False,
        )
    with _progress("Checking entries") as progress:
        admitted = always_admitted(signed, pins)
        audit = Audit(archive, signed, archive.blocks(), progress=progress, admitted=admitted)
        fault = await _run(audit)
    _show(audit, signed, fault, pins, as_json=as_json)


def verify_database(url: str, data_dir: Path, grid: str | None, *, as_json: bool) -> None:
    """Check a keeper's own database. Raises LedgerError, UsageError; Exit."""
    from gridllm.cli.ledger_database import charter_here, check_database, rulebook_here
    from gridllm.cli.show import print_json, stdout
    from gridllm.errors import LedgerError
    from gridllm.quantities import count_things

    signed, pins = charter_here(url, data_dir, grid)
    rules = rulebook_here(signed, pins)
    try:
        with _progress("Checking entries") as progress:
            told = check_database(url, signed, rules, progress)
    except LedgerError as error:
        if not as_json:
            raise
        print_json({"grid": signed.grid, "sound": False, "fault": {"text": str(error)}})
        raise typer.Exit(1) from error
    if as_json:
        print_json({"grid": signed.grid} | told)
        return
    count = count_things(sum(told["entries"].values()), "entry", "entries")
    logs = count_things(len(told["entries"]), "log")
    stdout().print(f"{count} in {logs}, read in {told['seconds']:.1f} s", markup=False)
    stdout().print("Every row of every table follows from them. The books are sound.", style="bold green")


async def _run(audit: Audit) -> Exception | None:
    """What is wrong, if anything; that nobody could be asked is an error of its own."""
    from gridllm.ledger.audit.faults import Wrong

    try:
        await audit.run()
    except Wrong as wrong:
        return wrong
    return None


def _show(audit: Audit, signed: SignedCharter, fault: Exception | None, pins: Pins, *, as_json: bool) -> None:
    """
    Raises:
        Wrong: the fault, once the table is out.
        Exit: with 1, after JSON.
    """
    from gridllm.cli.ledger_files import keep_evidence
    from gridllm.cli.ledger_view import audit_json, audit_renderable
    from gridllm.cli.show import print_json, stderr, stdout

    if as_json:
        print_json(audit_json(audit.report, signed, fault))
        if fault is not None:
            raise typer.Exit(1)
        return
    console = stdout()
    console.print(audit_renderable(audit.report, signed, fault), crop=False)
    if fault is not None:
        kept = keep_evidence(fault, signed, pins)
        if kept is not None:
            stderr().print(f"The evidence, which anyone can check with the charter, is in {kept}", markup=False)
        raise fault


async def export_books(signed: SignedCharter, pins: Pins, path: Path, *, as_json: bool) -> None:
    """Write all logs to ``path``. Raises LedgerError, SwarmError."""
    from gridllm.cli.keeper_link import asking_keepers
    from gridllm.cli.ledger_files import manifests_of
    from gridllm.cli.ledger_view import export_json
    from gridllm.cli.show import print_json, stderr, stdout
    from gridllm.ids import ModelRoot
    from gridllm.ledger.audit.archive import export as write_archive
    from gridllm.quantities import count_things

    async with asking_keepers(signed, pins) as keepers:
        manifests = await manifests_of(signed, pins, keepers.swarm)
        charters = {str(root): raw for root, raw in manifests.raws.items()}

        async def find(root: str) -> bytes | None:
            if await manifests.find(keepers.swarm, root):
                return manifests.raws[ModelRoot(root)]
            stderr().print(f"Nobody sent the manifest of the model {root}, which entries name.", markup=False)
            return None

        with _progress("Fetching entries") as progress:
            done: Follower = await write_archive(keepers, signed, charters, path, progress, find)
    for keeper, why in done.silent.items():
        copied = f"its log is as {done.logs[keeper].holder[:16]}… holds it" if done.logs[keeper].holder else "left out"
        stderr().print(f"{why} ({copied})", markup=False)
    if as_json:
        print_json(export_json(done, path))
    else:
        count = count_things(done.entries, "entry", "entries")
        logs = count_things(len(done.best()), "log")
        stdout().print(f"{count} of {logs} {'is' if done.entries == 1 else 'are'} in {path}", markup=False)
        stdout().print(f"Check them anywhere with: gridllm ledger verify --from {path}", markup=False)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """How far it is, on stderr."""
    from gridllm.cli.work import work

    with work() as shown:
        shown.tell(what)
        yield lambda done, total: shown.tell(what, done, total)
