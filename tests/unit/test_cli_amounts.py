"""Amounts of credit on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridllm.cli.credit import app as credit
from gridllm.cli.main import named_command
from gridllm.errors import UsageError
from gridllm.identity.keys import Identity
from gridllm_bootstrap.cli import app as bootstrap
from tests.unit.ledger_desk import make_desk

FRIEND = Identity.ephemeral().peer


def test_an_amount_below_nought_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as an amount that cannot be; mistyped options are still told as such."""
    make_desk(tmp_path, monkeypatch)
    for command, words in (
        (named_command("credit", credit), ["send", FRIEND]),
        (named_command("bootstrap", bootstrap), ["grant", FRIEND, "--why", "x"]),
    ):
        for amount in ("-1", "-1.5"):
            with pytest.raises(UsageError, match=f"'{amount}' is not an amount of credit"):
                command.main([*words, amount], standalone_mode=False)
        with pytest.raises(Exception, match="No such option: --memmo"):
            command.main([*words, "1", "--memmo", "x"], standalone_mode=False)
