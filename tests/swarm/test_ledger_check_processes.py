"""A large ledger is checked by processes: they find what one process finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridllm.errors import LedgerError
from gridllm.ledger import readers
from gridllm.ledger.store.store import LedgerStore
from tests.unit.test_ledger_store_check import RULES, engine, forge, store

__all__ = ["engine", "store"]  # fixtures


@pytest.mark.parametrize("wrong", [None, 77, 400])
def test_processes_find_the_first_wrong_entry(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch, wrong: int | None
) -> None:
    monkeypatch.setattr(readers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr("gridllm.ledger.store.comparison.AT_ONCE", 100)  # so that there is more than one page
    monkeypatch.setattr("gridllm.ledger.store.check.AT_ONCE", 100)
    if wrong is None:
        told: list[int] = []
        store.check(RULES, lambda done, total: told.append(done))
        assert told == [100, 200, 300, 400, 500, 562]
        return
    for number in (wrong, 500):
        forge(store._engine, number)
    with pytest.raises(LedgerError, match=f"table entries, row of number {wrong}: "):
        store.check(RULES)


# Its worker waits for entries, and has its standard output.
ENDS_AT_ONCE = """
import os
from gridllm.ledger.readers import Readers

if __name__ == "__main__":
    readers = Readers(None, entries=0, workers=1)
    print(readers._executor.submit(os.getpid).result(), flush=True)
    os._exit(1)
"""


def test_no_worker_outlives_a_command_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "ends.py"
    script.write_text(ENDS_AT_ONCE)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip().isdecimal(), ended.stderr


def test_what_is_interrupted_leaves_no_worker_behind() -> None:
    with pytest.raises(KeyboardInterrupt), readers.Readers(RULES, entries=0, workers=1) as reading:
        worker = reading._executor.submit(os.getpid).result()
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
