"""Who may have how much verified: strangers' first papers never take what vouchers of open sessions need."""

from __future__ import annotations

import pytest

from gridllm.errors import BadPayment, Full
from gridllm.identity.keys import Identity
from gridllm.node.counter.papers import Papers
from gridllm.node.counter.rates import ALL_BURST, ALL_PER_S, PEER_BURST, SPARE, Rates
from gridllm.wire.messages import Payment
from tests.ledgers import NOW, paid_grid, rulebook
from tests.unit.node_paying import Clock


def taken(rates: Rates, count: int = 1, *, spare: float = 0.0, peers: int = 1) -> int:
    """How many are granted at once."""
    names = [Identity.ephemeral().peer for _ in range(peers)]
    return sum(rates.take(peer, count, spare=spare) for peer in names for _ in range(2 * int(ALL_BURST)))


def test_a_peer_has_its_share_and_all_have_theirs() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    assert taken(rates) == PEER_BURST
    assert taken(rates, peers=3) == ALL_BURST - PEER_BURST
    clock.now += 1
    assert taken(rates, peers=2) == ALL_PER_S


def test_what_is_spared_is_left_to_others() -> None:
    rates = Rates(clock=Clock())
    assert taken(rates, spare=SPARE, peers=3) == ALL_BURST - SPARE
    assert taken(rates, peers=3) == SPARE


def test_papers_that_many_strangers_make_up_leave_room_for_vouchers() -> None:
    signed = paid_grid()
    papers = Papers(signed, rulebook(signed))
    made_up = Payment(b"no delegation", b"no pass")
    said = set()
    for stranger in [Identity.ephemeral().peer for _ in range(5)] * 300:
        with pytest.raises((BadPayment, Full)) as refusal:
            papers.shown(made_up, stranger, NOW)
        said.add(refusal.type)
    assert said == {BadPayment, Full}
    assert papers.affords(Identity.ephemeral().peer, int(SPARE) - 100)
