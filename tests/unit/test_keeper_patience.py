"""How much of a keeper's time one peer, and one address, may take."""

from __future__ import annotations

import pytest

from gridllm.errors import TooSoon, Unreachable
from gridllm.ids import PeerId
from gridllm_bootstrap.keeping import patience as patiences
from gridllm_bootstrap.keeping.patience import MOST_OF_ONE, PLACE_TIMES, Patience

A, B, C = (PeerId(name) for name in "abc")


class House:
    """A clock, and an address that everybody is connected from."""

    def __init__(self, *addresses: str) -> None:
        self.now = 0.0
        self.addresses = addresses
        self.asked = 0
        self.patience = Patience(self.seen_at, units=100, clock=lambda: self.now)

    async def seen_at(self, _: PeerId) -> tuple[str, ...]:
        self.asked += 1
        if not self.addresses:
            raise Unreachable("gone")
        return self.addresses


async def test_a_peer_has_its_share_and_gets_more_with_time() -> None:
    house = House("/ip4/127.0.0.1/tcp/5")
    await house.patience.spend(A, 100)
    with pytest.raises(TooSoon, match="second"):
        await house.patience.spend(A, 1)
    await house.patience.spend(B, 100)  # another peer of this machine is not held up
    house.now += 50 * patiences.UNIT_EVERY_S
    await house.patience.spend(A, 50)
    with pytest.raises(TooSoon):
        await house.patience.spend(A, 1)


async def test_many_identities_at_one_address_share() -> None:
    house = House("/ip4/203.0.113.7/tcp/5")
    for number in range(PLACE_TIMES):
        await house.patience.spend(PeerId(f"sybil{number}"), 100)
    with pytest.raises(TooSoon):
        await house.patience.spend(C, 1)


async def test_where_a_peer_is_is_not_asked_with_every_call() -> None:
    house = House("/ip4/203.0.113.7/tcp/5")
    for _ in range(10):
        await house.patience.spend(A, 1)
    assert house.asked == 1
    house.now += patiences.PLACE_KNOWN_S
    await house.patience.spend(A, 1)
    assert house.asked == 2


async def test_a_peer_that_is_nowhere_is_counted_by_itself() -> None:
    house = House()
    await house.patience.spend(A, 100)
    with pytest.raises(TooSoon):
        await house.patience.spend(A, 1)


def test_no_peer_fills_the_desk_alone() -> None:
    patience = House().patience
    with patience.turn(A, MOST_OF_ONE):
        with pytest.raises(TooSoon, match="wait"), patience.turn(A, 1):
            pass
        with patience.turn(B, MOST_OF_ONE):
            pass
    with patience.turn(A, MOST_OF_ONE):
        pass
