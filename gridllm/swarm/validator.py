"""Who may write what into the DHT: every record has an owner, who signed it; nobody else can replace it.

Rules, checked by whoever stores a record and again by whoever reads it:

1. The subkey is ``<public key in hex>|<name>``; a value without a subkey is refused (it would hide everyone's).
2. The value ends in that key's Ed25519 signature over key, subkey, expiration and value.
3. It expires within an hour: nothing can be parked in the directory.
4. It is at most ``MAX_RECORD_BYTES`` long.

Subkey and value are in the DHT's own encoding (msgpack text and bytes), which is what storing peers see.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from gridllm.errors import StatementError, UsageError
from gridllm.identity.keys import Identity, peer_of, public_key_of, verify
from gridllm.ids import PeerId
from gridllm.wire.record import MAX_RECORD_BYTES
from gridllm.wire.strict import UNPARSABLE

SIGNATURE_BYTES: Final = 64
MAX_AHEAD_S: Final = 3600.0
MAX_NAME_CHARS: Final = 64
KEY_HEX_CHARS: Final = 64
_DOMAIN: Final = b"gridllm dht record v1\0"  # a signature made for a record is good for nothing else
_lengths = struct.Struct("!IId")  # of key and subkey, bytes; expiration, Unix time

_text = msgspec.msgpack.Decoder(str)
_bytes = msgspec.msgpack.Decoder(bytes)


@dataclass(frozen=True, slots=True)
class Owned:
    """A record whose rules have been checked."""

    owner: PeerId
    name: str
    value: bytes


def subkey_of(identity: Identity, name: str) -> str:
    """The subkey under which ``identity`` may store.

    Raises:
        UsageError: the name is empty or longer than ``MAX_NAME_CHARS``.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise UsageError(f"A record's name has 1 to {MAX_NAME_CHARS} characters, not {len(name)}.")
    return f"{identity.public_key.hex()}|{name}"


def sign_record(identity: Identity, key: bytes, subkey: bytes, value: bytes, expires_at: float) -> bytes:
    """``value`` with the owner's signature behind it."""
    return value + identity.sign(_message(key, subkey, value, expires_at))


def verify_record(key: bytes, subkey: bytes, signed: bytes, expires_at: float, *, now: float) -> Owned:
    """Check a record against the rules. One that has expired passes: storage drops those by itself.

    Raises:
        StatementError: names the rule that it breaks.
    """
    if not expires_at <= now + MAX_AHEAD_S:  # written so that NaN fails, too
        raise StatementError(f"A record expires {expires_at - now:.0f} s ahead; at most {MAX_AHEAD_S:.0f} are allowed.")
    public_key, name = _parse_subkey(subkey)
    packed, signature = signed[:-SIGNATURE_BYTES], signed[-SIGNATURE_BYTES:]
    value = _parse_value(packed)
    _verify_cached(public_key, signature, _message(key, subkey, packed, expires_at))
    return Owned(peer_of(public_key), name, value)


def split_subkey(subkey: str) -> tuple[PeerId, str]:
    """Owner and name of a subkey.

    Raises:
        StatementError: it is not ``<public key in hex>|<name>``.
    """
    hexed, bar, name = subkey[:KEY_HEX_CHARS], subkey[KEY_HEX_CHARS : KEY_HEX_CHARS + 1], subkey[KEY_HEX_CHARS + 1 :]
    try:
        public_key = bytes.fromhex(hexed)
    except ValueError:
        public_key = b""
    # One spelling only: upper case or blanks would give one owner many subkeys of the same meaning.
    if public_key.hex() != hexed or len(public_key) != 32 or bar != "|" or not 0 < len(name) <= MAX_NAME_CHARS:
        raise StatementError(f"The subkey {subkey[:80]!r} names no owner; it must be <public key in hex>|<name>.")
    return peer_of(public_key), name


def _parse_subkey(subkey: bytes) -> tuple[bytes, str]:
    try:
        owner, name = split_subkey(_text.decode(subkey))
    except UNPARSABLE as error:  # a plain value has no text here
        raise StatementError("A record has no owner in its subkey; plain values are not allowed.") from error
    return public_key_of(owner), name


def _parse_value(packed: bytes) -> bytes:
    if len(packed) > MAX_RECORD_BYTES + 5:  # msgpack puts up to 5 bytes in front
        raise StatementError(f"A record of {len(packed)} bytes exceeds the limit of {MAX_RECORD_BYTES}.")
    try:
        value = _bytes.decode(packed)
    except UNPARSABLE as error:
        raise StatementError("A record's value is not a byte string followed by a signature.") from error
    if len(value) > MAX_RECORD_BYTES:
        raise StatementError(f"A record of {len(value)} bytes exceeds the limit of {MAX_RECORD_BYTES}.")
    return value


def _message(key: bytes, subkey: bytes, value: bytes, expires_at: float) -> bytes:
    return b"".join((_DOMAIN, _lengths.pack(len(key), len(subkey), expires_at), key, subkey, value))


@functools.lru_cache(maxsize=2048)
def _verify_cached(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Replicas and refreshes bring the same record again and again; a failure raises and is not remembered."""
    verify(public_key, signature, message)
