"""What ``gridllm join`` does in a grid that measures machines: the examination, and how it ended."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from gridllm.cli.candidate_view import Outcome
from gridllm.tasks import racing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.admission.certificate import Certificate
    from gridllm.admission.examination.candidacy import Watcher
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.document import SignedCharter
    from gridllm.charter.minimums import Role
    from gridllm.charter.pin import Pins
    from gridllm.identity.keys import Identity
    from gridllm.node.enrolment import Membership
    from gridllm.node.wishes import Wishes
    from gridllm.settings import Settings
    from gridllm.swarm.interface import Swarm

T = TypeVar("T")


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
    from gridllm.cli.catalogue import find_entry
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

    entry = find_entry(signed, pins, board, model)
    dtype = dtype_of(settings, entry)
    standing = Standing(signed, Gatekeeper(signed, board), identity.peer, entry.model_root, dtype)
    membership = Membership(signed, entry, pins, standing)
    before = kept(membership, identity.peer, dtype, roles)
    if before is not None:
        return Outcome(before)
    memory_bytes = None if memory is None else parse_size(memory)
    wishes = Wishes(None, memory_bytes, None, device_of(settings), dtype, None, 0.0)
    console = stderr()
    console.print("Measuring this machine, so that it may serve. Generating does not need it: Ctrl-C skips it.")
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
    from gridllm.admission.cards import leaderboard_sources
    from gridllm.admission.store import Certificates
    from gridllm.charter.entering import enter
    from gridllm.charter.gossip import gossiping
    from gridllm.errors import AdmissionError, Refusal
    from gridllm.node.enrolment import Enrolment
    from gridllm.node.source import obtain_manifest

    signed, pins, board = membership.signed, membership.pins, membership.standing.gate.board
    swarm = await enter(identity, signed, pins, settings.host_maddrs, settings.announce_maddrs, relay=settings.relay)
    try:
        async with gossiping(swarm, board, lambda: pins.peers(signed), serve=False):
            first = pins.initial_peers(signed)
            beside = await leaderboard_sources(swarm, signed, board, membership.entry.root)
            manifest, _ = await obtain_manifest(
                swarm, membership.entry, pins, first_peers=first, records=(), folder=wishes.folder, beside=beside
            )
            enrolment = Enrolment(membership, wishes, tuple(roles))
            try:
                raw = await _while_connected(swarm, enrolment.examine(swarm, manifest, watcher, b"", wait_s))
            except (AdmissionError, Refusal) as error:
                return Outcome(None, error=error, candidacy=await enrolment.candidacy(manifest))
            certificate = Certificates(pins.data_dir).save(signed, raw, board)
            short = "serve" in roles and "serve" not in certificate.roles
            return Outcome(certificate, measured=True, candidacy=await enrolment.candidacy(manifest) if short else None)
    finally:
        await swarm.close()


async def _while_connected(swarm: Swarm, work: Awaitable[T]) -> T:
    """The result of ``work``, unless the swarm is lost first. Raises that SwarmError."""
    async with racing(work, swarm.failed()) as (working, failing):
        if working.done():
            return working.result()
        raise failing.result()
