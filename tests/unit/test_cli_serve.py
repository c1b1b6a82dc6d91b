"""Slips of the `gridllm serve` command line that need no network to be noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridllm.charter.document import sign_charter
from gridllm.charter.pin import Pins
from gridllm.cli.serve import serve
from gridllm.cli.serve_view import PlainReport, pulse_line, serving_line
from gridllm.errors import AddressError, CharterError, GridError, IdentityError, ModelError, UsageError
from gridllm.identity.keys import hold, load_or_create
from gridllm.node.report import Pulse
from tests.charters import ENTRY, MAINTAINERS, charter
from tests.unit.planning_records import node


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    local = ENTRY.model_copy(update={"name": "mine", "source": "local"})
    Pins(tmp_path / "data" / "gridllm").pin(sign_charter(charter(models=[ENTRY, local]), MAINTAINERS))
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "error", "says"),
    [
        ({"model": "nosuch"}, CharterError, "no model 'nosuch'; it serves: demo, mine"),
        ({"blocks": "4:99"}, UsageError, "demo has blocks 0:8; 4:99 are not among them"),
        ({"blocks": "4:4"}, UsageError, "a range like 4:12"),
        ({"blocks": "some"}, UsageError, "auto, or a range like 4:12 .* not 'some'"),
        ({"blocks": "-1:3"}, UsageError, "'-1:3'"),
        ({"memory": "much"}, UsageError, "'much' is not a size"),
        ({"dtype": "int7"}, UsageError, "'int7' is not served; choose one of float32"),
        (
            {"device": "abacus"},
            UsageError,
            "The device 'abacus' cannot be used here: torch knows no such device; try cpu, cuda or cuda:1.$",
        ),
        ({"announce_maddrs": ["foo"]}, AddressError, "'foo' to announce names no host and port; one looks like /ip4/"),
        ({"host_maddrs": ["/ip4/1.2.3/tcp/0"]}, AddressError, "'/ip4/1.2.3/tcp/0' to listen at does not fit: "),
        ({"path": Path("/nonexistent")}, ModelError, "/nonexistent"),
        ({"grid": "other"}, CharterError, "No grid called 'other'"),
    ],
)
def test_each_slip_has_its_sentence(home: Path, flags: dict[str, Any], error: type[GridError], says: str) -> None:
    with pytest.raises(error, match=says):
        serve(**flags)


def test_an_occupied_key(home: Path) -> None:
    with hold(load_or_create(home / "mine.key")), pytest.raises(IdentityError, match="in use by process"):
        serve(identity=home / "mine.key")


def test_no_grid_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(CharterError, match="run: gridllm join"):
        serve()


def test_lines_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    record = node(1, 2, 5)
    assert serving_line(record, "demo").startswith(f"serving blocks 2:5 of demo as {record.peer} (")
    PlainReport("demo").serving(record)
    assert capsys.readouterr().out == serving_line(record, "demo") + "\n"
    pulse = Pulse(2, 31.4, 999, 1.5, 750, 1000, 125.0)
    assert pulse_line(pulse) == "2 sessions · 31 tokens/s (999 so far, 1.5 to a pass) · cache 25% used · up 2 min"
    paid = Pulse(2, 31.4, 999, 1.5, 750, 1000, 125.0, 1_250_000, 200_000)
    assert pulse_line(paid).endswith("25% used · earned 1.25 credits, 0.2 not yet handed in · up 2 min")
    assert "earned 0 credits · up" in pulse_line(Pulse(2, 31.4, 999, 1.5, 750, 1000, 125.0, 0))
