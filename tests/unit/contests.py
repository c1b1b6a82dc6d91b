"""Notices about a leaderboard, signed as maintainers would."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from gridllm.charter.contest import CROWN_TYPE, LISTING_TYPE, RULES_TYPE, Crown, Listing, Rules, TaskRule
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from tests.charters import ENTRY, MAINTAINERS

NOW = 1_800_000_000
BOARD = Identity.ephemeral()
"""The leaderboard's own key."""


def model(name: str, **changes: Any) -> ModelEntry:
    """A submitted model; its root follows from its name unless ``changes`` say it."""
    fields = {"name": name, "root": hashlib.sha256(name.encode()).hexdigest(), "source": "local"}
    return ModelEntry(**ENTRY.model_dump() | fields | changes)


def rules(signed: SignedCharter, serial: int = 1, signers: Sequence[Identity] = (), **changes: Any) -> bytes:
    """The leaderboard's rules."""
    account = BOARD.public_key.hex()
    task = TaskRule(name="sums", kind="choice", commitment="cd" * 32, items=20)
    fields = {"account": account, "graders": (account,), "tasks": (task,)}
    said = Rules(**{"grid": signed.grid, "serial": serial, "issued": NOW} | fields | changes)
    return sign_statement(said, RULES_TYPE, signers or MAINTAINERS[: signed.charter.threshold])


def listing(
    signed: SignedCharter,
    entry: ModelEntry,
    issued: int = NOW,
    contribution: int = 0,
    signers: Sequence[Identity] = (),
    *,
    withdrawn: bool = False,
) -> bytes:
    """The model may be served."""
    said = Listing(
        grid=signed.grid,
        model=entry,
        submission="5b" * 32,
        contribution=contribution,
        withdrawn=withdrawn,
        issued=issued,
    )
    return sign_statement(said, LISTING_TYPE, signers or MAINTAINERS[: signed.charter.threshold])


def crown(signed: SignedCharter, entry: ModelEntry, serial: int = 1, signers: Sequence[Identity] = ()) -> bytes:
    """The model is champion."""
    said = Crown(
        grid=signed.grid, serial=serial, root=entry.root, submission="5b" * 32, verdict="7e" * 32, issued=NOW + serial
    )
    return sign_statement(said, CROWN_TYPE, signers or MAINTAINERS[: signed.charter.threshold])
