"""Only the owner of a record can write it, and only within bounds; by the rules alone, without a network."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import StatementError, UsageError
from gridllm.identity.keys import Identity
from gridllm.swarm.validator import (
    MAX_AHEAD_S,
    MAX_NAME_CHARS,
    SIGNATURE_BYTES,
    sign_record,
    split_subkey,
    subkey_of,
    verify_record,
)
from gridllm.wire.record import MAX_RECORD_BYTES

NOW = 1_800_000_000.0
ANNA, BERT = Identity.ephemeral(), Identity.ephemeral()
pack = msgspec.msgpack.encode


def record(
    owner: Identity, signer: Identity, value: bytes = b"value", expires_at: float = NOW + 30, key: bytes = b"key"
) -> tuple[bytes, bytes, bytes, float]:
    subkey = pack(subkey_of(owner, "node"))
    return key, subkey, sign_record(signer, key, subkey, pack(value), expires_at), expires_at


@given(value=st.binary(max_size=200), ahead=st.floats(-1e6, MAX_AHEAD_S - 1), key=st.binary(min_size=1, max_size=40))
def test_the_owners_record_passes_and_comes_back_whole(value: bytes, ahead: float, key: bytes) -> None:
    owned = verify_record(*record(ANNA, ANNA, value, NOW + ahead, key), now=NOW)
    assert (owned.owner, owned.name, owned.value) == (ANNA.peer, "node", value)


def test_nobody_writes_under_anothers_key() -> None:
    with pytest.raises(StatementError, match="does not verify"):
        verify_record(*record(ANNA, BERT), now=NOW)


@given(data=st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    key, subkey, signed, expires_at = record(ANNA, ANNA)
    part = data.draw(st.sampled_from(["key", "subkey", "signed"]))
    raw = bytearray({"key": key, "subkey": subkey, "signed": signed}[part])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = {"key": key, "subkey": subkey, "signed": signed} | {part: bytes(raw)}
    with pytest.raises(StatementError):
        verify_record(changed["key"], changed["subkey"], changed["signed"], expires_at, now=NOW)


def test_a_record_cannot_be_given_another_expiration_or_key() -> None:
    key, subkey, signed, expires_at = record(ANNA, ANNA)
    with pytest.raises(StatementError):
        verify_record(key, subkey, signed, expires_at + 1, now=NOW)
    with pytest.raises(StatementError):
        verify_record(b"another key", subkey, signed, expires_at, now=NOW)


@pytest.mark.parametrize("expires_at", [NOW + MAX_AHEAD_S + 1, math.inf, math.nan])
def test_nothing_can_be_parked(expires_at: float) -> None:
    with pytest.raises(StatementError, match="ahead"):
        verify_record(*record(ANNA, ANNA, expires_at=expires_at), now=NOW)


def test_size_is_capped() -> None:
    verify_record(*record(ANNA, ANNA, bytes(MAX_RECORD_BYTES)), now=NOW)
    with pytest.raises(StatementError, match="exceeds"):
        verify_record(*record(ANNA, ANNA, bytes(MAX_RECORD_BYTES + 1)), now=NOW)


@pytest.mark.parametrize("subkey", [pack(None), b"", pack(7), pack("node"), pack(b"x" * 70), b"\xc1", pack("ab" * 32)])
def test_values_without_an_owner_are_refused(subkey: bytes) -> None:
    signed = sign_record(ANNA, b"key", subkey, pack(b"value"), NOW + 30)
    with pytest.raises(StatementError, match="owner"):
        verify_record(b"key", subkey, signed, NOW + 30, now=NOW)


@pytest.mark.parametrize("value", [None, 5, "text", {"a": b"b"}, msgspec.msgpack.Ext(0x50, b"dictionary")])
def test_only_byte_strings_are_stored(value: object) -> None:
    subkey = pack(subkey_of(ANNA, "node"))
    signed = sign_record(ANNA, b"key", subkey, pack(value), NOW + 30)
    with pytest.raises(StatementError, match="byte string"):
        verify_record(b"key", subkey, signed, NOW + 30, now=NOW)


@given(subkey=st.binary(max_size=200), signed=st.binary(max_size=200), expires_at=st.floats())
def test_garbage_is_refused_by_name(subkey: bytes, signed: bytes, expires_at: float) -> None:
    with pytest.raises(StatementError):
        verify_record(b"key", subkey, signed, expires_at, now=NOW)


def test_an_owner_has_one_spelling() -> None:
    subkey = subkey_of(ANNA, "node")
    assert split_subkey(subkey) == (ANNA.peer, "node")
    for other in (subkey.upper(), " " + subkey, subkey.replace("|", "/"), subkey[:-4], subkey + "x" * MAX_NAME_CHARS):
        with pytest.raises(StatementError):
            split_subkey(other)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_CHARS + 1)])
def test_names_are_short(name: str) -> None:
    with pytest.raises(UsageError):
        subkey_of(ANNA, name)


def test_the_signature_stands_at_the_end() -> None:
    _, _, signed, _ = record(ANNA, ANNA)
    assert signed[:-SIGNATURE_BYTES] == pack(b"value")
