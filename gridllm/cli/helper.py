"""What ``gridllm relay`` and ``gridllm seed`` share: both run a helper until Ctrl-C."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from gridllm.cli.grid_view import age_of
from gridllm.cli.serve_view import LiveReport, PlainReport

if TYPE_CHECKING:
    from pathlib import Path

    from gridllm.identity.keys import Identity
    from gridllm.node.enrolment import Membership
    from gridllm.node.helper_presence import HelperPulse, HelperReport
    from gridllm.node.wishes import Wishes
    from gridllm.settings import Settings
    from gridllm.wire.helper import HelperRecord, HelperRole

PLAIN_EVERY_S: Final = 60.0  # between lines of a log that say how many peers are connected


def help_out(
    role: HelperRole,
    *,
    model: str | None,
    path: Path | None,
    identity: Path | None,
    host_maddrs: list[str] | None,
    announce_maddrs: list[str] | None,
    grid: str | None,
) -> None:
    """Run a helper of the pinned grid until Ctrl-C.

    Raises:
        GridError: whatever keeps it from helping, in a sentence.
    """
    import logging

    from gridllm.admission.gate import Gatekeeper
    from gridllm.admission.store import Certificates
    from gridllm.charter.address import check_places
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.pin import Pins
    from gridllm.cli.bench_view import figures_table
    from gridllm.cli.catalogue import find_entry
    from gridllm.cli.compute import device_of, dtype_of
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import stdout
    from gridllm.errors import AdmissionError
    from gridllm.identity.keys import hold, load_or_create
    from gridllm.node.enrolment import Membership
    from gridllm.node.source import local_folder
    from gridllm.node.standing import Standing
    from gridllm.node.wishes import Wishes
    from gridllm.settings import load_settings

    settings = load_settings(
        identity=identity,
        host_maddrs=tuple(host_maddrs) if host_maddrs else None,
        announce_maddrs=tuple(announce_maddrs) if announce_maddrs else None,
    )
    check_places(settings.host_maddrs, settings.announce_maddrs)
    pins = Pins(settings.data_dir)
    signed = pins.current(grid)
    board = NoticeBoard(signed, pins.notices_path(signed))
    entry = find_entry(signed, pins, board, model)
    level = logging.INFO if settings.debug else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s")
    dtype = dtype_of(settings, entry)
    folder = local_folder(entry, path) if role == "seed" else None
    mine = load_or_create(settings.identity_path)
    with hold(mine):
        wishes = Wishes(None, None, None, device_of(settings), dtype, folder, 0.0, settings.cache_dir)
        gate = Gatekeeper(signed, board)
        store = Certificates(settings.data_dir)
        standing = Standing(signed, gate, mine.peer, entry.model_root, dtype, role=role, store=store)
        try:
            run_async(_run(mine, Membership(signed, entry, pins, standing), wishes, role, settings))
        except AdmissionError as error:
            if (figures := getattr(error, "figures", None)) is not None:  # measured, and found short: say of what
                stdout().print(figures_table(figures, gate.board.admission, (role,)), crop=False)
            raise


async def _run(
    identity: Identity, membership: Membership, wishes: Wishes, role: HelperRole, settings: Settings
) -> None:
    from functools import partial

    from gridllm.charter.entering import enter
    from gridllm.cli.runtime import stop_on_signals
    from gridllm.node.helper import Helper

    places = settings.host_maddrs, settings.announce_maddrs
    entering = partial(enter, identity, membership.signed, membership.pins, *places)
    report = make_helper_report(membership.entry.name)
    with stop_on_signals() as stop:
        try:
            await Helper(membership, wishes, role, entering, report, stop).run()
        finally:
            report.close()
    report.note("Left the grid.")


def make_helper_report(model: str) -> HelperReport:
    """The report that fits stdout."""
    from gridllm.cli.show import stdout

    return LiveHelperReport(stdout(), model) if sys.stdout.isatty() else PlainHelperReport(model)


def helping_line(record: HelperRecord, model: str) -> str:
    """One line that people read and programs wait for."""
    weights = f" with the weights of {model}" if record.role == "seed" else ""
    return f"helping as {record.role}{weights}: {record.peer}"


def helper_pulse_line(pulse: HelperPulse) -> str:
    """The helper's life in a line."""
    count = "1 peer" if pulse.peers == 1 else f"{pulse.peers} peers"
    peers = "no word of peers" if pulse.peers is None else f"{count} connected"
    fetching = f" · {pulse.readers} fetching" if pulse.readers else ""
    sent = f" · {pulse.sent_bytes / 1e6:.0f} MB of weights sent" if pulse.sent_bytes else ""
    return f"{peers}{fetching}{sent} · up {age_of(pulse.uptime_s)}"


class PlainHelperReport(PlainReport):
    """One line for each event; how many peers there are, now and then."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._said_at = float("-inf")
        self._said = ""

    def helping(self, record: HelperRecord) -> None:
        """See ``HelperReport``."""
        self.note(helping_line(record, self._model))

    def helper_pulse(self, pulse: HelperPulse) -> None:
        """See ``HelperReport``: when there is something new, and not often."""
        line = helper_pulse_line(pulse)
        news = line.rsplit(" · up ", 1)[0]
        if news != self._said and time.monotonic() > self._said_at + PLAIN_EVERY_S:
            self._said, self._said_at = news, time.monotonic()
            self.note(line)


class LiveHelperReport(LiveReport):
    """A terminal that shows what the helper does now."""

    def helping(self, record: HelperRecord) -> None:
        """See ``HelperReport``."""
        self._end_bar()
        self._end_line()
        self._console.print(helping_line(record, self._model), style="bold green", markup=False)

    def helper_pulse(self, pulse: HelperPulse) -> None:
        """See ``HelperReport``."""
        self._line(helper_pulse_line(pulse) + "  (Ctrl-C leaves)")
