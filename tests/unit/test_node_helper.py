"""Relays and seeds on an in-memory network: admitted in their own role, announced, taken back; and who is believed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridllm.admission.admit import NotAdmittedHere
from gridllm.admission.gate import Gatekeeper
from gridllm.admission.store import Certificates
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import ModelEntry, sign_charter
from gridllm.charter.fetch import fetch_charter, fetch_manifest
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.errors import CertificateError, ModelError, SwarmError, WireError
from gridllm.identity.keys import Identity
from gridllm.ids import PeerId
from gridllm.models import fetching
from gridllm.models.fetching import obtain_weights
from gridllm.models.files import find_model
from gridllm.models.manifest import verify_manifest
from gridllm.models.seeding import verify_files
from gridllm.node import helper, standing, surroundings
from gridllm.node.enrolment import Enrolment, Membership
from gridllm.node.helper import PING_CALL, Helper
from gridllm.node.helper_presence import HelperPulse
from gridllm.node.standing import Standing
from gridllm.node.wishes import Wishes
from gridllm.swarm.directory import Directory
from gridllm.swarm.helpers import NAME, Addresses, Helpers, helpers_key
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.helper import HelperRecord, HelperRole, decode_helper, encode_helper
from tests.certificates import certified, closed_grid, gate_of, revocation
from tests.charters import MAINTAINERS, charter
from tests.unit.node_life import demo, living
from tests.unit.notes import Notes, until

OPEN, CLOSED = Admission(), Admission(required=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PULSE_S", 0.05)
    monkeypatch.setattr(helper, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(fetching, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(fetching, "PAUSE_S", 0.02)
    monkeypatch.setattr(standing, "FIRST_PAUSE_S", 0.05)


class HelperNotes(Notes):
    """What a helper told its volunteer."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[HelperRecord] = []
        self.helper_pulses: list[HelperPulse] = []

    def helping(self, record: HelperRecord) -> None:
        self.records.append(record)

    def helper_pulse(self, pulse: HelperPulse) -> None:
        self.helper_pulses.append(pulse)


class Aid:
    """A helper that runs in the background, and an onlooker."""

    def __init__(
        self, network: MemoryNetwork, home: Path, role: HelperRole, admission: Admission, **changes: Any
    ) -> None:
        entry, raw = demo()
        self.entry: ModelEntry = entry.model_copy(update={"source": changes.pop("source", "demo")})
        self.network = network
        self.identity = Identity.ephemeral()
        self.signed = sign_charter(charter(models=[self.entry], first_peers=[], admission=admission), MAINTAINERS)
        pins = Pins(home)
        pins.save_manifest(entry.model_root, raw)
        self.board = NoticeBoard(self.signed)
        self.gate = Gatekeeper(self.signed, self.board)
        self.standing = Standing(
            self.signed, self.gate, self.identity.peer, entry.model_root, "float32", role=role, store=Certificates(home)
        )
        folder = changes.pop("folder", find_model("demo"))
        wishes = Wishes(None, None, None, "cpu", "float32", folder, 0.0, home / "cache")
        self.notes = HelperNotes()
        self.stop = asyncio.Event()
        self.onlooker = network.join(Identity.ephemeral())
        self.helpers = Helpers(self.onlooker, self.signed.grid, self.gate.admit_helper)
        membership = Membership(self.signed, self.entry, pins, self.standing)
        self.failures = 0  # of the next entries
        self.task = asyncio.create_task(Helper(membership, wishes, role, self.enter, self.notes, self.stop).run())

    async def enter(self) -> Swarm:
        if self.failures:
            self.failures -= 1
            raise SwarmError("No network.")
        return self.network.join(self.identity)

    async def helping(self) -> HelperRecord:
        waiting = asyncio.create_task(until(lambda: bool(self.notes.records)))
        await asyncio.wait((waiting, self.task), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        return self.notes.records[-1]

    async def fetch(self, cache_dir: Path, seeds: Addresses) -> Path:
        manifest = verify_manifest(demo()[1], self.entry.model_root)

        async def find() -> Addresses:
            return seeds

        async with asyncio.timeout(30):
            return await obtain_weights(
                self.onlooker, self.entry.model_root, manifest, cache_dir, find, name="demo", blocks=(0, 1), ends=False
            )


@asynccontextmanager
async def aiding(
    home: Path, role: HelperRole, *, admission: Admission = OPEN, network: MemoryNetwork | None = None, **changes: Any
) -> AsyncIterator[Aid]:
    aid = Aid(network or MemoryNetwork(), home, role, admission, **changes)
    try:
        yield aid
    finally:
        aid.stop.set()
        await asyncio.wait([aid.task], timeout=20)
        assert aid.task.done(), "it leaves when told to"
        with contextlib.suppress(CertificateError, NotAdmittedHere, ModelError, SwarmError):
            aid.task.result()


async def test_a_relay_serves_the_grids_papers_and_takes_its_record_back(tmp_path: Path) -> None:
    async with aiding(tmp_path, "relay") as aid:
        record = await aid.helping()
        assert (record.role, record.models) == ("relay", [])
        assert await aid.helpers.admitted() == [record]
        assert (await fetch_charter(aid.onlooker, record.peer)).grid == aid.signed.grid
        assert await fetch_manifest(aid.onlooker, record.peer, aid.entry.model_root) == demo()[1]
        assert await aid.onlooker.call(record.peer, PING_CALL, b"hello") == b"hello"
        await until(lambda: bool(aid.notes.helper_pulses))
        assert aid.notes.helper_pulses[0].peers == 1
        with pytest.raises(ModelError, match="Nobody hands out"):
            await aid.fetch(tmp_path / "mine", {record.peer: tuple(record.addresses)})  # it is no seed
        aid.stop.set()
        await asyncio.wait_for(aid.task, 60)
        assert await aid.helpers.census() == []


async def test_a_seed_hands_out_its_folder_and_another_mirrors_it(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with aiding(tmp_path / "a", "seed", network=network, source="local") as first:
        record = await first.helping()
        assert await first.helpers.seeds(first.entry.model_root) == {record.peer: tuple(record.addresses)}
        async with aiding(tmp_path / "b", "seed", network=network, source="local", folder=None) as second:
            mirror = await second.helping()
            assert mirror.models == [second.entry.root]
            folder = tmp_path / "b" / "cache" / "models" / second.entry.root
            verify_files(folder, verify_manifest(demo()[1], second.entry.model_root))
            first.stop.set()
            await asyncio.wait_for(first.task, 60)
            await second.fetch(tmp_path / "mine", {mirror.peer: tuple(mirror.addresses)})


async def test_a_helper_whose_swarm_fails_enters_again(tmp_path: Path) -> None:
    async with aiding(tmp_path, "relay") as aid:
        await aid.helping()
        aid.network.kill(aid.identity.peer)
        await until(lambda: len(aid.notes.records) == 2)
        assert any("Rejoining the grid" in line for line in aid.notes.lines)


async def test_what_ends_a_helper_has_its_own_name() -> None:
    async def forever() -> None:
        await asyncio.sleep(3600)

    async def fails() -> CertificateError:
        raise SwarmError("The swarm is gone.")

    with pytest.raises(SwarmError, match="is gone"):
        await helper._beside(fails(), forever())


async def test_a_helper_that_helped_before_goes_on_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "FIRST_BACKOFF_S", 0.001)
    async with aiding(tmp_path, "relay") as aid:
        await aid.helping()
        aid.failures = 9
        aid.network.kill(aid.identity.peer)
        await until(lambda: len(aid.notes.records) == 2)
        assert aid.failures == 0


async def test_a_serving_node_hands_out_what_it_holds(tmp_path: Path) -> None:
    network = MemoryNetwork()
    async with living(tmp_path / "node", network) as life, aiding(tmp_path / "aid", "relay", network=network) as aid:
        node = await life.serving()
        await aid.fetch(tmp_path / "mine", {node.peer: tuple(node.addresses)})


async def test_nodes_remember_relays_for_their_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "FIRST_SURVEY_S", 0.05)
    monkeypatch.setattr(surroundings, "SURVEY_S", 0.05)
    network = MemoryNetwork()
    async with living(tmp_path / "node", network) as life, aiding(tmp_path / "aid", "relay", network=network) as aid:
        await life.serving()
        record = await aid.helping()
        assert aid.signed.grid == life.signed.grid
        await until(lambda: record.peer in life.pins.known_peers(life.signed))
        assert record.addresses[0] in life.pins.initial_peers(life.signed)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """In place of the examination: authorities that admit to these roles."""
    roles: list[Any] = []

    async def examine(enrolment: Enrolment, swarm: Swarm, *_: Any) -> bytes:
        us = enrolment._membership
        return certified(us.signed, swarm.peer, model=us.entry.root, roles=list(roles))

    monkeypatch.setattr(Enrolment, "examine", examine)
    return roles


async def test_a_relay_is_admitted_as_one_and_ends_when_revoked(tmp_path: Path, examined: list[Any]) -> None:
    examined += ["relay"]
    async with aiding(tmp_path, "relay", admission=CLOSED) as aid:
        record = await aid.helping()
        assert record.certificate == aid.standing.raw != b""
        assert await aid.helpers.admitted() == [record]
        aid.board.add(revocation(aid.signed, record.peer, until=time.time() + 3600))
        with pytest.raises(CertificateError, match="with: gridllm relay") as caught:
            await asyncio.wait_for(aid.task, 60)
        assert caught.value.rule == "revoked"
        assert await aid.helpers.census() == []


async def test_a_certificate_for_another_role_is_none(tmp_path: Path, examined: list[Any]) -> None:
    examined += ["relay"]
    async with aiding(tmp_path, "seed", admission=CLOSED) as aid:
        with pytest.raises(NotAdmittedHere, match="minimums to relay, not those to seed.*with: gridllm relay"):
            await asyncio.wait_for(aid.task, 60)
        assert aid.notes.records == []


def record_of(peer: PeerId, **changes: Any) -> HelperRecord:
    fields: dict[str, Any] = {
        "peer": peer,
        "role": "relay",
        "models": [],
        "addresses": [f"/ip4/127.0.0.1/tcp/4001/p2p/{peer}"],
        "version": "0",
        "since": 1.0,
    }
    return HelperRecord(**(fields | changes))


async def test_who_is_believed() -> None:
    network, signed = MemoryNetwork(), closed_grid()
    key, expires_at = helpers_key(signed.grid), time.time() + 600
    swarms = [network.join(Identity.ephemeral()) for _ in range(6)]
    certificates = [
        certified(signed, swarms[0].peer, roles=["relay"]),
        b"",
        certified(signed, swarms[2].peer, roles=["serve", "seed"]),  # and announces itself as a relay
        certified(signed, swarms[0].peer, roles=["relay"]),  # another's
    ]
    for swarm, raw in zip(swarms, certificates, strict=False):
        await Helpers(swarm, signed.grid).publish(record_of(swarm.peer, certificate=raw))
    await swarms[4].store(key, NAME, encode_helper(record_of(swarms[0].peer)), expires_at=expires_at)
    await swarms[5].store(key, NAME, b"\x93garbage", expires_at=expires_at)
    reader = Helpers(network.join(Identity.ephemeral()), signed.grid, gate_of(signed).admit_helper)
    assert [one.peer for one in await reader.admitted()] == [swarms[0].peer]
    rules = {one.peer: fault.rule for one, fault in await reader.census() if fault is not None}
    assert rules == {swarms[1].peer: "missing", swarms[2].peer: "role", swarms[3].peer: "holder"}


async def test_only_seeds_of_that_model_are_asked() -> None:
    network, signed = MemoryNetwork(), closed_grid()
    a, b = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    await Helpers(a, signed.grid).publish(record_of(a.peer, role="seed", models=["ab" * 32]))
    await Helpers(b, signed.grid).publish(record_of(b.peer, models=["ab" * 32]))  # a relay that says so
    reader = Helpers(network.join(Identity.ephemeral()), signed.grid)
    assert set(await reader.seeds("ab" * 32)) == {a.peer}  # type: ignore[arg-type]
    assert await reader.seeds("cd" * 32) == {}  # type: ignore[arg-type]
    assert await Directory(a, signed.grid).nodes("ab" * 32) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "king"},
        {"models": ["xyz"]},
        {"models": ["ab" * 32] * 17},
        {"addresses": ["/" + "a" * 300]},
        {"since": -1.0},
        {"certificate": bytes(4097)},
        {"extra": 1},
    ],
)
def test_records_are_parsed_strictly(changes: dict[str, Any]) -> None:
    sound = msgspec.to_builtins(record_of(Identity.ephemeral().peer), builtin_types=(bytes,))
    assert decode_helper(msgspec.msgpack.encode(sound))
    with pytest.raises(WireError):
        decode_helper(msgspec.msgpack.encode(sound | changes))


def test_oversized_records() -> None:
    record = record_of(Identity.ephemeral().peer, addresses=["/" + "a" * 255] * 8, certificate=bytes(4096))
    decode_helper(encode_helper(record))  # everything at its largest still fits
    with pytest.raises(WireError, match="8192"):
        decode_helper(bytes(9000))
