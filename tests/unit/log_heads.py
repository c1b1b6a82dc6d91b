"""Heads of logs, sound and signed, to alter in tests."""

from __future__ import annotations

from gridllm.charter.document import sign_charter
from gridllm.identity.keys import Identity
from gridllm.ledger.log.heads import Head, sign_head
from gridllm.ledger.log.tree import root_of
from tests.charters import MAINTAINERS, charter
from tests.unit.naive_log import leaf, leaves, node_source

SIGNED = sign_charter(charter(), MAINTAINERS[:2])
OTHER_GRID = sign_charter(charter(name="other"), MAINTAINERS[:2])
KEEPER, OTHER, THIRD = MAINTAINERS
STRANGER = Identity.ephemeral()
NOW = 1_800_000_000

LEAVES = leaves(200)
NODE = node_source(LEAVES)


def head(size: int = 7, digests: list[bytes] = LEAVES, keeper: Identity = KEEPER, **changes: object) -> Head:
    fields: dict[str, object] = {
        "grid": SIGNED.grid,
        "keeper": keeper.public_key.hex(),
        "size": size,
        "root": root_of(size, node_source(digests)).hex(),
        "issued": NOW,
    }
    return Head.model_validate(fields | changes)


def signed_head(size: int = 7, digests: list[bytes] = LEAVES, keeper: Identity = KEEPER, **changes: object) -> bytes:
    return sign_head(head(size, digests, keeper, **changes), keeper)


def rewritten(at: int, digests: list[bytes] = LEAVES) -> list[bytes]:
    """The log with entry ``at`` replaced."""
    return [*digests[:at], leaf(10**6 + at), *digests[at + 1 :]]
