"""Signed statements: a strict pydantic model in JSON, in a DSSE envelope, verified against a threshold of keys.

Everything that must outlive a connection is one: charter, certificate, voucher, grade. Anyone can verify one offline.
The type of the payload is signed along with it, so a signed voucher can never pass for a signed charter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer._key import SSlibKey
from securesystemslib.signer._signature import Signature

from gridllm.errors import StatementError
from gridllm.identity.fields import HexKey
from gridllm.identity.keys import Identity

MAX_STATEMENT_BYTES: Final = 64 * 1024
MAX_SIGNATURES: Final = 32

Payload = TypeVar("Payload", bound=BaseModel)


class _Signature(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keyid: HexKey  # whose signature this claims to be
    sig: Annotated[str, Field(min_length=86, max_length=88)]  # 64 bytes in base64


class _Envelope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    payload: Annotated[str, Field(max_length=MAX_STATEMENT_BYTES)]  # base64 of the signed bytes
    payloadType: Annotated[str, Field(max_length=128)]  # noqa: N815  # DSSE's spelling; signed along with the payload
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=MAX_SIGNATURES)]


def sign_statement(payload: BaseModel, payload_type: str, identities: Iterable[Identity]) -> bytes:
    """Sign ``payload`` with each identity → the DSSE envelope as JSON bytes.

    Raises:
        StatementError: the result would exceed ``MAX_STATEMENT_BYTES``.
    """
    body = json.dumps(payload.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    envelope = Envelope(body.encode("utf-8"), payload_type, {})
    for identity in identities:
        keyid = identity.public_key.hex()
        envelope.signatures[keyid] = Signature(keyid, identity.sign(envelope.pae()).hex())
    raw = json.dumps(envelope.to_dict(), separators=(",", ":")).encode("ascii")
    _check_size(raw)
    return raw


def verify_statement(
    raw: bytes, model: type[Payload], payload_type: str, keys: Sequence[bytes], threshold: int
) -> Payload:
    """The payload of ``raw``, once at least ``threshold`` different ``keys`` are known to have signed it.

    Raises:
        StatementError: oversized, malformed, of another type, signed by too few of ``keys``, or not a valid ``model``.
    """
    envelope = _open_envelope(raw, payload_type)
    distinct = {key.hex(): _verification_key(key) for key in keys}
    if not 1 <= threshold <= len(distinct):
        raise StatementError(
            f"A threshold of {threshold} signatures cannot be met with {len(distinct)} different keys."
        )
    try:
        envelope.verify(list(distinct.values()), threshold)
    except UnverifiedSignatureError as error:
        raise StatementError(
            f"The {payload_type} statement lacks valid signatures by {threshold} of the {len(distinct)} keys it "
            "needs: it is forged or was altered."
        ) from error
    return _parse_payload(envelope.payload, model, payload_type)


def join_signatures(raws: Sequence[bytes]) -> bytes:
    """One envelope with the signatures of all ``raws``, which must sign the same bytes; verifies nothing.

    Raises:
        StatementError: none given, malformed, or they sign different payloads.
    """
    envelopes = [_parse_envelope(raw) for raw in raws]
    if not envelopes:
        raise StatementError("There is no signature to join.")
    first = envelopes[0]
    for other in envelopes[1:]:
        if (other.payload, other.payload_type) != (first.payload, first.payload_type):
            raise StatementError("Two statements to be joined differ in what they say.")
        first.signatures.update(other.signatures)
    raw = json.dumps(first.to_dict(), separators=(",", ":")).encode("ascii")
    _check_size(raw)
    return raw


def only_signed_by(raw: bytes, keyids: Collection[str]) -> bytes:
    """The same statement without signatures by others than ``keyids`` (hex), in one fixed spelling; verifies nothing.

    Raises:
        StatementError: malformed.
    """
    envelope = _parse_envelope(raw)
    kept = {keyid: envelope.signatures[keyid] for keyid in sorted(envelope.signatures) if keyid in keyids}
    return json.dumps(Envelope(envelope.payload, envelope.payload_type, kept).to_dict(), separators=(",", ":")).encode()


def add_signature(raw: bytes, identity: Identity) -> bytes:
    """The same statement, byte for byte, with one signature more; verifies nothing.

    Raises:
        StatementError: malformed, or the result would exceed ``MAX_STATEMENT_BYTES``.
    """
    envelope = _parse_envelope(raw)
    keyid = identity.public_key.hex()
    envelope.signatures[keyid] = Signature(keyid, identity.sign(envelope.pae()).hex())
    signed = json.dumps(envelope.to_dict(), separators=(",", ":")).encode("ascii")
    _check_size(signed)
    return signed


def type_of(raw: bytes) -> str:
    """The payload type an envelope claims, WITHOUT any check.

    Raises:
        StatementError: malformed.
    """
    return str(_looked_at(raw).payload_type)


def read_unverified(raw: bytes, model: type[Payload], payload_type: str) -> tuple[Payload, bytes]:
    """Payload and its exact bytes, WITHOUT any check of signatures: to learn which keys a self-signed statement names.

    Raises:
        StatementError: oversized, malformed, of another type, or not a valid ``model``.
    """
    envelope = _open_envelope(raw, payload_type)
    return _parse_payload(envelope.payload, model, payload_type), envelope.payload


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_STATEMENT_BYTES:
        raise StatementError(f"A signed statement of {len(raw)} bytes exceeds the cap of {MAX_STATEMENT_BYTES} bytes.")


@lru_cache(maxsize=32)
def _looked_at(raw: bytes) -> Envelope:
    """The envelope, not to be changed: whose it is, what it says and whether that is true is asked in a row."""
    return _parse_envelope(raw)


def _open_envelope(raw: bytes, payload_type: str) -> Envelope:
    envelope = _looked_at(raw)
    if envelope.payload_type != payload_type:
        raise StatementError(f"A signed statement is of type {envelope.payload_type!r}, not {payload_type!r}.")
    return envelope


def _parse_envelope(raw: bytes) -> Envelope:
    _check_size(raw)
    try:
        parsed = _Envelope.model_validate_json(raw)
        envelope = Envelope.from_dict(parsed.model_dump())
    except ValidationError as error:
        raise StatementError(f"A signed statement is not a DSSE envelope: {_first_fault(error)}.") from error
    except ValueError as error:  # base64 that does not decode, or two signatures by one key
        raise StatementError(f"A signed statement is not a DSSE envelope: {error}.") from error
    return envelope


def _verification_key(public_key: bytes) -> SSlibKey:
    return SSlibKey(public_key.hex(), "ed25519", "ed25519", {"public": public_key.hex()})


def _parse_payload(payload: bytes, model: type[Payload], payload_type: str) -> Payload:
    try:
        return model.model_validate_json(payload, strict=True)
    except ValidationError as error:
        raise StatementError(f"The {payload_type} statement is not valid: {_first_fault(error)}.") from error


def _first_fault(error: ValidationError) -> str:
    """The first fault as ``field: what is wrong``, short enough for one sentence; strangers' values are left out."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}"[:300] if where else str(fault["msg"])[:300]
