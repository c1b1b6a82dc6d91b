"""Grants as maintainers type them."""

from __future__ import annotations

import pytest

from gridllm.errors import UsageError
from gridllm.identity.keys import Identity
from gridllm_bootstrap.notices.grants import grant_of
from tests.ledgers import hex_of, paid_grid

OWNER = Identity.ephemeral()


@pytest.mark.parametrize("to", [OWNER.peer, hex_of(OWNER), hex_of(OWNER).upper()], ids=["peer", "key", "KEY"])
def test_an_account_is_named_by_its_peer_id_or_its_key(to: str) -> None:
    assert grant_of(paid_grid(), to, 5, "For the tests.").account == hex_of(OWNER)


@pytest.mark.parametrize("to", ["", "somebody", hex_of(OWNER)[:-1], "g" * 64], ids=["", "name", "short", "no hex"])
def test_who_names_nobody_is_told_how_to(to: str) -> None:
    with pytest.raises(UsageError, match="is no account; give a peer id .* as gridllm id shows"):
        grant_of(paid_grid(), to, 5, "For the tests.")
