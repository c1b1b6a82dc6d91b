"""What people read when a peer cannot be dialled: one line, without the transport's own frame."""

from __future__ import annotations

import pytest

from gridllm.swarm.faults import reason_of

DIAL = "Connect failed. msg=failed to dial: failed to dial 12D3KooW: all dials failed\n  * [/ip4/10.0.0.1/tcp/1] "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DIAL + "dial tcp4 0.0.0.0:2->10.0.0.1:1: connect: connection refused", "connection refused"),
        (DIAL + "dial backoff.", "dial backoff"),
        (
            DIAL + "dial backoff\n  * [/ip4/10.0.0.2/tcp/1] dial tcp4 10.0.0.2:1: i/o timeout\n"
            "  * [/ip4/10.0.0.3/tcp/1] dial backoff",
            "dial backoff, i/o timeout",
        ),
        ("protocols not\n supported. ", "protocols not supported"),
        ("", "RuntimeError"),
    ],
)
def test_reasons_are_one_line(text: str, says: str) -> None:
    assert reason_of(RuntimeError(text)) == says
