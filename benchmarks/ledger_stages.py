"""Where a keeper's time goes: each stage's own time, without that of stages it calls."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from securesystemslib.signer._key import SSlibKey
from sqlalchemy import Connection, Engine

from gridllm.ledger.store.batch import Batch
from gridllm.ledger.store.kept_tiles import KeptTiles
from gridllm_bootstrap.keeping import intake
from gridllm_bootstrap.keeping.decisions import Clerk
from gridllm_bootstrap.keeping.writing import Writer


class Stages:
    """Clocks of one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, on that stage's clock."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._running.append(stage)
            try:
                return call(*args, **kwargs)
            finally:
                self._turn()
                self._running.pop()

        return run

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


@contextmanager
def watched(engine: Engine) -> Iterator[Stages]:
    """Clocks on all that a keeper does with statements, as long as the block lasts."""
    stages = Stages()
    places: list[tuple[Any, str, str]] = [
        (intake, "read_all", "parse, prices"),
        (SSlibKey, "verify_signature", "Ed25519"),
        (Clerk, "take", "decide, fold"),
        (Batch, "load", "rows"),
        (Batch, "save", "rows"),
        (Batch, "_grow", "tiles"),
        (KeptTiles, "save", "tiles"),
        (Writer, "_sign", "head"),
        (Connection, "execute", "SQL"),
        (engine.dialect, "do_commit", "commit"),
    ]
    with ExitStack() as stack:
        for owner, name, stage in places:
            stack.enter_context(mock.patch.object(owner, name, stages.timed(stage, getattr(owner, name))))
        yield stages
