"""Hivemind's DHT, bound to our record rules."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from gridllm.errors import StatementError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.hivemind_parts import DHTNode, DHTRecord, PeerID, RecordValidatorBase, ValueWithExpiration
from gridllm.swarm.validator import MAX_AHEAD_S, SIGNATURE_BYTES, sign_record, verify_record

log = logging.getLogger(__name__)

RPC_TIMEOUT_S: Final = 2.0  # of one request to one peer


class OwnerValidator(RecordValidatorBase):
    """Signs what this node stores and checks what others store here or answer."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def sign_value(self, record: DHTRecord) -> bytes:
        """``record.value`` with our signature behind it."""
        return sign_record(self._identity, record.key, record.subkey, record.value, record.expiration_time)

    def validate(self, record: DHTRecord) -> bool:
        """Whether the record keeps the rules; hivemind drops it otherwise."""
        try:
            verify_record(record.key, record.subkey, record.value, record.expiration_time, now=time.time())
        except StatementError as error:
            log.debug("Refused a record: %s", error)
            return False
        return True

    def strip_value(self, record: DHTRecord) -> bytes:
        """The value without its signature."""
        return record.value[:-SIGNATURE_BYTES]


async def open_dht(p2p: Any, reached: Sequence[PeerId], validator: OwnerValidator, *, client_only: bool) -> DHTNode:
    """A DHT node in the running loop, introduced to the peers already connected.

    Hivemind's caches are off: they answer with stale copies, and the directory always asks for the latest.
    """
    node = await DHTNode.create(
        p2p=p2p,
        initial_peers=[f"/p2p/{peer}" for peer in reached],
        wait_timeout=RPC_TIMEOUT_S,
        bootstrap_timeout=RPC_TIMEOUT_S,
        client_mode=client_only,
        record_validator=validator,
        ensure_bootstrap_success=False,
        strict=False,
        cache_locally=False,
        cache_nearest=0,
        cache_on_store=False,
        cache_refresh_before_expiry=0,
        reuse_get_requests=False,
    )
    _distrust_expirations(node)
    return node


def _distrust_expirations(node: DHTNode) -> None:
    """Keep one peer from ending a search early: an answer that "never expires" counts as the last word in hivemind."""
    call_find = node.protocol.call_find

    async def checked(peer: PeerID, keys: Any) -> Any:
        answers = await call_find(peer, keys)
        if not answers:
            return answers
        latest = time.time() + MAX_AHEAD_S
        return {
            key: (found and ValueWithExpiration(found.value, min(found.expiration_time, latest)), nearest)
            for key, (found, nearest) in answers.items()
        }

    node.protocol.call_find = checked
