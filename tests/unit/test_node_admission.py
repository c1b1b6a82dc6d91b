"""A volunteer in a grid that asks for certificates: examined, renewed beside serving, lapsed, revoked."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gridllm.admission.admit import NotAdmittedHere
from gridllm.admission.cards import publish_card
from gridllm.admission.examination.candidacy import Watcher
from gridllm.admission.messages import RECHECK_CALL
from gridllm.charter.minimums import Admission
from gridllm.errors import AdmissionError, CertificateError, NotAdmitted, SwarmError, UsageError
from gridllm.identity.keys import Identity
from gridllm.models.manifest import Manifest
from gridllm.node import standing
from gridllm.node.enrolment import Enrolment
from gridllm.swarm.interface import Swarm
from gridllm.swarm.memory import MemoryNetwork
from gridllm.wire.messages import Leaving
from tests.certificates import certified, revocation
from tests.charters import MAINTAINERS
from tests.unit.node_life import Life, living, open_session
from tests.unit.notes import until

CLOSED = Admission(required=True)


class Authorities:
    """In place of the examination: what they decide, and what they were shown."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.life: Life | None = None
        self.age_s = 0
        self.life_s = 3600
        self.roles = ["serve"]
        self.trouble: Exception | None = None

    async def examine(
        self, _: Enrolment, swarm: Swarm, manifest: Manifest, watcher: Watcher, certificate: bytes, wait_s: float
    ) -> bytes:
        self.shown.append(certificate)
        watcher.stage("memory", 0.5)
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        assert self.life is not None
        issued = int(time.time()) - self.age_s
        root = self.life.entry.root
        fields = {"model": root, "roles": self.roles, "issued": issued, "expires": issued + self.life_s}
        return certified(self.life.signed, swarm.peer, **fields)


@pytest.fixture
def authorities(monkeypatch: pytest.MonkeyPatch) -> Authorities:
    made = Authorities()

    async def examine(enrolment: Enrolment, *args: Any) -> bytes:
        return await made.examine(enrolment, *args)

    monkeypatch.setattr(Enrolment, "examine", examine)
    monkeypatch.setattr(standing, "FIRST_PAUSE_S", 0.05)
    return made


async def test_what_cannot_serve_is_not_measured_first(tmp_path: Path, authorities: Authorities) -> None:
    async with living(tmp_path, admission=CLOSED, blocks=None, memory_bytes=2**20) as life:
        authorities.life = life
        with pytest.raises(UsageError, match="Not one block fits"):
            await life.serving()
    assert authorities.shown == []


async def test_examined_before_anything_is_loaded_and_not_again_after_a_restart(
    tmp_path: Path, authorities: Authorities
) -> None:
    network, identity = MemoryNetwork(), Identity.ephemeral()
    async with living(tmp_path, network, identity=identity, admission=CLOSED) as life:
        authorities.life = life
        record = await life.serving()
        assert authorities.shown == [b""]
        assert record.certificate == life.standing.raw != b""
        assert await life.records() == [record]
        assert life.notes.stages == [("memory", 0.5)]
        measured = next(i for i, line in enumerate(life.notes.lines) if "Being measured for admission" in line)
        loading = next(i for i, line in enumerate(life.notes.lines) if "Loading blocks" in line)
        assert measured < loading
    async with living(tmp_path, network, identity=identity, admission=CLOSED) as life:
        assert (await life.serving()).certificate == record.certificate
        assert len(authorities.shown) == 1


async def test_an_open_grid_asks_nobody(tmp_path: Path, authorities: Authorities) -> None:
    async with living(tmp_path) as life:
        assert (await life.serving()).certificate == b""
        assert authorities.shown == []


async def test_renewed_while_sessions_go_on(tmp_path: Path, authorities: Authorities) -> None:
    authorities.age_s = 3000  # its renewal is due as soon as it serves
    async with living(tmp_path, admission=CLOSED) as life:
        authorities.life = life
        record = await life.serving()
        authorities.age_s = 0
        _, heard = await open_session(life)
        await until(lambda: life.standing.raw != record.certificate)
        assert authorities.shown == [b"", record.certificate]
        await until(lambda: any("Certificate renewed, valid until" in line for line in life.notes.lines))
        assert [one.certificate for one in await life.records()] == [life.standing.raw]
        assert len(life.notes.served) == 1
        assert not any(isinstance(message, Leaving) for message in heard)


async def test_serves_until_expiry_and_comes_back_by_itself(tmp_path: Path, authorities: Authorities) -> None:
    authorities.life_s = 3
    async with living(tmp_path, admission=CLOSED, grace_s=0.1) as life:
        authorities.life = life
        await life.serving()
        authorities.trouble = AdmissionError("1 of 2 authorities answers.")
        await until(lambda: any("has expired" in line for line in life.notes.lines))
        assert any("was not renewed: 1 of 2 authorities answers" in line for line in life.notes.lines)
        await until(lambda: any("Not admitted yet: 1 of 2 authorities" in line for line in life.notes.lines))
        assert await life.records() == []
        authorities.trouble, authorities.life_s = None, 3600
        again = await life.serving()
        assert await life.records() == [again]
        assert authorities.shown[-1] == b"", "measured afresh, its memory free"


async def test_a_revoked_node_tells_its_sessions_and_ends(tmp_path: Path, authorities: Authorities) -> None:
    async with living(tmp_path, admission=CLOSED) as life:
        authorities.life = life
        record = await life.serving()
        _, heard = await open_session(life)
        life.board.add(revocation(life.signed, record.peer, until=time.time() + 3600))
        with pytest.raises(CertificateError, match="It lied. It may be measured again from .* UTC on"):
            async with asyncio.timeout(60):
                await life.task
        assert any(isinstance(message, Leaving) for message in heard)
        assert await life.records() == []
        examined = len(authorities.shown)
    async with living(tmp_path, life.network, identity=life.identity, admission=CLOSED) as barred:
        with pytest.raises(CertificateError, match="It lied"):
            await barred.task
        assert len(authorities.shown) == examined


async def test_a_node_whose_certificate_is_voided_is_measured_again_by_itself(
    tmp_path: Path, authorities: Authorities
) -> None:
    async with living(tmp_path, admission=CLOSED, grace_s=0.1) as life:
        authorities.life, authorities.age_s = life, 10
        record = await life.serving()
        authorities.age_s = 0
        life.board.add(revocation(life.signed, record.peer, issued=time.time() - 5))  # no bar
        again = await life.serving()
        assert again.certificate != record.certificate
        assert await life.records() == [again]


@pytest.mark.parametrize(
    "trouble", [AdmissionError("Its decode reaches 3 blocks/s where 100 are asked."), CertificateError("role", "…")]
)
async def test_a_newcomer_that_is_not_admitted_is_told(
    tmp_path: Path, authorities: Authorities, trouble: Exception
) -> None:
    authorities.trouble = trouble
    async with living(tmp_path, admission=CLOSED) as life:
        with pytest.raises(type(trouble), match=str(trouble)):
            await life.task
        assert life.notes.loaded == []
        assert await life.records() == []


async def test_a_machine_fit_for_less_is_told_what_for(tmp_path: Path, authorities: Authorities) -> None:
    authorities.roles = ["relay", "seed"]
    async with living(tmp_path, admission=CLOSED) as life:
        authorities.life = life
        with pytest.raises(NotAdmittedHere, match="relay and seed, not those to serve; .* gridllm relay"):
            await life.task
        assert await life.records() == []


async def test_a_newcomer_waits_for_authorities(tmp_path: Path, authorities: Authorities) -> None:
    authorities.trouble = SwarmError("The authority's queue is full.")
    async with living(tmp_path, admission=CLOSED) as life:
        authorities.life = life
        await until(lambda: sum("Not admitted yet: The authority's queue is full" in x for x in life.notes.lines) > 1)
        authorities.trouble = None
        await life.serving()


async def test_an_authority_may_have_it_measured_again(tmp_path: Path, authorities: Authorities) -> None:
    async with living(tmp_path, admission=CLOSED) as life:
        authorities.life = life
        record = await life.serving()
        stranger, authority = (life.network.join(Identity.ephemeral()) for _ in range(2))
        await publish_card(authority, life.signed.grid, MAINTAINERS[0])
        with pytest.raises(NotAdmitted):
            await stranger.call(record.peer, RECHECK_CALL, b"")
        assert len(authorities.shown) == 1
        await authority.call(record.peer, RECHECK_CALL, b"")
        await until(lambda: len(authorities.shown) == 2)
