"""Who is admitted, rule by rule; and that the directory and the status page list nobody else."""

from __future__ import annotations

import json
import time

import pytest
from planning_records import node

from gridllm.admission import gate as gate_module
from gridllm.admission.certificate import SKEW_S, join_certificate, sign_certificate
from gridllm.admission.figures import Figures
from gridllm.admission.gate import Gatekeeper
from gridllm.charter.board import NoticeBoard
from gridllm.charter.minimums import Admission
from gridllm.cli.grid_view import ModelView, view_json
from gridllm.cli.status import look
from gridllm.errors import AdmissionError, CertificateError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from gridllm.swarm.directory import Directory
from gridllm.swarm.memory import MemoryNetwork, MemorySwarm
from gridllm.wire.record import NodeRecord
from tests.certificates import altered, amendment, certificate, certified, closed_grid, gate_of, revocation
from tests.charters import ENTRY, MAINTAINERS
from tests.unit.test_planning_status_view import drawn

SIGNED = closed_grid()
PEER = Identity.ephemeral().peer
ROOT = ENTRY.model_root
NOW = int(time.time())


def below_threshold() -> bytes:
    return sign_certificate(certificate(SIGNED, PEER), MAINTAINERS[0])


def by_nobody() -> bytes:
    return sign_certificate(certificate(SIGNED, PEER), Identity.ephemeral())


def test_an_honest_node_is_admitted() -> None:
    found = gate_of(SIGNED).check(certified(SIGNED, PEER), PEER, model=ROOT, dtype="float32")
    assert found is not None
    assert found.peer == PEER


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "missing"),
        (altered(certified(SIGNED, PEER)), "forged"),
        (below_threshold(), "forged"),
        (by_nobody(), "forged"),
        (b"\xff\x00{", "forged"),
        (b"x" * 5000, "forged"),
        (certified(SIGNED, Identity.ephemeral().peer), "holder"),
        (certified(SIGNED, PEER, grid="cd" * 32), "grid"),
        (certified(SIGNED, PEER, model="cd" * 32), "model"),
        (certified(SIGNED, PEER, dtype="float16"), "dtype"),
        (certified(SIGNED, PEER, roles=["relay", "seed"]), "role"),
        (certified(SIGNED, PEER, issued=NOW + SKEW_S + 3600, expires=NOW + 9999), "early"),
        (certified(SIGNED, PEER, issued=NOW - 9999, expires=NOW - SKEW_S - 60), "expired"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_rule_is_named(raw: bytes, rule: str) -> None:
    gate = gate_of(SIGNED)
    for _ in range(2):  # the second time from memory
        with pytest.raises(CertificateError) as caught:
            gate.check(raw, PEER, model=ROOT, dtype="float32")
        assert caught.value.rule == rule


def test_another_maintainers_threshold_does_not_count() -> None:
    with pytest.raises(AdmissionError):
        join_certificate([below_threshold(), by_nobody()], SIGNED)


@pytest.mark.parametrize("off_s", [SKEW_S - 30, -SKEW_S + 30])
def test_clocks_may_differ_by_minutes(off_s: int) -> None:
    issued = NOW + max(0, off_s)
    raw = certified(SIGNED, PEER, issued=issued, expires=NOW + off_s if off_s < 0 else issued + 3600)
    assert Gatekeeper(SIGNED, NoticeBoard(SIGNED), clock=lambda: float(NOW)).check(raw, PEER) is not None


def test_time_is_looked_at_each_time() -> None:
    clock = [float(NOW)]
    gate = Gatekeeper(SIGNED, NoticeBoard(SIGNED), clock=lambda: clock[0])
    raw = certified(SIGNED, PEER, issued=NOW, expires=NOW + 60)
    assert gate.check(raw, PEER) is not None
    clock[0] += 60 + SKEW_S + 1
    with pytest.raises(CertificateError, match="expired"):
        gate.check(raw, PEER)


def test_the_role_asked_for_is_what_counts() -> None:
    raw = certified(SIGNED, PEER, roles=["relay"])
    assert gate_of(SIGNED).check(raw, PEER, role="relay") is not None


def test_a_revocation_voids_what_was_issued_before_it() -> None:
    gate = gate_of(SIGNED, revocation(SIGNED, PEER, issued=NOW - 50))
    for issued, admitted in ((NOW - 100, False), (NOW - 50, True), (NOW, True)):
        raw = certified(SIGNED, PEER, issued=issued, expires=NOW + 3600)
        if admitted:
            assert gate.check(raw, PEER) is not None
        else:
            with pytest.raises(CertificateError, match="It lied") as caught:
                gate.check(raw, PEER)
            assert caught.value.rule == "revoked"
    other = Identity.ephemeral().peer
    assert gate.check(certified(SIGNED, other, issued=NOW - 100), other) is not None


def test_until_its_end_a_revocation_voids_everything() -> None:
    gate = gate_of(SIGNED, revocation(SIGNED, PEER, issued=NOW - 50, until=NOW + 3600))
    with pytest.raises(CertificateError, match="may be measured again from 20"):
        gate.check(certified(SIGNED, PEER, issued=NOW), PEER)


def test_a_revocation_counts_at_once() -> None:
    gate = gate_of(SIGNED)
    raw = certified(SIGNED, PEER)
    assert gate.check(raw, PEER) is not None
    gate.board.add(revocation(SIGNED, PEER))
    with pytest.raises(CertificateError, match="revoked"):
        gate.check(raw, PEER)


def test_maintainers_may_open_and_close_the_grid() -> None:
    gate = gate_of(SIGNED)
    with pytest.raises(CertificateError):
        gate.check(b"", PEER)
    gate.board.add(amendment(SIGNED, Admission()))
    assert not gate.required
    assert gate.check(b"", PEER) is None
    gate.board.add(amendment(SIGNED, Admission(required=True), serial=2))
    with pytest.raises(CertificateError):
        gate.check(b"", PEER)


def test_signatures_are_verified_once_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    real = gate_module.verify_signatures
    monkeypatch.setattr(gate_module, "REMEMBERED", 3)
    monkeypatch.setattr(gate_module, "verify_signatures", lambda *a: verified.append(a) or real(*a))
    gate, raw = gate_of(SIGNED), certified(SIGNED, PEER)
    for _ in range(5):
        gate.check(raw, PEER)
    assert len(verified) == 1
    for number in range(10):
        with pytest.raises(CertificateError):
            gate.check(b"forgery %d" % number, PEER)
    assert len(verified) == 11
    gate.check(raw, PEER)
    assert len(verified) == 11, "forgeries push out no honest certificate"
    assert len(gate._false) == 3


def announced(peer: str, raw: bytes = b"", **changes: object) -> NodeRecord:
    return node(1, 0, 4, **{"peer": peer, "model": ROOT, "certificate": raw} | changes)


@pytest.mark.parametrize(("claims", "believed"), [(1e6, 100.0), (80.0, 80.0), (0.0, 100.0)])
def test_no_speed_above_the_certified_one_is_believed(claims: float, believed: float) -> None:
    record = announced(PEER, certified(SIGNED, PEER), blocks_per_s=claims)
    assert gate_of(SIGNED).admit(record).blocks_per_s == believed


@pytest.mark.parametrize(("changes", "rule"), [({"dtype": "bfloat16"}, "dtype"), ({"model": "cd" * 32}, "model")])
def test_a_record_must_be_of_what_was_certified(changes: dict[str, str], rule: str) -> None:
    with pytest.raises(CertificateError) as caught:
        gate_of(SIGNED).admit(announced(PEER, certified(SIGNED, PEER), **changes))
    assert caught.value.rule == rule


async def two_announced(network: MemoryNetwork) -> tuple[MemorySwarm, MemorySwarm]:
    """One admitted node and one that is not."""
    fair, false = network.join(Identity.ephemeral()), network.join(Identity.ephemeral())
    figures = Figures(decode_blocks_per_s=50.0)
    for swarm, raw in ((fair, certified(SIGNED, fair.peer, figures=figures)), (false, b"")):
        await Directory(swarm, SIGNED.grid).publish(announced(swarm.peer, raw))
    return fair, false


async def test_the_directory_lists_admitted_nodes_only() -> None:
    network = MemoryNetwork()
    fair, false = await two_announced(network)
    reader = Directory(network.join(Identity.ephemeral()), SIGNED.grid, gate_of(SIGNED).admit)
    (record,) = await reader.nodes(ModelRoot(ROOT))
    assert (record.peer, record.blocks_per_s) == (fair.peer, 50.0)
    assert set(reader.seen) == {fair.peer}
    census = {record.peer: fault for record, fault in await reader.census(ModelRoot(ROOT))}
    assert census.keys() == {fair.peer, false.peer}
    assert census[fair.peer] is None
    assert census[false.peer] is not None
    assert census[false.peer].rule == "missing"
    assert [record.peer for record in reader.shut_out(ModelRoot(ROOT))] == [false.peer]


async def test_status_lists_the_others_only_when_asked() -> None:
    network = MemoryNetwork()
    fair, false = await two_announced(network)
    onlooker, gate = network.join(Identity.ephemeral()), gate_of(SIGNED)
    directory = Directory(onlooker, SIGNED.grid, gate.admit)
    (plain,) = await look(onlooker, directory, gate, [ENTRY])
    (full,) = await look(onlooker, directory, gate, [ENTRY], everything=True)
    for view in (plain, full):
        assert [record.peer for record in view.records] == [fair.peer]
        assert view.gaps == ((4, 8),)
    assert false.peer[-8:] not in shown(plain)
    assert false.peer not in json.dumps(view_json(plain))
    assert "not_admitted" not in view_json(plain)
    assert fair.peer[-8:] in shown(full)
    assert "missing" in shown(full)
    document = view_json(full)
    (outsider,) = document["not_admitted"]
    assert (outsider["peer"], outsider["rule"]) == (false.peer, "missing")
    (entry,) = document["nodes"]
    assert entry["certificate"]["figures"]["decode_blocks_per_s"] == 50.0
    assert 86_000 < entry["certificate"]["left_s"] <= 86_400


def shown(view: ModelView) -> str:
    from gridllm.cli.grid_view import model_renderable

    return drawn(model_renderable(view))


async def test_status_shows_how_long_certificates_last() -> None:
    network = MemoryNetwork()
    await two_announced(network)
    onlooker, gate = network.join(Identity.ephemeral()), gate_of(SIGNED)
    (view,) = await look(onlooker, Directory(onlooker, SIGNED.grid, gate.admit), gate, [ENTRY])
    heading, row = shown(view).splitlines()[1:3]
    assert heading.endswith("cert")
    assert row.endswith(("24 h", "1 d"))
