"""A sound charter to alter in tests."""

from __future__ import annotations

from gridllm.charter.document import Charter, ModelEntry
from gridllm.identity.keys import Identity

MAINTAINERS = [Identity.ephemeral() for _ in range(3)]
ENTRY = ModelEntry(
    name="demo",
    root="ab" * 32,
    source="demo",
    blocks=8,
    parameters=1_000_000,
    hidden_size=128,
    dtype="float32",
)
PEER = Identity.ephemeral().peer


def charter(**changes: object) -> Charter:
    fields: dict[str, object] = {
        "name": "home",
        "maintainers": [m.public_key.hex() for m in MAINTAINERS],
        "threshold": 2,
        "first_peers": [f"/ip4/127.0.0.1/tcp/31337/p2p/{PEER}"],
        "models": [ENTRY],
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Charter.model_validate(fields | changes)
