"""How fast one keeper takes vouchers and answers, on a database that holds as many statements as it may."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Engine

from benchmarks.ledger_books import Books
from benchmarks.ledger_stages import watched
from gridllm.charter.board import NoticeBoard
from gridllm.identity.keys import Identity
from gridllm.ledger.paper import Entry
from gridllm.ledger.statements import Voucher
from gridllm.ledger.store.store import LedgerStore
from gridllm_bootstrap.keeping import intake
from gridllm_bootstrap.keeping.decisions import Clerk, Standing
from gridllm_bootstrap.keeping.desk import Keeper
from gridllm_bootstrap.keeping.reserving import day_of
from gridllm_bootstrap.keeping.writing import Task, Writer
from tests.ledgers import _quick

PAYERS: Final = 100
TABS: Final = 1000  # sessions that are paid for at the same time
CREDIT: Final = 10**15
RESERVED: Final = 10**12
CALLERS: Final = 64  # who hand in at the same time
EACH: Final = 32  # statements in a call


def vouchers(books: Books, store: LedgerStore, count: int, seed: int) -> list[bytes]:
    """Signed, each higher than those before of its tab, which has an escrow: ``count`` that a keeper will accept."""
    scribe, rng, now = books.scribe, random.Random(seed), int(time.time())
    payers = [Identity.ephemeral() for _ in range(PAYERS)]
    nodes = [Identity.ephemeral() for _ in range(PAYERS // 4)]
    tabs = []
    begin = [scribe.grant(payer, CREDIT, serial=rng.randbytes(16).hex()) for payer in payers]
    for number in range(TABS):
        payer, node = payers[number % PAYERS], rng.choice(nodes)
        changes = {"session": rng.randbytes(16).hex(), "issued": now, "expires": now + 7200}
        begin.append(scribe.escrow(payer, node, RESERVED, **changes))
        tabs.append((payer, {key: value for key, value in vars(begin[-1].statement).items() if key in TAB_FIELDS}))
    with store.write(books.log, time.time()) as batch:
        batch.load(begin)
        for entry in begin:
            batch.append(entry)
    raws = []
    for number in range(count):
        payer, tab = tabs[number % TABS]
        tokens = 32 * (1 + number // TABS)
        due = scribe.price(100, tokens)
        raws.append(_quick(Voucher(**tab, prefill=100, decode=tokens, micro=due), payer).raw)
    return raws


TAB_FIELDS: Final = ("grid", "session", "payer", "payee", "model", "start", "end", "issued")


def ed25519_per_s(raws: Sequence[bytes]) -> float:
    """How many of these signatures one processor verifies in a second, when it does nothing else."""
    work = []
    for raw in raws[:4000]:
        envelope = json.loads(raw)
        body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        (signature,) = envelope["signatures"]
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
        work.append((bytes.fromhex(signature["keyid"]), base64.b64decode(signature["sig"]), signed))
    began = time.perf_counter()
    for key, signature, signed in work:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    return len(work) / (time.perf_counter() - began)


async def sustained(books: Books, store: LedgerStore, raws: Sequence[bytes]) -> dict[str, Any]:
    """Vouchers per second through an open desk, from the first call to the last answer; each answer is on disk."""
    load = os.getloadavg()[0]
    async with Keeper(store, books.rules, books.keeper, NoticeBoard(books.signed)) as keeper:
        codes: dict[str, int] = {}
        calls_ms: list[float] = []

        async def caller(mine: Sequence[bytes]) -> None:
            for start in range(0, len(mine), EACH):
                began = time.perf_counter()
                for outcome in await keeper.submit(mine[start : start + EACH]):
                    codes[outcome.code] = codes.get(outcome.code, 0) + 1
                calls_ms.append(1000 * (time.perf_counter() - began))

        # A tab's vouchers all come from one caller, in their order, as from a node.
        piles = [[raw for at, raw in enumerate(raws) if at % TABS % CALLERS == number] for number in range(CALLERS)]
        began, used = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for pile in piles:
                group.create_task(caller(pile))
        seconds, used = time.perf_counter() - began, time.process_time() - used
    if codes != {"accepted": len(raws)}:
        raise RuntimeError(f"Of {len(raws)} vouchers: {codes}")
    return {
        "vouchers": len(raws),
        "seconds": seconds,
        "vouchers_per_s": len(raws) / seconds,
        "processors": used / seconds,  # on average, of this process
        "call_p50_ms": statistics.median(calls_ms),
        "load_before": load,
    }


def stages(books: Books, engine: Engine, store: LedgerStore, raws: Sequence[bytes]) -> dict[str, float]:
    """Microseconds of each stage for one voucher: the desk's own work in one thread, 512 in a transaction."""
    clerk = Clerk(books.rules, books.keeper)
    writer = Writer(store, clerk, books.keeper, time.time)
    writer.begin()
    standing = Standing()

    def task(entry: Entry) -> Task:
        return Task(lambda batch, now_s: clerk.take(batch, entry, standing, now_s), entry)

    with watched(engine) as clocks:
        for start in range(0, len(raws), 512):
            read = intake.read_all(books.rules, raws[start : start + 512])
            taken = writer.commit([task(entry) for entry in read if isinstance(entry, Entry)], head=True)
            if {outcome.code for outcome in taken} != {"accepted"}:
                raise RuntimeError(str(taken[:3]))
    return {stage: 1e6 * spent / len(raws) for stage, spent in clocks.seconds.items()}


async def latencies(books: Books, store: LedgerStore, raws: Sequence[bytes], asked: int = 1000) -> dict[str, Any]:
    """What questions to the desk take, alone and while it takes vouchers as fast as it can; milliseconds."""
    accounts, after = [], ""
    while page := store.accounts(after, 1024):
        accounts += [key for key, _ in page]
        after = page[-1][0]
    size, rng, now = store.sizes()[books.log], random.Random(1), time.time()
    questions: dict[str, Callable[[LedgerStore], Any]] = {
        "balance": lambda db: db.standing(rng.choice(accounts), now, day_of(now)),
        "inclusion proof": lambda db: db.inclusion(books.log, rng.randrange(size), size),
        "consistency proof": lambda db: db.consistency(books.log, rng.randrange(1, size), size),
        "history, 100 rows": lambda db: db.history(rng.choice(accounts), limit=100),
    }
    found: dict[str, Any] = {"accounts": len(accounts), "statements": size}
    async with Keeper(store, books.rules, books.keeper, NoticeBoard(books.signed)) as keeper:
        for name, ask in questions.items():
            found[name] = {"alone": await _times(keeper, ask, asked)}

        async def keep_busy(mine: Sequence[bytes]) -> None:
            for start in range(0, len(mine), EACH):
                await keeper.submit(mine[start : start + EACH])

        busy = [
            asyncio.create_task(keep_busy([raw for at, raw in enumerate(raws) if at % TABS % 8 == number]))
            for number in range(8)
        ]
        for name, ask in questions.items():
            found[name]["busy"] = await _times(keeper, ask, asked // 2)
        found["still_busy"] = not all(task.done() for task in busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    return found


async def _times(keeper: Keeper, ask: Callable[[LedgerStore], Any], count: int) -> dict[str, float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await keeper.read(ask)
        took.append(1000 * (time.perf_counter() - began))
    ordered = sorted(took)
    return {"p50": ordered[count // 2], "p99": ordered[count * 99 // 100], "most": ordered[-1]}
