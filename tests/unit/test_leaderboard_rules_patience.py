"""How long rules wait for a verdict: those of before that was a field are what they were, to the byte."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from gridllm.charter.contest import PATIENCE_S, RULES_TYPE, Rules, TaskRule
from gridllm.identity.statement import read_unverified, sign_statement
from gridllm_leaderboard.statements import id_of
from gridllm_leaderboard.wishes import rules_of
from tests.unit.contests import BOARD

OLD = Rules(
    grid="a1" * 32,
    serial=3,
    issued=1_800_000_000,
    account="b2" * 32,
    graders=("c3" * 32, "d4" * 32),
    quorum=2,
    tasks=(TaskRule(name="sums", kind="choice", commitment="cd" * 32, items=20),),
    fee=5,
)
OLD_ID = "2fd466da1aa98dc18fba2d77cb5b87c466c248301dfb7fa8e655020ad5a55583"
"""As the GridLLM before told it: locks name it."""


def test_rules_of_before_keep_their_id_and_their_spelling() -> None:
    assert id_of(OLD) == OLD_ID and OLD.patience_s == PATIENCE_S
    raw = sign_statement(OLD, RULES_TYPE, [BOARD])
    read, payload = read_unverified(raw, Rules, RULES_TYPE)
    assert read == OLD and "patience_s" not in json.loads(payload)
    assert "patience_s" not in OLD.model_dump() and Rules.model_validate_json(OLD.model_dump_json()) == OLD


def test_another_patience_is_said_and_stays_when_rules_change() -> None:
    changed = rules_of(OLD.grid, OLD.account, OLD, {"patience_s": 3600}, [], 1_800_000_001)
    assert changed.patience_s == 3600 and '"patience_s":3600' in changed.model_dump_json()
    later = rules_of(OLD.grid, OLD.account, changed, {"fee": 6}, [], 1_800_000_002)
    assert (later.patience_s, later.fee, later.serial) == (3600, 6, 5)
    usual = rules_of(OLD.grid, OLD.account, later, {"patience_s": PATIENCE_S}, [], 1_800_000_003)
    assert usual.patience_s == PATIENCE_S


@pytest.mark.parametrize("patience_s", [59, 366 * 86400 + 1])
def test_no_patience_and_endless_patience_are_none(patience_s: int) -> None:
    with pytest.raises(ValidationError):
        Rules.model_validate(OLD.model_dump() | {"patience_s": patience_s})
