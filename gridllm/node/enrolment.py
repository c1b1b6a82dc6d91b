"""The way to a certificate: the one kept from before, or an examination in the node's own swarm."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridllm.admission.certificate import verify_signatures
from gridllm.admission.examination.candidacy import Candidacy, Watcher
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.minimums import ROLES, Role
from gridllm.charter.pin import Pins
from gridllm.errors import AdmissionError, CertificateError, GridError
from gridllm.identity.keys import Identity
from gridllm.models.manifest import Manifest
from gridllm.node.machine import candidacy_here
from gridllm.node.report import Report
from gridllm.node.standing import Standing, retry_pause_s, spell_duration, spell_time
from gridllm.node.wishes import Wishes
from gridllm.settings import load_settings
from gridllm.swarm.interface import Swarm

PATIENCE_S: Final = 30 * 86_400.0  # for authorities that are down; the terminal says that it waits, and for whom


@dataclass(frozen=True, slots=True)
class Membership:
    """Which model of which grid is served, and how the node shows that it may."""

    signed: SignedCharter
    entry: ModelEntry
    pins: Pins
    standing: Standing  # the node's own admission, and the gate that decides whom it works with
    identity: Identity | None = None  # what it signs with where it is paid; its key is its account


class Enrolment:
    """Gets one node admitted, and admitted again."""

    def __init__(self, membership: Membership, wishes: Wishes, roles: tuple[Role, ...] = ROLES) -> None:
        """``roles`` are asked for; the certificate names those whose minimums are reached."""
        self._membership = membership
        self._wishes = wishes
        self._roles = roles
        self.files: Path | None = None  # where the model's files were found to be, for whoever fetched them before

    async def examine(
        self, swarm: Swarm, manifest: Manifest, watcher: Watcher, certificate: bytes, wait_s: float
    ) -> bytes:
        """Be measured by as many authorities as the charter asks for → the certificate that they sign.

        Args:
            certificate: the one to be renewed, or nothing.
            wait_s: for everything, queues and authorities that are down included.

        Raises:
            GridError: not admitted this time, and why.
        """
        from gridllm.admission.admit import admit

        us = self._membership
        candidacy, board = await self.candidacy(manifest, certificate), us.standing.gate.board
        return await admit(
            swarm,
            us.signed,
            board,
            candidacy,
            watcher,
            certificate=certificate,
            wait_s=wait_s,
            first=us.standing.called_by,
        )

    async def candidacy(self, manifest: Manifest, certificate: bytes = b"") -> Candidacy:
        """What this machine offers now; with a certificate that is to be renewed, the memory that it says."""
        held_bytes, admission = 0, self._membership.standing.gate.board.admission
        if certificate:
            held_bytes = verify_signatures(certificate, self._membership.signed).figures.memory_bytes
        return await asyncio.to_thread(
            candidacy_here,
            self._membership.entry,
            manifest,
            dtype=self._wishes.dtype,
            device=self._wishes.device,
            roles=self._roles,
            memory_bytes=self._wishes.memory_bytes,
            cache_dir=self._wishes.cache_dir or load_settings().cache_dir,
            folder=self._wishes.folder or self.files,
            held_bytes=held_bytes,
            asked_bytes=max(admission.of(role).memory_bytes for role in self._roles),
        )

    def _adopt(self, raw: bytes) -> None:
        """Take the certificate, if it is one for the node's role.

        Raises:
            NotAdmittedHere: it is for other roles only.
            CertificateError: it is of no use.
        """
        from gridllm.admission.admit import NotAdmittedHere

        try:
            self._membership.standing.adopt(raw)
        except CertificateError as error:
            if error.rule != "role":
                raise
            certificate = verify_signatures(raw, self._membership.signed)
            able = " and ".join(certificate.roles)
            help_with = f"gridllm {certificate.roles[0]}"
            wanted = self._membership.standing.role
            text = f"It reaches the minimums to {able}, not those to {wanted}; it can help with: {help_with}"
            raise NotAdmittedHere("role", text, certificate.figures) from error

    async def until_admitted(self, swarm: Swarm, manifest: Manifest, report: Report, *, patient: bool) -> None:
        """Return once this node may serve; at once in an open grid.

        Args:
            patient: go on trying whatever happens: it served before, and will again when what is wrong has passed.

        Raises:
            AdmissionError: it cannot be measured, or was, and is not admitted (``NotAdmittedHere`` has the figures).
            CertificateError: revoked, or certified in another way than it asked for.
        """
        standing, failures = self._membership.standing, 0
        while standing.required:
            if (revoked := standing.revoked()) is not None:
                raise revoked
            if standing.good or standing.recall():
                if standing.certificate is not None:
                    report.note(f"Admitted until {spell_time(standing.certificate.expires)}.")
                return
            report.phase(f"Being measured for admission to {self._membership.signed.charter.name}")
            try:
                self._adopt(await self.examine(swarm, manifest, report, b"", PATIENCE_S))
            except GridError as error:
                if not standing.required:
                    return  # an amendment opened the grid meanwhile
                if not patient and isinstance(error, AdmissionError | CertificateError):
                    raise
                failures += 1
                pause_s = retry_pause_s(failures, 0.0, random.random())  # noqa: S311 - spreads load
                report.note(f"Not admitted yet: {str(error).rstrip('.')}. Trying again in {spell_duration(pause_s)}.")
                await asyncio.sleep(pause_s)
