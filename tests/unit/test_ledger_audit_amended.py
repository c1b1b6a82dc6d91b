"""Admission that the maintainers lifted: a keeper that paid nodes without certificates meanwhile did nothing wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.cli.ledger_files import always_admitted
from gridllm.identity.keys import Identity
from gridllm.ledger.audit import Wrong
from tests.certificates import SIGNERS, amendment
from tests.charters import charter
from tests.ledgers import hex_of
from tests.unit.test_ledger_audit import scene

OPEN, CLOSED = Admission(required=False), Admission(required=True)


async def test_who_was_paid_while_admission_was_lifted_names_nobody() -> None:
    payer, node = Identity.ephemeral(), Identity.ephemeral()
    async with scene(admission=True) as s:
        home, other = (s.a, s.b) if s.scribe.rules.home(hex_of(payer)) == s.a.key else (s.b, s.a)
        service = s.scribe.escrow(payer, node, 10**9), s.scribe.voucher(payer, node, decode=10)
        home.take([s.scribe.grant(payer, 10**12), *service])
        other.sign()
        s.exchange()
        await s.audit(admitted=False)
        with pytest.raises(Wrong, match="Unless the maintainers had lifted admission"):
            await s.audit()


@pytest.mark.parametrize(
    ("founded", "amended", "always"),
    [
        (CLOSED, [], True),
        (CLOSED, [(1, CLOSED)], True),
        (CLOSED, [(1, OPEN)], False),
        (CLOSED, [(1, OPEN), (2, CLOSED)], False),
        (OPEN, [(1, CLOSED)], False),
    ],
)
def test_what_the_notices_tell(
    founded: Admission, amended: list[tuple[int, Admission]], always: bool, tmp_path: Path
) -> None:
    signed = sign_charter(charter(admission=founded), SIGNERS)
    pins = Pins(tmp_path)
    pins.pin(signed)
    board = NoticeBoard(signed, pins.notices_path(signed))
    for serial, admission in amended:
        board.add(amendment(signed, admission, serial))
    assert always_admitted(signed, pins) is always
