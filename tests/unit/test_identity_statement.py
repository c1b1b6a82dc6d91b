"""Statements: what was signed comes back, anything else is refused."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from gridllm.errors import StatementError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import MAX_STATEMENT_BYTES, read_unverified, sign_statement, verify_statement

TYPE = "application/vnd.gridllm.test+json"
PEOPLE = [Identity.ephemeral() for _ in range(4)]
KEYS = [person.public_key for person in PEOPLE]


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: str
    number: int = 0


def edited(raw: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(raw) | changes).encode()


@given(st.text(max_size=500).filter(lambda text: text.isprintable()), st.integers(-(2**60), 2**60))
@settings(max_examples=30, deadline=None)
def test_round_trip(text: str, number: int) -> None:
    note = Note(text=text, number=number)
    assert verify_statement(sign_statement(note, TYPE, PEOPLE[:1]), Note, TYPE, KEYS[:1], 1) == note


@given(st.sets(st.integers(0, 3)), st.sets(st.integers(0, 3), min_size=1), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_threshold(signers: set[int], trusted: set[int], threshold: int) -> None:
    raw = sign_statement(Note(text="x"), TYPE, [PEOPLE[i] for i in signers])
    keys = [KEYS[i] for i in trusted]
    if signers and len(signers & trusted) >= threshold:
        assert verify_statement(raw, Note, TYPE, keys, threshold).text == "x"
    else:
        with pytest.raises(StatementError):
            verify_statement(raw, Note, TYPE, keys, threshold)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_flipped_bit_changes_the_meaning(data: st.DataObject) -> None:
    note = Note(text="pay 100", number=7)
    raw = bytearray(sign_statement(note, TYPE, PEOPLE[:1]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(StatementError):
        assert verify_statement(bytes(raw), Note, TYPE, KEYS[:1], 1) == note  # a bit that base64 ignores


@given(st.binary(max_size=300))
def test_garbage(raw: bytes) -> None:
    with pytest.raises(StatementError):
        verify_statement(raw, Note, TYPE, KEYS, 1)


def test_one_key_listed_twice_counts_once() -> None:
    raw = sign_statement(Note(text="x"), TYPE, PEOPLE[:1])
    with pytest.raises(StatementError, match="threshold of 2"):
        verify_statement(raw, Note, TYPE, [KEYS[0], KEYS[0]], 2)


def test_one_signature_listed_twice_counts_once() -> None:
    raw = sign_statement(Note(text="x"), TYPE, PEOPLE[:1])
    doubled = edited(raw, signatures=json.loads(raw)["signatures"] * 2)
    with pytest.raises(StatementError, match="DSSE"):
        verify_statement(doubled, Note, TYPE, KEYS[:2], 2)


def test_a_signature_under_another_key_id() -> None:
    raw = sign_statement(Note(text="x"), TYPE, PEOPLE[:1])
    signature = json.loads(raw)["signatures"][0] | {"keyid": KEYS[1].hex()}
    with pytest.raises(StatementError, match="forged"):
        verify_statement(edited(raw, signatures=[signature]), Note, TYPE, KEYS[:2], 1)


def test_another_type_is_another_statement() -> None:
    raw = sign_statement(Note(text="x"), TYPE, PEOPLE[:1])
    with pytest.raises(StatementError, match="is of type"):
        verify_statement(raw, Note, "application/vnd.gridllm.other+json", KEYS[:1], 1)
    with pytest.raises(StatementError, match="forged"):
        verify_statement(edited(raw, payloadType="other"), Note, "other", KEYS[:1], 1)


def test_payload_replaced() -> None:
    raw = sign_statement(Note(text="x"), TYPE, PEOPLE[:1])
    payload = base64.b64encode(b'{"text":"y","number":0}').decode()
    with pytest.raises(StatementError, match="forged"):
        verify_statement(edited(raw, payload=payload), Note, TYPE, KEYS[:1], 1)


def test_a_well_signed_but_unknown_field_is_refused() -> None:
    class Wider(Note):
        extra: str = "surprise"

    raw = sign_statement(Wider(text="x"), TYPE, PEOPLE[:1])
    with pytest.raises(StatementError, match="extra"):
        verify_statement(raw, Note, TYPE, KEYS[:1], 1)


def test_size_caps() -> None:
    with pytest.raises(StatementError, match="exceeds the cap"):
        sign_statement(Note(text="x" * MAX_STATEMENT_BYTES), TYPE, PEOPLE[:1])
    with pytest.raises(StatementError, match="exceeds the cap"):
        verify_statement(b" " * (MAX_STATEMENT_BYTES + 1), Note, TYPE, KEYS[:1], 1)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(StatementError):
        verify_statement(b"[" * 60000, Note, TYPE, KEYS[:1], 1)


def test_read_unverified_gives_the_signed_bytes() -> None:
    raw = sign_statement(Note(text="x", number=1), TYPE, PEOPLE[:1])
    note, payload = read_unverified(raw, Note, TYPE)
    assert payload == b'{"number":1,"text":"x"}'
    assert note == Note(text="x", number=1)
