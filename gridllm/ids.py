"""One type for each kind of id, so that a peer is never mistaken for a model."""

from typing import NewType

PeerId = NewType("PeerId", str)
"""libp2p peer id in base58 (``12D3Koo…``); carries the participant's Ed25519 public key."""

GridId = NewType("GridId", str)
"""Lower-case hex SHA-256 of the charter's signed payload."""

ModelRoot = NewType("ModelRoot", str)
"""Lower-case hex SHA-256 of a model's canonical manifest: the name peers agree on a model by."""

SessionId = NewType("SessionId", bytes)
"""16 random bytes chosen by the client; unique per (client, session)."""
