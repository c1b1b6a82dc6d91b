"""``gridllm demo``: text through three processes, and nothing left behind however it ends."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.command import Running, gridllm

pytestmark = pytest.mark.timeout(480)


def ours(home: Path) -> list[psutil.Process]:
    """Processes that were started with ``home`` for their temporary folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(home) and process.pid != os.getpid():
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_it_generates_and_leaves_nothing_behind(home: Path):
    done = gridllm(home, "demo", "--max-new-tokens", "40", timeout_s=400, cold=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Once upon a time" in done.stdout
    parts = re.findall(r"volunteer \d, pid (\d+), peer (12D3Koo\w+): computed blocks (\d+):(\d+)", done.stdout)
    assert len(parts) >= 3, done.stdout
    assert len({pid for pid, *_ in parts}) == len(parts)
    assert [int(parts[0][2]), int(parts[-1][3])] == [0, 8]
    assert "tokens/s" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not ours(home)
    assert not list(home.glob("gridllm-demo-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_ctrl_c_leaves_nothing_behind(home: Path, number: signal.Signals):
    with Running(home, "demo", cold=True) as running:
        running.wait_for("Started 3 volunteers", timeout_s=240)
        assert len(ours(home)) > 4
        assert running.stop(number, timeout_s=60) == 130
    assert "Traceback" not in "".join(running.output)
    assert not ours(home)
    assert not list(home.glob("gridllm-demo-*"))
