"""An upload between real processes, either of which is killed at random moments: it goes on at the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from gridllm.models.manifest import manifest_bytes, root
from gridllm_leaderboard.vault.vault import Vault
from tests.ports import free_port
from tests.unit.upload_hall import same_files, small_model

SPARE = 128 * 1024  # headers, manifest, tokenizer; and what came between a look at the disk and the next stream


class Pair:
    """A leaderboard and an author of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tensors = {f"layers.{number}.weight": torch.randn(1_500_000) for number in range(6)}
        self.manifest = small_model(folder / "model", 0, tensors | {"norm": torch.ones(64)})
        (folder / "manifest.json").write_bytes(manifest_bytes(self.manifest))
        self.port = free_port()
        self.address = ""
        self.processes: list[subprocess.Popen[str]] = []

    def run(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.swarm.upload_process", words[0], str(self.folder), *words[1:]]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        made = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        self.processes.append(made)
        return made

    def serve(self) -> subprocess.Popen[str]:
        made = self.run("serve", str(self.port))
        self.address = self.told(made)
        return made

    def told(self, process: subprocess.Popen[str]) -> Any:
        """The next line; None: it ended."""
        assert process.stdout is not None
        line = process.stdout.readline()
        return json.loads(line) if line else None

    def here(self) -> int:
        """Bytes of weights on the leaderboard's disk."""
        vault = self.folder / "vault"
        files = [*vault.glob("incoming/*/*.part"), *vault.glob("blobs/*/*/*")]
        return sum(file.stat().st_size for file in files)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """The process, and its libp2p daemon, which would notice by itself a little later."""
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.send_signal(signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def test_an_upload_whose_sides_are_killed_goes_on_at_the_byte(tmp_path: Path, kills: int) -> None:
    pair, chance, pause = Pair(tmp_path), random.Random(kills), f"{max(0.05, 0.008 * kills):.3f}"
    try:
        leaderboard = pair.serve()
        author = pair.run("send", pair.address, pause)
        here, total = pair.told(author)
        assert (here, total > 36_000_000) == (0, True)
        for number in range(kills):
            time.sleep(0.6 * chance.random())
            pair.kill(leaderboard)
            before = pair.here()
            leaderboard = pair.serve()
            here, _ = pair.told(author)  # it goes on by itself
            assert before - SPARE <= here <= before + SPARE, f"kill {number} of the leaderboard"
            time.sleep(0.6 * chance.random())
            pair.kill(author)
            before = pair.here()
            author = pair.run("send", pair.address, pause if number + 1 < kills else "0")
            here, _ = pair.told(author)
            assert before - SPARE <= here, f"kill {number} of the author"
        assert author.wait(150) == 0
    finally:
        pair.end()
    folder = Vault(tmp_path / "vault").folder(root(pair.manifest))
    assert folder is not None and same_files(folder, tmp_path / "model")
    assert len((tmp_path / "arrived").read_text().splitlines()) == 1
    assert not (tmp_path / "refused").exists() and not list((tmp_path / "vault/incoming").iterdir())
