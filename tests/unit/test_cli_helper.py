"""What relays and seeds say, and how `gridllm status` lists them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gridllm.charter.document import sign_charter
from gridllm.charter.pin import Pins
from gridllm.cli import helper
from gridllm.cli.helper import LiveHelperReport, PlainHelperReport, helper_pulse_line, helping_line
from gridllm.cli.helper_view import HelperView, helpers_json, helpers_renderable
from gridllm.cli.relay import relay
from gridllm.cli.seed import seed
from gridllm.errors import CertificateError, CharterError, GridError, IdentityError, ModelError
from gridllm.identity.keys import hold, load_or_create
from gridllm.ids import PeerId
from gridllm.node.helper_presence import HelperPulse
from gridllm.wire.helper import HelperRecord
from tests.charters import ENTRY, MAINTAINERS, charter

A, B = PeerId("12D3KooWaaaaaaaaaaaa"), PeerId("12D3KooWbbbbbbbbbbbb")


def record(peer: PeerId, **changes: Any) -> HelperRecord:
    fields: dict[str, Any] = {
        "peer": peer,
        "role": "relay",
        "models": [],
        "addresses": ["/ip4/127.0.0.1/tcp/1"],
        "version": "0.1",
        "since": 90.0,
    }
    return HelperRecord(**(fields | changes))


def drawn(view: HelperView) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(helpers_renderable(view))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


NAMES = {"ab" * 32: "demo"}


def test_helpers_are_listed() -> None:
    records = [record(A), record(B, role="seed", models=["ab" * 32, "cd" * 32], version="[red]\x1b[2J")]
    view = HelperView(records, {A: 1.25, B: None}, NAMES, 100.0)
    assert drawn(view) == (
        "helper    role  weights of       rtt   version   up\n"
        "…aaaaaaaa relay -             1.2 ms       0.1 10 s\n"
        "…bbbbbbbb seed  demo       no answer [red]?[2J 10 s"
    )
    listed = json.loads(json.dumps(helpers_json(view)))
    assert [(one["peer"], one["role"], one["models"], one["rtt_ms"]) for one in listed["helpers"]] == [
        (A, "relay", [], 1.25),
        (B, "seed", ["demo"], None),
    ]
    assert "helpers_not_admitted" not in listed


def test_those_not_admitted_are_listed_on_demand_with_the_reason() -> None:
    fault = CertificateError("missing", "It carries no certificate.")
    view = HelperView([], {}, NAMES, 100.0, [(record(A), fault)])
    assert drawn(view) == "…aaaaaaaa announces itself as relay: It carries no certificate."
    assert helpers_json(view)["helpers_not_admitted"][0]["rule"] == "missing"


def test_a_grid_without_helpers_shows_nothing_of_them() -> None:
    assert helpers_renderable(HelperView([], {}, NAMES, 100.0)) is None


def test_lines_for_people_and_programs() -> None:
    assert helping_line(record(A), "demo") == f"helping as relay: {A}"
    assert helping_line(record(A, role="seed"), "demo") == f"helping as seed with the weights of demo: {A}"
    assert helper_pulse_line(HelperPulse(1, 0, 0, 42.0)) == "1 peer connected · up 42 s"
    assert helper_pulse_line(HelperPulse(None, 0, 0, 42.0)) == "no word of peers · up 42 s"
    busy = helper_pulse_line(HelperPulse(12, 3, 5_300_000, 7300.0))
    assert busy == "12 peers connected · 3 fetching · 5 MB of weights sent · up 2 h"


def test_a_log_hears_of_peers_only_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = PlainHelperReport("demo")
    for peers, uptime_s in ((1, 0.0), (1, 2.0), (2, 4.0)):
        report.helper_pulse(HelperPulse(peers, 0, 0, uptime_s))
    assert capsys.readouterr().out == "1 peer connected · up 0 s\n"
    monkeypatch.setattr(helper, "PLAIN_EVERY_S", 0.0)
    report.helper_pulse(HelperPulse(2, 0, 0, 6.0))
    report.helper_pulse(HelperPulse(2, 0, 0, 8.0))
    assert capsys.readouterr().out == "2 peers connected · up 6 s\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    Pins(tmp_path / "data" / "gridllm").pin(sign_charter(charter(models=[ENTRY]), MAINTAINERS))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "error", "says"),
    [
        ({"model": "nosuch"}, CharterError, "no model 'nosuch'; it serves: demo"),
        ({"path": Path("/nonexistent")}, ModelError, "/nonexistent"),
        ({"grid": "other"}, CharterError, "No grid called 'other'"),
    ],
)
def test_each_slip_has_its_sentence(home: Path, flags: dict[str, Any], error: type[GridError], says: str) -> None:
    with pytest.raises(error, match=says):
        seed(**flags)


def test_an_occupied_key(home: Path) -> None:
    with hold(load_or_create(home / "mine.key")), pytest.raises(IdentityError, match="in use by process"):
        relay(identity=home / "mine.key")


def test_a_terminal_shows_the_last_pulse_and_keeps_what_matters() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False)
    report = LiveHelperReport(console, "demo")
    report.phase("Checking the files of demo")
    report.loading(1, 2)
    report.helping(record(A, role="seed"))
    report.helper_pulse(HelperPulse(3, 0, 0, 42.0))
    report.note("something [red]")
    report.close()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("helping as seed with the weights of demo", "3 peers connected · up 42 s", "something [red]"):
        assert part in text
