"""The charter proves itself: only its own maintainers' threshold makes it valid."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import ValidationError

from gridllm.charter.document import sign_charter, verify_charter
from gridllm.charter.minimums import Minimums
from gridllm.errors import CharterError
from gridllm.identity.keys import Identity
from tests.charters import ENTRY, MAINTAINERS, PEER, charter


def test_round_trip_and_id() -> None:
    signed = sign_charter(charter(), MAINTAINERS[:2])
    again = verify_charter(signed.raw)
    assert again == signed
    assert again.charter == charter()
    assert len(signed.grid) == 64


def test_the_id_depends_on_what_is_signed_not_on_who_signs() -> None:
    one = sign_charter(charter(), MAINTAINERS[:2])
    two = sign_charter(charter(), MAINTAINERS[1:])
    assert one.grid == two.grid
    assert sign_charter(charter(name="other"), MAINTAINERS).grid != one.grid


def test_too_few_signatures() -> None:
    with pytest.raises(CharterError, match="forged.*by 2 of its 3 maintainers"):
        sign_charter(charter(), MAINTAINERS[:1])


def test_a_strangers_signature_does_not_count() -> None:
    with pytest.raises(CharterError, match="forged"):
        sign_charter(charter(), [MAINTAINERS[0], Identity.ephemeral()])


def test_an_altered_charter_is_forged() -> None:
    envelope = json.loads(sign_charter(charter(), MAINTAINERS).raw)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["first_peers"] = [f"/ip4/6.6.6.6/tcp/1/p2p/{PEER}"]
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(CharterError, match="The charter of 'home' is forged"):
        verify_charter(json.dumps(envelope).encode())


@pytest.mark.parametrize("raw", [b"", b"{}", b"hello", b"\xff" * 100, b"[]"])
def test_no_charter(raw: bytes) -> None:
    with pytest.raises(CharterError, match="not a charter"):
        verify_charter(raw)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threshold": 4}, "exceeds 3"),
        ({"threshold": 0}, "greater than or equal to 1"),
        ({"maintainers": []}, "at least 1"),
        ({"maintainers": [MAINTAINERS[0].public_key.hex()] * 2}, "listed twice"),
        ({"maintainers": ["AB" * 32]}, "pattern"),
        ({"models": []}, "at least 1"),
        ({"models": [ENTRY, ENTRY]}, "one name"),
        ({"name": "../../etc/passwd"}, "pattern"),
        ({"name": ".hidden"}, "pattern"),
        ({"name": "a\n"}, "pattern"),
        ({"first_peers": ["/ip4/1.2.3.4/tcp/1"]}, "lacks the peer id"),
        ({"created": "2026-01-01T00:00:00"}, "time zone"),
        ({"created": "yesterday"}, "isoformat"),
        ({"surprise": 1}, "not permitted"),
    ],
)
def test_refused_fields(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        charter(**changes)


def test_model_by_name_root_or_default() -> None:
    other = ENTRY.model_copy(update={"name": "large", "root": "cd" * 32})
    both = charter(models=[ENTRY, other])
    assert both.model() is both.models[0]
    assert both.model("large").root == other.root
    assert both.model("cd" * 32).name == "large"
    with pytest.raises(CharterError, match="no model 'small'; it serves: demo, large"):
        both.model("small")


def test_minimums_ask_for_nothing_by_default() -> None:
    assert not charter().admission.required
    assert charter().admission.serve == Minimums()
