"""``gridllm bench --json`` for machines that no authority would admit: one document, whatever was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridllm.admission import local
from gridllm.admission.figures import Figures
from gridllm.admission.stages import Examined
from gridllm.cli import bench as command
from gridllm.cli.main import app
from gridllm.errors import AdmissionError


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Examined(Figures(), "work_invented", "Link 3 was never computed."), "work_invented"),
        (AdmissionError("This machine failed while it was measured."), "unable"),
    ],
)
def test_false_work_is_one_document_too(
    outcome: Examined | AdmissionError, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def examined(*_: object, **__: object) -> Examined:
        if isinstance(outcome, AdmissionError):
            raise outcome
        return outcome

    monkeypatch.setattr(local, "examine_here", examined)
    monkeypatch.setattr(command, "LOAD_S", 0.01)
    monkeypatch.setenv("GRIDLLM_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["bench", "--json"])
    assert done.exit_code == 1
    value = json.loads(done.stdout)
    assert (value["model"], value["reason"]) == ("demo", reason)
    assert value["text"] == (outcome.text if isinstance(outcome, Examined) else str(outcome))
