"""A grid of one keeper with as many statements in its books as one likes: founded by command, written in bulk, once."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gridllm.admission.certificate import CERTIFICATE_TYPE, Certificate
from gridllm.admission.manifests import Manifests
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.identity.keys import Identity, load
from gridllm.ledger.log.heads import Head, sign_head
from gridllm.ledger.paper import TYPES, Entry, Rulebook, id_of
from gridllm.ledger.statements import OnTab
from gridllm.ledger.store.engine import open_engine
from gridllm.ledger.store.migrate import migrate
from gridllm.ledger.store.store import LedgerStore
from gridllm_bootstrap.home import Home
from tests.command import gridllm
from tests.ledgers import Scribe, traffic
from tests.swarm.grid import _listening

NAME: Final = "ledger"
SEGMENT: Final = 20_000  # statements by one set of payers and nodes
AT_ONCE: Final = SEGMENT  # in one transaction, while the books are written
MODELS: Final = {kind: model for model, kind in TYPES.items()} | {CERTIFICATE_TYPE: Certificate}


@dataclass
class Books:
    """A maintainer's home in ``folder``, where ``gridllm bootstrap run`` would find grid, keys and ledger."""

    folder: Path

    @cached_property
    def home(self) -> Home:
        """Its files."""
        return Home(self.folder / "data" / "gridllm" / "bootstrap")

    @cached_property
    def signed(self) -> SignedCharter:
        """The grid's charter."""
        return next(one for one in self.home.pins.all() if one.charter.name == NAME)

    @cached_property
    def keeper(self) -> Identity:
        """The only maintainer."""
        return load(self.home.maintainer_key(NAME))

    @property
    def log(self) -> str:
        """Name of its log."""
        return self.keeper.public_key.hex()

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """Parameters of each block, by model root."""
        known = Manifests(self.signed, NoticeBoard(self.signed), self.home.pins)
        known.load()
        return dict(known.blocks)

    @cached_property
    def rules(self) -> Rulebook:
        """How statements of this grid are read."""
        return Rulebook(self.signed, self.sizes)

    @cached_property
    def scribe(self) -> Scribe:
        """Who writes them."""
        entry = self.signed.charter.models[0]
        return Scribe(self.signed, [self.keeper], entry, self.sizes[entry.root])

    @property
    def path(self) -> Path:
        """Of the SQLite file."""
        return self.home.folder(NAME) / "ledger.sqlite"

    @property
    def url(self) -> str:
        """Where the keeper's ledger lies."""
        return self.home.ledger_url(NAME)

    def found(self) -> None:
        """Found the grid, unless it is there."""
        if not self.home.folder(NAME).exists():
            flags = ("--name", NAME, "--model", "demo", "--open", "--ledger", "--starter", "0", *_listening())
            done = gridllm(self.folder, "bootstrap", "init", *flags, cold=True)
            if done.returncode:
                raise RuntimeError(done.stderr)

    def write(self, count: int, workers: int) -> dict[str, float]:
        """Bring the log to ``count`` statements, without the keeper's decisions → what it took, seconds."""
        engine = open_engine(self.url)
        migrate(engine)
        store = LedgerStore(engine, starter=self.signed.charter.economy.starter)
        held = store.sizes().get(self.log, 0)
        segments = range(held // SEGMENT, -(-count // SEGMENT))
        self.scribe, self.keeper  # noqa: B018  # before the processes are forked
        began, storing_s = time.perf_counter(), 0.0
        global _books
        _books = self
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for raws in pool.imap(_segment, segments):
                at = time.perf_counter()
                for start in range(0, len(raws), AT_ONCE):
                    with store.write(self.log, time.time()) as batch:
                        batch.mirror([entry_in(raw) for raw in raws[start : start + AT_ONCE]])
                storing_s += time.perf_counter() - at
                print(f"{store.sizes()[self.log]} statements, load {os.getloadavg()[0]:.1f}", flush=True)
        self.sign_head(store)
        engine.dispose()
        return {"seconds": time.perf_counter() - began, "storing_s": storing_s, "load": os.getloadavg()[0]}

    def sign_head(self, store: LedgerStore) -> None:
        """As the keeper does from time to time."""
        with store.write(self.log, time.time()) as batch:
            fields = {"grid": self.signed.grid, "keeper": self.log, "size": batch.size, "root": batch.root().hex()}
            batch.save_head(sign_head(Head(issued=int(time.time()), **fields), self.keeper))


_books: Books | None = None  # of the processes that write


def _segment(number: int) -> list[bytes]:
    if _books is None:
        raise RuntimeError("Nobody said which grid this is for.")
    os.nice(5)
    rows = traffic(_books.signed, _books.log, SEGMENT, seed=number, scribe=_books.scribe)
    return [entry.raw for entry in rows]


def entry_in(raw: bytes) -> Entry:
    """As ``Rulebook.read`` would make it, without checking anything."""
    envelope = json.loads(raw)
    model = MODELS[envelope["payloadType"]]
    said: Any = model.model_validate_json(base64.b64decode(envelope["payload"]))
    return Entry(raw, said, b"" if isinstance(said, OnTab) else id_of(said))
