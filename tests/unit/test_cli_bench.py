"""``gridllm bench --json`` for machines that no authority would admit: one document, whatever was found."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gridllm.admission.examination import local
from gridllm.admission.examination.stages import Examined
from gridllm.admission.figures import Figures
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


async def test_ctrl_c_leaves_no_error_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority's side sees the candidate's end as a lost peer, when nobody asks any more."""
    lost = asyncio.Event()

    async def lead(stream: Any, *_: object) -> Examined:
        try:
            await stream.read()
        finally:
            lost.set()
        raise AdmissionError("The candidate said something.")

    async def answer(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(local, "_lead", lead)
    monkeypatch.setattr(local, "answer_examination", answer)
    monkeypatch.setattr(local, "hello_of", lambda *_: None)
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    anything: Any = lambda *_: None  # noqa: E731 - stands for the candidacy, the watcher and the prover
    bench = asyncio.create_task(local.examine_here(anything, anything, prover=anything))
    await asyncio.sleep(0.1)
    bench.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench
    await asyncio.wait_for(lost.wait(), 60)
    del bench
    await asyncio.sleep(0.1)
    gc.collect()
    await asyncio.sleep(0)
    assert unseen == []
