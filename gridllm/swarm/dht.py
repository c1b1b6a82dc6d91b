"""Signed records in hivemind's DHT: its node serves and replicates, our rules decide, our lookup reads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gridllm.errors import StatementError, Unreachable
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.swarm.hivemind_parts import DHTID, DHTNode, DHTRecord, PeerID, RecordValidatorBase
from gridllm.swarm.interface import Stored
from gridllm.swarm.lookup import LAG_S, Lookup
from gridllm.swarm.storage import bound
from gridllm.swarm.validator import sign_record, subkey_of, verify_record

log = logging.getLogger(__name__)

RPC_TIMEOUT_S: Final = 2.0  # of one request to one peer
REPLICAS: Final = 5  # peers that hold a record


class OwnerValidator(RecordValidatorBase):
    """Checks what others store here or answer; records are signed before hivemind sees them."""

    def validate(self, record: DHTRecord) -> bool:
        """Whether the record keeps the rules; hivemind drops it otherwise."""
        try:
            verify_record(record.key, record.subkey, record.value, record.expiration_time, now=time.time())
        except StatementError as error:
            log.debug("Refused a record: %s", error)
            return False
        return True


class Records:
    """This participant's access to the records of all."""

    def __init__(self, node: DHTNode, identity: Identity, *, namespace: str, client_only: bool) -> None:
        self._protocol = node.protocol
        self._identity = identity
        self._namespace = namespace
        self._client_only = client_only
        self._lookup = Lookup(node.protocol)
        self._late: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls, p2p: Any, identity: Identity, reached: Sequence[PeerId], *, namespace: str, client_only: bool
    ) -> Records:
        """A DHT node in the running loop, introduced to the peers that are connected already."""
        node = await DHTNode.create(
            p2p=p2p,
            initial_peers=[f"/p2p/{peer}" for peer in reached],
            wait_timeout=RPC_TIMEOUT_S,
            bootstrap_timeout=RPC_TIMEOUT_S,
            client_mode=client_only,
            num_replicas=REPLICAS,
            record_validator=OwnerValidator(),
            ensure_bootstrap_success=False,
            strict=False,
        )
        bound(node.protocol)
        return cls(node, identity, namespace=namespace, client_only=client_only)

    @property
    def lonely(self) -> bool:
        """Whether no other member is known at present."""
        return not self._protocol.routing_table.peer_id_to_uid

    async def greet(self, peer: PeerId) -> None:
        """Make ourselves known to a member; does nothing when it does not answer."""
        await self._protocol.call_ping(PeerID.from_base58(peer))

    async def store(self, key: str, name: str, value: bytes, expires_at: float) -> bool:
        """See ``interface.Swarm``: returns when one peer holds the record; the other replicas follow."""
        key_id = self._key_id(key)
        subkey, packed = subkey_of(self._identity, name), msgspec.msgpack.encode(value)
        signed = sign_record(self._identity, key_id.to_bytes(), msgspec.msgpack.encode(subkey), packed, expires_at)
        found = await self._lookup.find(key_id)
        kept = self._keep(key_id, subkey, signed, expires_at)
        calls = {
            asyncio.create_task(self._protocol.call_store(peer, [key_id], [signed], [expires_at], subkeys=[subkey]))
            for peer in found.nearest[:REPLICAS]
        }
        if not calls:
            return kept and not found.known
        return await self._accepted(calls)

    async def fetch(self, key: str) -> dict[tuple[PeerId, str], Stored]:
        """See ``interface.Swarm``.

        Raises:
            Unreachable: members are known, but none answered, and nothing is held here.
        """
        key_id, now = self._key_id(key), time.time()
        found = await self._lookup.find(key_id)
        if found.known and not found.nearest and not found.records:
            raise Unreachable(f"None of the {found.known} members known here answered; is the network up?")
        records = {}
        for subkey, (signed, expires_at) in found.records.items():
            if expires_at > now:
                packed = msgspec.msgpack.encode(subkey)
                owned = verify_record(key_id.to_bytes(), packed, signed, expires_at, now=now)
                records[owned.owner, owned.name] = Stored(owned.owner, owned.value, expires_at)
        return records

    def _key_id(self, key: str) -> Any:
        return DHTID.generate(source=f"{self._namespace}/{key}")

    def _keep(self, key_id: Any, subkey: str, signed: bytes, expires_at: float) -> bool:
        """Hold a copy ourselves: we serve it as well as anyone, and it survives the loss of all others."""
        record = DHTRecord(key_id.to_bytes(), msgspec.msgpack.encode(subkey), signed, expires_at)
        if self._client_only or not self._protocol.record_validator.validate(record):
            return False
        return bool(self._protocol.storage.store(key_id, signed, expires_at, subkey=subkey))

    async def _accepted(self, calls: set[asyncio.Task[Any]]) -> bool:
        """Whether any of ``calls`` stored the record; those that lag go on in the background."""
        accepted = False
        while calls:
            done, calls = await asyncio.wait(
                calls, timeout=LAG_S if accepted else None, return_when=asyncio.FIRST_COMPLETED
            )
            accepted = accepted or any(task.result() and any(task.result()) for task in done)
            if not done:
                break
        for task in calls:
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        return accepted
