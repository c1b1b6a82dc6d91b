"""A keeper's process at its start: ``python -m benchmarks.ledger_start FOLDER URL`` opens the books and answers once,
with ``--write`` it then goes on writing until it is killed. Prints one JSON line: where the seconds went.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402  # what is imported from here on is part of the figure
import asyncio  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


async def open_books(folder: Path, url: str, *, write: bool) -> None:
    from benchmarks.ledger_books import Books
    from benchmarks.ledger_speed import vouchers
    from gridllm.charter.board import NoticeBoard
    from gridllm.ledger.store.engine import open_engine
    from gridllm.ledger.store.migrate import migrate
    from gridllm.ledger.store.store import LedgerStore
    from gridllm_bootstrap.keeping.desk import Keeper

    books = Books(folder)
    rules, keeper = books.rules, books.keeper
    imported = time.perf_counter()
    engine = open_engine(url)
    migrate(engine)
    store = LedgerStore(engine, starter=books.signed.charter.economy.starter)
    async with Keeper(store, rules, keeper, NoticeBoard(books.signed)) as desk:
        opened = time.perf_counter()
        account = await desk.read(lambda db: db.account(books.log))
        answered = time.perf_counter()
        raw = vouchers(books, store, 1, os.getpid())
        taking = time.perf_counter()
        (outcome,) = await desk.submit(raw)
        taken = time.perf_counter()
        said = {
            "imports_s": imported - BEGAN,
            "open_s": opened - imported,
            "first_answer_s": answered - opened,
            "first_voucher_s": taken - taking,
            "statements": store.sizes()[books.log],
            "outcome": outcome.code,
            "balance": account.balance,
        }
        print(json.dumps(said), flush=True)
        for number in range(1, 10**6 if write else 0):
            await desk.submit(vouchers(books, store, 500, os.getpid() + number))
    engine.dispose()


def after_crash(folder: Path, url: str, *, times: int = 3) -> dict[str, Any]:
    """Kill a keeper that writes; start the next one on what is left: medians of what that took."""
    command = [sys.executable, "-m", "benchmarks.ledger_start", str(folder), url]
    starts = []
    for number in range(times):
        with subprocess.Popen([*command, "--write"], stdout=subprocess.PIPE, text=True) as writing:
            if writing.stdout is None:
                raise RuntimeError("The process has no output.")
            writing.stdout.readline()
            time.sleep(1 + number / 3)
            writing.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
        starts.append(json.loads(done.stdout) | {"process_s": time.perf_counter() - began})
    middle = sorted(starts, key=lambda one: one["open_s"] + one["first_answer_s"])[times // 2]
    return middle | {"load": os.getloadavg()[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("--write", action="store_true")
    wishes = parser.parse_args()
    asyncio.run(open_books(wishes.folder, wishes.url, write=wishes.write))
