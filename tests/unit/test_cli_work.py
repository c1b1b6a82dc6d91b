"""What a command is doing, where a terminal is and where none is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gridllm.cli.work import step, work


def consoles(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """Where commands write from now on."""
    written = io.StringIO()

    def make() -> Console:
        settings: dict[str, Any] = {"force_terminal": terminal, "width": 80, "soft_wrap": True, "highlight": False}
        return Console(file=written, **settings)

    monkeypatch.setattr("gridllm.cli.show.stderr", make)
    return written


def test_without_a_terminal_each_step_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = consoles(monkeypatch, terminal=False)
    with step("Looking for [bold]it"):
        assert written.getvalue() == "Looking for [bold]it…\n"  # before it is done, and no markup of strangers
    with work("bytes") as shown:
        for done in range(5):
            shown.tell("Reading", done, 5)
        shown.say("Read.")
        with shown.during("Checking"):
            pass
        shown.tell("Checking")
        shown.tell("a\x1b[2J name")
    assert written.getvalue().splitlines()[1:] == ["Reading…", "Read.", "Checking…", "Checking…", "a?[2J name…"]


@pytest.mark.parametrize("unit", ["bytes", "things"])
def test_on_a_terminal_figures_come_with_a_total(monkeypatch: pytest.MonkeyPatch, unit: Any) -> None:
    written = consoles(monkeypatch, terminal=True)
    with work(unit) as shown:
        shown.tell("Checking")
        unknown = len(written.getvalue())
        assert "/?" not in written.getvalue() and "━" not in written.getvalue()
        shown.tell("Reading", 2, 5)
    drawn = written.getvalue()[unknown:]
    assert "Reading" in drawn and ("2/5" in drawn.replace(" ", "")) and "━" in drawn
    with step("Looking"):
        pass
    assert "Looking…" in written.getvalue()
