"""Charter and manifests over the swarm. Every member serves both, so nothing central is needed once a grid runs.

Both prove themselves (signatures; a digest), so it does not matter which peer they come from.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
from collections.abc import Callable, Mapping
from typing import Final

from gridllm.charter.document import SignedCharter, verify_charter
from gridllm.errors import CallTimeout, GridError, Malformed, ModelError, WireError, WrongModel
from gridllm.ids import ModelRoot, PeerId
from gridllm.swarm.interface import Swarm

log = logging.getLogger(__name__)

CHARTER_CALL: Final = "gridllm.charter"  # request: empty; answer: the DSSE envelope
MANIFEST_CALL: Final = "gridllm.manifest"  # request: root, offset; answer: total size, then one piece
PIECE_BYTES: Final = 512 * 1024  # calls must stay under 1 MB
MAX_MANIFEST_BYTES: Final = 32 * 1024 * 1024  # a 100 000-tensor model needs about 15 MB
WHOLE_S: Final = 60.0  # for all pieces of one peer: who sends slower keeps others, who have it too, from being asked

_request = struct.Struct("!64sQ")  # root in hex, offset in bytes
_answer = struct.Struct("!Q")  # size of the whole manifest in bytes


async def fetch_charter(swarm: Swarm, peer: PeerId, *, timeout_s: float = 5.0) -> SignedCharter:
    """Ask ``peer`` for its grid's charter and verify it.

    Raises:
        CharterError: what it sent is no charter, or forged.
        SwarmError, Refusal: the peer did not answer, or does not serve a charter.
    """
    return verify_charter(await swarm.call(peer, CHARTER_CALL, b"", timeout_s=timeout_s))


async def fetch_manifest(swarm: Swarm, peer: PeerId, root: ModelRoot, *, timeout_s: float = 5.0) -> bytes:
    """Ask ``peer`` for the manifest of a model, piece by piece, and check it against its root.

    Raises:
        ModelError: what came does not have that digest.
        WireError: an answer that is malformed, or a manifest above ``MAX_MANIFEST_BYTES``.
        WrongModel: the peer does not know the model.
        SwarmError: the peer did not answer within ``timeout_s`` (for each piece), or ``WHOLE_S`` (for all).
    """
    try:
        async with asyncio.timeout(WHOLE_S):
            manifest = await _pieces(swarm, peer, root, timeout_s)
    except TimeoutError as error:
        raise CallTimeout(
            f"Peer {peer} did not send all of the manifest {root[:16]}… within {WHOLE_S:g} s; ask another."
        ) from error
    digest = hashlib.sha256(manifest).hexdigest()
    if digest != root:
        raise ModelError(f"Peer {peer} sent a manifest with digest {digest[:16]}… where {root[:16]}… was asked for.")
    return manifest


async def _pieces(swarm: Swarm, peer: PeerId, root: ModelRoot, timeout_s: float) -> bytes:
    manifest = bytearray()
    while True:
        request = _request.pack(root.encode("ascii"), len(manifest))
        answer = await swarm.call(peer, MANIFEST_CALL, request, timeout_s=timeout_s)
        piece = answer[_answer.size :]
        size = _answer.unpack_from(answer)[0] if len(answer) >= _answer.size else -1
        if not len(manifest) + len(piece) <= size <= MAX_MANIFEST_BYTES or (not piece and len(manifest) < size):
            raise WireError(f"Peer {peer} sent a malformed piece of a manifest ({len(piece)} bytes of {size}).")
        manifest += piece
        if len(manifest) == size:
            return bytes(manifest)


async def ask_for_manifest(
    swarm: Swarm, peers: Mapping[PeerId, tuple[str, ...]], root: ModelRoot, *, timeout_s: float = 5.0
) -> bytes | None:
    """The manifest of a model from the first of ``peers`` (by their addresses) that has it; None: nobody does."""
    for peer, addresses in peers.items():
        if peer == swarm.peer:
            continue
        try:
            await swarm.connect(peer, addresses, timeout_s=timeout_s)
            return await fetch_manifest(swarm, peer, root, timeout_s=timeout_s)
        except GridError as error:
            log.info("Peer %s did not send the manifest: %s", peer, error)
    return None


async def serve_charter(
    swarm: Swarm,
    raw: bytes,
    manifests: Mapping[ModelRoot, bytes],
    may: Callable[[PeerId, ModelRoot], bool] = lambda _peer, _root: True,
) -> None:
    """Answer both calls from now on.

    Args:
        manifests: looked at on each call, so it may grow.
        may: whether that peer may have that model's manifest; to others it is as if it were not here.
    """

    async def answer_charter(_peer: PeerId, _payload: bytes) -> bytes:
        return raw

    async def answer_manifest(peer: PeerId, payload: bytes) -> bytes:
        try:
            name, offset = _request.unpack(payload)
            root = ModelRoot(name.decode("ascii"))
        except (struct.error, UnicodeDecodeError) as error:
            raise Malformed(f"A request for a manifest has {_request.size} bytes, not {len(payload)}.") from error
        manifest = manifests.get(root) if may(peer, root) else None
        if manifest is None:
            raise WrongModel(f"This peer has no manifest of the model {root[:16]}…; ask another.")
        return _answer.pack(len(manifest)) + manifest[offset : offset + PIECE_BYTES]

    await swarm.serve_calls(CHARTER_CALL, answer_charter)
    await swarm.serve_calls(MANIFEST_CALL, answer_manifest)
