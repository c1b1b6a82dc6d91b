"""Really trained small models of different quality: stages of one run of the repository's own training script."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = (15, 60, 200)
"""Updates after which a stage is kept: the first babbles, the last writes words."""


def stages(folder: Path, hidden: int = 64, layers: int = 4, seed: int = 0) -> list[Path]:
    """Folders of three models, the worst first; those in ``folder`` already are not trained again (about 20 s)."""
    out = folder / f"model-{hidden}-{layers}-{seed}"
    with (folder / f"{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.is_dir():
            command = [sys.executable, "-m", "gridllm.demo_model.train", "--out", str(out), "--steps", str(STEPS[-1]),
                       "--hidden", str(hidden), "--layers", str(layers), "--seed", str(seed), "--threads", "1",
                       "--save-at", ",".join(map(str, STEPS[:-1]))]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
    return [*(out.with_name(f"{out.name}-step-{step}") for step in STEPS[:-1]), out]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """One for all workers of a test run."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
