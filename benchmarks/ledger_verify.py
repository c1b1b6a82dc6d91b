"""What ``gridllm ledger verify`` takes on large books, and that it finds one altered byte."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.ledger_books import Books
from tests.command import Running, gridllm

PATIENCE_S = 3600.0


def verify(books: Books, home: Path) -> dict[str, Any]:
    """Sound books: read from their keeper on line, and row by row where they lie. Altered ones: the same.

    ``home``: of a participant who joins the grid.
    """
    found: dict[str, Any] = {}
    rng = random.Random(2)
    with running(books) as (_, ready_s):
        found["bootstrap_ready_s"] = ready_s
        joined = gridllm(home, "join", "--no-admission", books.signed.charter.first_peers[0])
        if joined.returncode:
            raise RuntimeError(joined.stderr)
        found["live"] = timed(home)
    found["database"] = timed(home, "--database", books.url)
    with closing(sqlite3.connect(books.path)) as database, database:
        (size,) = database.execute("SELECT count(*) FROM entries").fetchone()
        number = rng.randrange(size) + 1
        (raw,) = database.execute("SELECT raw FROM entries WHERE number = ?", (number,)).fetchone()
        at = rng.randrange(len(raw))
        altered = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        database.execute("UPDATE entries SET raw = ? WHERE number = ?", (altered, number))
    try:
        found["altered"] = {"entry": number - 1, "byte": at, "of": len(raw), "statements": size}
        found["altered"]["database"] = timed(home, "--database", books.url)
        with running(books):
            found["altered"]["live"] = timed(home)
    finally:
        with closing(sqlite3.connect(books.path)) as database, database:
            database.execute("UPDATE entries SET raw = ? WHERE number = ?", (raw, number))
    return found


def timed(home: Path, *args: str) -> dict[str, Any]:
    """One verification: its exit code, its last words, and seconds."""
    load, began = os.getloadavg()[0], time.perf_counter()
    try:
        done = gridllm(home, "ledger", "verify", "--json", *args, timeout_s=PATIENCE_S, cold=True)
    except subprocess.TimeoutExpired:
        return {"seconds": PATIENCE_S, "code": None, "load_before": load}
    seconds = time.perf_counter() - began
    said = json.loads(done.stdout) if done.stdout.strip() else {}
    told: Any = {key: value for key, value in said.items() if value is not None and not isinstance(value, list | dict)}
    if done.returncode:
        told = said["fault"]["text"] if "fault" in said else done.stderr.strip()[-500:]
    return {"seconds": seconds, "code": done.returncode, "told": told, "load_before": load}


class running:  # noqa: N801  # reads as a sentence: with running(books)
    """The keeper, by command, from a cold start."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def __enter__(self) -> tuple[Running, float]:
        began = time.perf_counter()
        self._running = Running(self._books.folder, "bootstrap", "run", cold=True)
        self._running.wait_for("Ready", 120)
        return self._running, time.perf_counter() - began

    def __exit__(self, *error: Any) -> None:
        self._running.__exit__(None, None, None)
