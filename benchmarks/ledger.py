"""The ledger's speed: ``python -m benchmarks.ledger --store FOLDER``.

One keeper, a million statements in its books, SQLite and PostgreSQL: vouchers per second with the share of each stage,
balances and proofs, the start after ``kill -9``, and ``gridllm ledger verify``. The books are written once, into
``--store``; parts can be measured one by one, and the figures of the others stay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from benchmarks import ledger_speed as speed
from benchmarks.ledger_books import Books
from benchmarks.ledger_copy import copy_books
from benchmarks.ledger_network import over_the_network
from benchmarks.ledger_report import write_report
from benchmarks.ledger_sizes import sizes
from benchmarks.ledger_start import after_crash
from benchmarks.ledger_verify import verify
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from tests.postgres import PostgresServer

PARTS: Final = ("write", "sizes", "speed", "answers", "start", "network", "verify")
OF_EACH: Final = {"sizes", "speed", "answers", "start"}  # parts that are measured with each database


def measure(books: Books, url: str, parts: list[str], count: int) -> dict[str, Any]:
    """One database."""
    found: dict[str, Any] = {}
    with opened(url, books) as (engine, store):
        if "sizes" in parts:
            found["sizes"] = sizes(engine)
        if "speed" in parts:
            raws = speed.vouchers(books, store, count, seed=time.time_ns())
            found["ed25519_per_s"] = speed.ed25519_per_s(raws)
            found["sustained"] = asyncio.run(speed.sustained(books, store, raws))
            raws = speed.vouchers(books, store, count // 4, seed=time.time_ns())
            found["stages_us"] = speed.stages(books, engine, store, raws)
            found["ed25519_per_s_after"] = speed.ed25519_per_s(raws)
            say(json.dumps(found["sustained"]))
        if "answers" in parts:
            raws = speed.vouchers(books, store, 2 * count, seed=time.time_ns())
            found["answers"] = asyncio.run(speed.latencies(books, store, raws)) | {"load": os.getloadavg()[0]}
            say(json.dumps(found["answers"]["balance"]))
    if "start" in parts:
        found["start"] = after_crash(books.folder, url)
        say(json.dumps(found["start"]))
    return found


@contextmanager
def opened(url: str, books: Books) -> Iterator[tuple[Engine, LedgerStore]]:
    """A keeper's database."""
    engine = open_engine(url)
    try:
        migrate(engine)
        yield engine, LedgerStore(engine, starter=books.signed.charter.economy.starter)
    finally:
        engine.dispose()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())}  load {os.getloadavg()[0]:.1f}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="a folder, with a grid of its own; made if need be")
    parser.add_argument("--statements", type=int, default=1_000_000)
    parser.add_argument("--vouchers", type=int, default=40_000, help="taken in for one figure")
    parser.add_argument("--workers", type=int, default=2, help="processes that write the statements")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ledger.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/ledger-speed.md"))
    wishes = parser.parse_args()
    result: dict[str, Any] = json.loads(wishes.out.read_text()) if wishes.out.exists() else {}
    books = Books(wishes.store)
    books.found()

    def keep(**parts: Any) -> None:
        for name, found in parts.items():
            result[name] = result.get(name, {}) | found
        result["machine"] = {"cores": os.cpu_count(), "cpu": cpu(), "python": platform.python_version()}
        result["when"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        wishes.out.write_text(json.dumps(result, indent=1) + "\n")
        write_report(result, wishes.docs)

    if "write" in wishes.parts:
        keep(written=books.write(wishes.statements, wishes.workers) | {"bytes": books.path.stat().st_size})
    if "sqlite" in wishes.databases and OF_EACH & set(wishes.parts):
        keep(sqlite=measure(books, books.url, wishes.parts, wishes.vouchers))
    if "postgresql" in wishes.databases and OF_EACH & set(wishes.parts):
        with tempfile.TemporaryDirectory() as folder, PostgresServer(Path(folder), shared_buffers="256MB") as server:
            url = server.database()
            copied = copy_books(books.url, url)
            say(f"copied to PostgreSQL in {copied:.0f} s")
            keep(postgresql={"copied_s": copied} | measure(books, url, wishes.parts, wishes.vouchers))
    if "network" in wishes.parts:
        with opened(books.url, books) as (_, store):
            raws = speed.vouchers(books, store, wishes.vouchers, seed=time.time_ns())
        keep(network=over_the_network(books, raws))
        say(json.dumps(result["network"]))
    if "verify" in wishes.parts:
        with tempfile.TemporaryDirectory() as home:
            keep(verify=verify(books, Path(home)))
    say(f"{wishes.out} and {wishes.docs} are written.")


def cpu() -> str:
    """Its name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
