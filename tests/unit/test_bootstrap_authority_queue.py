"""The authority's queue, its limits, its dial-back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest

from gridllm.admission.knock import answer_knocks
from gridllm.admission.messages import KNOCK_CALL, Begin, Queued, Verdict, encode
from gridllm.errors import Full, TooSoon, Unreachable
from gridllm.identity.keys import Identity, peer_of
from gridllm.ids import PeerId
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.swarm.places import places_of
from gridllm.swarm.seats import Seats
from gridllm_bootstrap import limits as limits_module
from gridllm_bootstrap.limits import ADDRESS_TRIES, TRY_EVERY_S, Limits, OpenStreams, Tries
from gridllm_bootstrap.measuring.authority import GREETED
from gridllm_bootstrap.measuring.dialback import DialBack, direct_addresses, not_nearer
from gridllm_bootstrap.measuring.waiting import WaitingRoom
from tests.unit.authority_hall import hall, heard, hello, say, signed_charter

SIGNED = signed_charter()
PEER = peer_of(bytes([1]) * 32)  # the same in each process: it is part of tests' names
RELAY = peer_of(bytes([2]) * 32)


class TestQueue:
    async def test_places_are_told_as_they_change(self) -> None:
        async with hall(SIGNED, 0, at_once=1) as made:
            office = made.offices[0]
            office.gate.clear()
            swarms = [made.candidate() for _ in range(3)]
            lines = []
            for number, swarm in enumerate(swarms):
                lines.append(await say(swarm, office, encode(hello(SIGNED, swarm))))
                while sum(office.authority.crowd) <= number:  # noqa: ASYNC110 - a property
                    await asyncio.sleep(0.005)
            assert await heard(lines[1]) == Queued(place=1, waiting=1)
            assert await heard(lines[1]) == Queued(place=1, waiting=2)
            assert await heard(lines[2]) == Queued(place=2, waiting=2)
            await lines[1].stream.close()  # leaves: the one behind moves up at once
            assert await heard(lines[2]) == Queued(place=1, waiting=1)
            office.gate.set()
            assert isinstance(await heard(lines[0]), Verdict)
            assert isinstance(await heard(lines[2]), Verdict)
            assert [one.peer for one in office.examined] == [swarms[0].peer, swarms[2].peer]

    async def test_who_leaves_while_examined_makes_room(self) -> None:
        room = WaitingRoom(at_once=1)
        async with room.visit() as first:
            assert room.place(first) == 0
            async with room.visit() as second:
                assert room.place(second) == 1
            assert (room.examined, room.waiting) == (1, 0)
        assert (room.examined, room.waiting) == (0, 0)

    async def test_it_is_bounded(self) -> None:
        room = WaitingRoom(at_once=1, most_waiting=1)
        async with room.visit(), room.visit():
            with pytest.raises(Full, match="1 machines wait"):
                async with room.visit():
                    pass

    async def test_those_behind_one_address_leave_a_seat_and_half_of_the_queue_to_others(self) -> None:
        room = WaitingRoom(at_once=2, most_waiting=4)
        async with AsyncExitStack() as stack:
            crowd = [await stack.enter_async_context(room.visit(["203.0.113.7"])) for _ in range(4)]
            with pytest.raises(Full, match="2 machines at your address"):
                async with room.visit(["203.0.113.7"]):
                    pass
            async with room.visit(["203.0.113.8"]) as other:
                assert [room.place(one) for one in crowd] == [0, 0, 1, 2]  # nobody else was there
                assert room.place(other) == 3
                await stack.enter_async_context(room.visit())  # one whose address is unknown
            assert (room.examined, room.waiting) == (2, 3)

    async def test_when_the_queue_is_full_the_last_of_the_most_crowded_address_gives_way(self) -> None:
        room = WaitingRoom(at_once=1, most_waiting=4)

        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        async def untold(*_: object) -> None:
            return

        async with room.visit(["198.51.100.1"]), AsyncExitStack() as stack:
            homes = ["203.0.113.7", "203.0.113.7", "203.0.113.8", "203.0.113.9"]
            crowd = [await stack.enter_async_context(room.visit([home])) for home in homes]
            waits = asyncio.create_task(room.turn(crowd[1], untold, never))
            other = await stack.enter_async_context(room.visit(["203.0.113.10"]))
            with pytest.raises(Full, match="most are at your address"):
                await waits
            assert [room.place(one) for one in (crowd[0], *crowd[2:], other)] == [1, 2, 3, 4]
            with pytest.raises(Full, match="4 machines wait"):  # nobody has more than one
                async with room.visit(["203.0.113.11"]):
                    pass
        assert (room.examined, room.waiting) == (0, 0)

    async def test_the_next_seat_is_for_one_from_elsewhere(self) -> None:
        room = WaitingRoom(at_once=2)
        async with room.visit(["203.0.113.7"]), AsyncExitStack() as later:
            async with room.visit(["203.0.113.7"]):
                second = await later.enter_async_context(room.visit(["203.0.113.7"]))
                other = await later.enter_async_context(room.visit(["203.0.113.8"]))
            assert (room.place(second), room.place(other)) == (1, 0)

    async def test_the_place_is_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gridllm_bootstrap.measuring.waiting.TELL_EVERY_S", 0.01)
        room, told = WaitingRoom(at_once=1), asyncio.Queue[tuple[int, int]]()

        async def tell(place: int, waiting: int) -> None:
            told.put_nowait((place, waiting))

        async with room.visit(), room.visit() as ticket:
            waiting = asyncio.create_task(room.turn(ticket, tell, asyncio.Event().wait))
            assert [await told.get() for _ in range(3)] == [(1, 1)] * 3
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestLimits:
    def test_tries_come_back_with_time(self) -> None:
        clock = Clock()
        tries = Tries(2, clock=clock)
        assert [tries.take("a", 60.0) for _ in range(2)] == [0.0, 0.0]
        assert tries.take("a", 60.0) == pytest.approx(60.0)
        clock.now += 30
        assert tries.take("a", 60.0) == pytest.approx(30.0)  # having asked too soon does not count
        clock.now += 30
        assert tries.take("a", 60.0) == 0.0
        assert tries.take("b", 60.0) == 0.0

    def test_an_address_has_more_than_a_peer_and_no_end_of_identities_helps(self) -> None:
        made = Limits(tries=2, clock=Clock())
        at = ("/ip4/203.0.113.7/tcp/1",)
        for number in range(2 * ADDRESS_TRIES):
            made.count(PeerId(f"peer{number}"), at, 86400)
        with pytest.raises(TooSoon, match="at your address"):
            made.count(PeerId("another"), at, 86400)
        made.count(PeerId("another"), ("/ip4/203.0.113.8/tcp/1",), 86400)

    def test_one_that_keeps_asking_uses_up_no_attempts_of_its_neighbours_nor_they_its_own(self) -> None:
        made = Limits(tries=1, clock=Clock())
        at = ("/ip4/203.0.113.7/tcp/1",)
        made.count(PEER, at, 86400)
        for _ in range(3 * ADDRESS_TRIES):
            with pytest.raises(TooSoon, match="This machine"):
                made.count(PEER, at, 86400)
        for number in range(ADDRESS_TRIES - 1):
            made.count(PeerId(f"peer{number}"), at, 86400)
        with pytest.raises(TooSoon, match="at your address"):
            made.count(PeerId("another"), at, 86400)
        made.count(PeerId("another"), ("/ip4/203.0.113.8/tcp/1",), 86400)  # it has its own attempt still

    def test_short_certificates_allow_renewals(self) -> None:
        clock = Clock()
        made = Limits(clock=clock)
        for _ in range(50):
            made.count(PEER, (), 30)
            clock.now += 15
        clock.now += TRY_EVERY_S

    def test_an_attempt_given_back(self) -> None:
        made = Limits(tries=1, clock=Clock())
        made.count(PEER, (), 86400)
        made.give_back(PEER, ())
        made.count(PEER, (), 86400)
        with pytest.raises(TooSoon, match="This machine"):
            made.count(PEER, (), 86400)

    def test_the_table_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits_module, "MOST_KEPT", 10)
        tries = Tries(1, clock=Clock())
        for number in range(100):
            tries.take(str(number), 60.0)
        assert len(tries) == 10

    def test_one_address_cannot_take_all_conversations(self) -> None:
        streams = OpenStreams(most=10, of_place=4)
        with ExitStack() as stack:
            for number in range(4):
                stack.enter_context(streams.one([f"/ip4/203.0.113.7/tcp/{number + 1}"]))
            with pytest.raises(Full, match="at your address"):
                stack.enter_context(streams.one(["/ip4/203.0.113.7/tcp/9"]))
            with streams.one(["/ip4/203.0.113.8/tcp/9"]):
                pass
            for _ in range(6):
                stack.enter_context(streams.one(["/ip4/127.0.0.1/tcp/9"]))  # this machine is nobody else's address
            with pytest.raises(Full, match="machines at present"):
                stack.enter_context(streams.one(["/ip4/203.0.113.8/tcp/9"]))
        with streams.one(["/ip4/203.0.113.7/tcp/9"]):
            assert sum(streams._places.values()) == 1

    async def test_those_turned_away_keep_nobody_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those who say nothing, either: the oldest of them gives way to one from elsewhere."""
        async with hall(SIGNED, 0) as made:
            office = made.offices[0]
            office.authority._greeting = Seats(4, 2, GREETED, "none is free", clock=lambda: 0.0)
            places: dict[PeerId, tuple[str, ...]] = {}

            async def seen_at(peer: PeerId) -> tuple[str, ...]:
                return places.get(peer, ("/ip4/203.0.113.7/tcp/1",))

            monkeypatch.setattr(office.swarm, "seen_at", seen_at)
            for _ in range(20):  # they say nothing, and never leave
                await say(made.candidate(), office)
            await office.until("refused", 16)
            honest = made.candidate()
            places[honest.peer] = ("/ip4/203.0.113.8/tcp/1",)
            line = await say(honest, office, encode(hello(SIGNED, honest)))
            while isinstance(message := await heard(line), Queued):
                pass
            assert isinstance(message, Verdict)

    @pytest.mark.parametrize(
        ("address", "place"),
        [
            ("/ip4/203.0.113.7/tcp/4001", {"203.0.113.7"}),
            ("/ip6/2001:db8:0:17ff::1/tcp/1", {"2001:db8:0:1700::/56"}),
            ("/ip6/::ffff:203.0.113.7/tcp/1", {"203.0.113.7"}),
            (f"/ip4/203.0.113.9/tcp/1/p2p/{RELAY}/p2p-circuit", {"relay 203.0.113.9"}),
            (f"/ip4/127.0.0.1/tcp/1/p2p/{RELAY}/p2p-circuit", {f"relay {RELAY}"}),
            (f"/p2p/{RELAY}/p2p-circuit", {f"relay {RELAY}"}),
            ("/ip4/127.0.0.1/tcp/1", set()),
            ("/dns4/example.org/tcp/1", set()),
            ("", set()),
        ],
    )
    def test_what_counts_as_one_address(self, address: str, place: set[str]) -> None:
        assert places_of([address]) == place


class TestDialBack:
    async def test_true_when_the_candidate_answers_over_a_direct_connection(self) -> None:
        network = MemoryNetwork()
        candidate = network.join(Identity.ephemeral())
        opened: list[MemorySwarm] = []

        async def second() -> Swarm:
            opened.append(network.join(Identity.ephemeral()))
            return opened[-1]

        dial_back = DialBack(second)
        assert not await dial_back.reachable(
            candidate.peer, candidate.addresses, candidate.addresses
        )  # answers no knocks yet
        await answer_knocks(candidate)
        await answer_knocks(candidate)  # a renewal begins the same way
        assert await dial_back.reachable(candidate.peer, candidate.addresses, candidate.addresses)
        assert len(opened) == 1
        assert not await dial_back.reachable(candidate.peer, (), candidate.addresses)
        relayed = f"/ip4/203.0.113.9/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{candidate.peer}"
        assert not await dial_back.reachable(candidate.peer, [relayed], candidate.addresses)
        await dial_back.close()

    async def test_a_wrong_answer_or_a_relayed_connection_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = MemoryNetwork()
        liar, behind_a_relay = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())

        async def lie(_peer: PeerId, nonce: bytes) -> bytes:
            return nonce

        await liar.serve_calls(KNOCK_CALL, lie)
        await answer_knocks(behind_a_relay)
        knocker = network.join(Identity.ephemeral())

        async def second() -> Swarm:
            return knocker

        dial_back = DialBack(second)
        assert not await dial_back.reachable(liar.peer, liar.addresses, liar.addresses)

        async def through_a_relay(_peer: PeerId) -> tuple[str, ...]:
            return (f"/ip4/203.0.113.9/tcp/1/p2p/{RELAY}/p2p-circuit",)

        monkeypatch.setattr(knocker, "seen_at", through_a_relay)
        assert not await dial_back.reachable(behind_a_relay.peer, behind_a_relay.addresses, behind_a_relay.addresses)

    async def test_one_that_does_not_start_is_no_fault_of_ours_to_raise(self) -> None:
        async def second() -> Swarm:
            raise Unreachable("no daemon")

        assert not await DialBack(second).reachable(PEER, [f"/ip4/1.1.1.1/tcp/1/p2p/{PEER}"], ())

    def test_which_addresses_are_dialled(self) -> None:
        good = f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}"
        others = [
            f"/ip4/203.0.113.7/tcp/1/p2p/{RELAY}",  # somebody else's
            f"/ip4/203.0.113.7/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{PEER}",
            "/ip4/203.0.113.7/tcp/1",
            "rubbish",
        ]
        assert direct_addresses(PEER, [*others, good, good]) == (good,)
        many = [f"/ip4/203.0.113.{number}/tcp/1/p2p/{PEER}" for number in range(20)]
        assert len(direct_addresses(PEER, many)) == 8

    @pytest.mark.parametrize(
        ("seen_at", "dialled"),
        [
            ("/ip4/1.1.1.1/tcp/5", 1),
            ("/ip4/192.168.1.7/tcp/5", 3),
            ("/ip4/127.0.0.1/tcp/5", 7),
            (f"/ip4/127.0.0.1/tcp/5/p2p/{RELAY}/p2p-circuit", 1),
        ],
    )
    def test_strangers_do_not_have_our_neighbours_dialled(self, seen_at: str, dialled: int) -> None:
        ends = ["ip4/9.9.9.9", "ip4/10.0.0.1", "ip6/fd00::1"]
        ends += ["ip4/127.0.0.1", "ip6/::1", "ip6/::ffff:127.0.0.1", "ip4/0.0.0.0"]
        addresses = tuple(f"/{end}/tcp/1" for end in ends)
        assert not_nearer(addresses, [seen_at]) == addresses[:dialled]
        for nowhere in ([], ["/ip6zone/eth0/ip6/fe80::1/tcp/1"], [""]):
            assert not_nearer(addresses, nowhere) == addresses[:1]

    async def test_a_name_may_not_lead_to_them_either(self) -> None:
        network = MemoryNetwork()
        candidate = network.join(Identity.ephemeral())
        await answer_knocks(candidate)

        async def second() -> Swarm:
            return network.join(Identity.ephemeral())

        here = [f"/dns4/localhost/tcp/1/p2p/{candidate.peer}"]
        assert not await DialBack(second).reachable(candidate.peer, here, ["/ip4/1.1.1.1/tcp/5"])
        assert await DialBack(second).reachable(candidate.peer, here, ["/ip4/127.0.0.1/tcp/5"])
        nowhere = [f"/dns4/no-such-host.invalid/tcp/1/p2p/{candidate.peer}"]
        assert not await DialBack(second).reachable(candidate.peer, nowhere, ["/ip4/127.0.0.1/tcp/5"])

    async def test_an_examination_dials_back(self) -> None:
        async with hall(SIGNED, 0) as made:
            office, swarm = made.offices[0], made.candidate()
            await answer_knocks(swarm)
            answer = await heard(await say(swarm, office, encode(hello(SIGNED, swarm))))
            assert isinstance(answer, Verdict)
            assert not isinstance(answer, Begin)
            assert office.dialled == [True]
