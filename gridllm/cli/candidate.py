"""What ``gridllm join`` does in a grid that measures machines: the examination, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.admission.candidacy import Candidacy, Watcher
    from gridllm.admission.certificate import Certificate
    from gridllm.admission.figures import Figures
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.minimums import Admission, Role
    from gridllm.charter.pin import Pins
    from gridllm.cli.bench_view import Row
    from gridllm.errors import GridError
    from gridllm.identity.keys import Identity
    from gridllm.node.enrolment import Membership
    from gridllm.node.wishes import Wishes
    from gridllm.settings import Settings
    from gridllm.swarm.interface import Swarm

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the way to a certificate ended."""

    certificate: Certificate | None
    measured: bool = False  # just now; else the certificate is one from before
    error: GridError | None = None  # why there is no certificate
    candidacy: Candidacy | None = None  # what was measured, where that failed

    @property
    def figures(self) -> Figures | None:
        """As far as measured."""
        if self.certificate is not None:
            return self.certificate.figures
        figures: Figures | None = getattr(self.error, "figures", None)
        return figures

    @property
    def reason(self) -> str:
        """A word for programs; empty when admitted."""
        return "" if self.error is None else str(getattr(self.error, "reason", "") or "unfinished")

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return 0 if self.certificate is not None else 1

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "admitted": self.certificate is not None,
            "certificate": self.certificate.model_dump(mode="json") if self.certificate is not None else None,
            "measured": self.figures.model_dump(mode="json") if self.figures is not None else None,
            "reason": self.reason,
            "text": "" if self.error is None else str(self.error),
        }

    def show(self, admission: Admission) -> None:
        """For people: the table, and what follows from it.

        Raises:
            AdmissionError: this machine is not admitted; says what to do.
        """
        from gridllm.cli.bench_view import bench_table, rows_of
        from gridllm.cli.show import stdout
        from gridllm.errors import AdmissionError
        from gridllm.node.standing import spell_time

        console = stdout()
        if self.figures is not None:
            rows = rows_of(self.figures, admission, unknown=self._unknown())
            console.print()
            console.print(bench_table(rows, self.figures), crop=False)
            for sentence in self._remedies(rows):
                console.print(f"  • {sentence}", markup=False)
        if self.certificate is None:
            mend = (
                "mend what is short (gridllm bench shows it) and join again"
                if self.figures is not None
                else "run gridllm serve, which waits until it can be measured"
            )
            raise AdmissionError(
                f"This machine is not admitted: {str(self.error).rstrip('.')}. The grid stays joined, and generating "
                f"needs no certificate; to volunteer, {mend}."
            )
        admitted = "Admitted" if self.measured else "Admitted already,"
        roles, until = ", ".join(self.certificate.roles), spell_time(self.certificate.expires)
        console.print(f"\n[bold green]{admitted}[/] to {roles} until {until}; gridllm serve renews it.")

    def _unknown(self) -> frozenset[str]:
        """Figures that a refusal came before."""
        from gridllm.admission.judge import TOO_LITTLE

        if self.figures is None or not self.reason or self.reason in TOO_LITTLE:
            return frozenset()
        return frozenset(name for name in type(self.figures).model_fields if not getattr(self.figures, name))

    def _remedies(self, rows: Sequence[Row]) -> list[str]:
        from gridllm.cli.bench import situation_of
        from gridllm.cli.bench_view import remedies

        return [] if self.candidacy is None else remedies(rows, situation_of(self.candidacy))


def seek_certificate(
    identity: Identity,
    signed: SignedCharter,
    board: NoticeBoard,
    pins: Pins,
    settings: Settings,
    *,
    model: str | None,
    memory: str | None,
    roles: tuple[Role, ...] | None,
    wait_s: float,
) -> Outcome:
    """The certificate kept from before, or an examination. Ctrl-C ends the command: the grid stays joined.

    Raises:
        UsageError: a flag does not fit.
        SwarmError, ModelError: the grid cannot be entered, or nobody has the model's manifest.
    """
    from gridllm.admission.gate import Gatekeeper
    from gridllm.charter.minimums import ROLES
    from gridllm.cli.compute import device_of, dtype_of
    from gridllm.cli.examination_view import make_watcher
    from gridllm.cli.main import complain
    from gridllm.cli.runtime import run_async
    from gridllm.cli.show import stderr
    from gridllm.errors import IdentityError
    from gridllm.identity.keys import hold
    from gridllm.node.enrolment import Membership
    from gridllm.node.standing import Standing
    from gridllm.node.wishes import Wishes
    from gridllm.quantities import parse_size

    entry = signed.charter.model(model)
    dtype = dtype_of(settings, entry)
    standing = Standing(signed, Gatekeeper(signed, board), identity.peer, entry.model_root, dtype)
    membership = Membership(signed, entry, pins, standing)
    before = kept(membership, identity.peer, dtype, roles)
    if before is not None:
        return Outcome(before)
    memory_bytes = None if memory is None else parse_size(memory)
    wishes = Wishes(None, memory_bytes, None, device_of(settings), dtype, None, 0.0)
    console = stderr()
    console.print(
        "Measuring this machine, so that it may serve. To generate, that is not needed: Ctrl-C leaves it out."
    )
    watcher = make_watcher(console)
    try:
        with hold(identity):
            return run_async(
                be_measured(identity, membership, wishes, settings, roles or ROLES, watcher, wait_s=wait_s)
            )
    except IdentityError as error:
        raise IdentityError(f"The grid is joined, but this machine was not measured: {error}") from error
    except KeyboardInterrupt:
        watcher.close()
        complain("Not measured. The grid stays joined: gridllm generate works now; gridllm serve measures first.")
        raise
    finally:
        watcher.close()


def kept(membership: Membership, peer: str, dtype: str, roles: Sequence[Role] | None) -> Certificate | None:
    """The certificate from before, if it counts for a while yet and covers the roles asked for."""
    import time

    from gridllm.admission.certificate import verify_signatures
    from gridllm.admission.store import Certificates
    from gridllm.errors import CertificateError
    from gridllm.ids import PeerId
    from gridllm.node.standing import lasts

    signed, model = membership.signed, membership.entry.model_root
    raw = Certificates(membership.pins.data_dir).load(signed, PeerId(peer), model, dtype)
    if raw is None:
        return None
    certificate = verify_signatures(raw, signed)
    try:
        for role in roles or certificate.roles:
            membership.standing.gate.check(raw, PeerId(peer), role=role, model=model, dtype=dtype)
    except CertificateError:
        return None  # revoked, or for other roles
    return certificate if lasts(certificate, time.time()) else None


async def be_measured(
    identity: Identity,
    membership: Membership,
    wishes: Wishes,
    settings: Settings,
    roles: Sequence[Role],
    watcher: Watcher,
    *,
    wait_s: float,
) -> Outcome:
    """Enter the grid as ``serve`` would, be measured, keep the certificate, leave.

    Raises:
        SwarmError: the grid cannot be entered.
        ModelError: nobody has the model's manifest.
    """
    from gridllm.admission.store import Certificates
    from gridllm.charter.gossip import gossiping
    from gridllm.errors import AdmissionError, Refusal
    from gridllm.node.enrolment import Enrolment
    from gridllm.node.source import obtain_manifest
    from gridllm.swarm.libp2p import open_swarm

    signed, pins, board = membership.signed, membership.pins, membership.standing.gate.board
    swarm = await open_swarm(
        identity,
        initial_peers=pins.initial_peers(signed),
        host_maddrs=settings.host_maddrs,
        announce_maddrs=settings.announce_maddrs,
        relay=settings.relay,
        namespace=signed.grid,
    )
    try:
        async with gossiping(swarm, board, lambda: pins.peers(signed), serve=False):
            first = pins.initial_peers(signed)
            manifest, _ = await obtain_manifest(
                swarm, membership.entry, pins, first_peers=first, records=(), folder=wishes.folder
            )
            enrolment = Enrolment(membership, wishes, tuple(roles))
            try:
                raw = await _while_connected(swarm, enrolment.examine(swarm, manifest, watcher, b"", wait_s))
            except (AdmissionError, Refusal) as error:
                return Outcome(None, error=error, candidacy=await enrolment.candidacy(manifest))
    finally:
        await swarm.close()
    return Outcome(Certificates(pins.data_dir).save(signed, raw), measured=True)


async def _while_connected(swarm: Swarm, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, unless the swarm is lost first. Raises that SwarmError."""
    task, failing = asyncio.create_task(work), asyncio.create_task(swarm.failed())
    try:
        await asyncio.wait((task, failing), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise failing.result()
        return task.result()
    finally:
        for one in (task, failing):
            one.cancel()
        await asyncio.gather(task, failing, return_exceptions=True)
