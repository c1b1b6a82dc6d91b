"""Certificates: what the maintainers' threshold signs about a measured node, and how anyone verifies one offline.

Each authority measures on its own and signs a ``Measurement``. A threshold of those determines the ``Certificate``: the
median of each figure. Every authority signs those same bytes, and the candidate joins the signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from gridllm.admission.figures import Figures, median_figures, roles_met
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import Admission, Role
from gridllm.errors import AdmissionError, CertificateError, StatementError
from gridllm.identity.fields import HexDigest, HexKey, Peer, Strict, UnixSeconds
from gridllm.identity.keys import Identity
from gridllm.identity.statement import join_signatures, sign_statement, verify_statement
from gridllm.ids import ModelRoot, PeerId

MEASUREMENT_TYPE: Final = "application/vnd.gridllm.measurement+json"
CERTIFICATE_TYPE: Final = "application/vnd.gridllm.certificate+json"
MAX_CERTIFICATE_BYTES: Final = 4096  # what fits into a node record
SKEW_S: Final = 300  # clocks may differ by this much
MEASUREMENT_LIFE_S: Final = 1800  # a measurement counts this long: time to gather the others

Dtype = Literal["float32", "bfloat16", "float16"]


class Measurement(Strict):
    """What one authority saw. Signed by its maintainer's key alone."""

    grid: HexDigest
    peer: Peer  # proven by the connection's handshake
    model: HexDigest  # root; its shape was computed
    dtype: Dtype  # computed in, and to be served in
    figures: Figures
    taken: UnixSeconds  # by the authority's clock
    authority: HexKey  # the maintainer


class Certificate(Strict):
    """``peer`` may take part in these roles until ``expires``. Signed by the charter's threshold of maintainers."""

    grid: HexDigest
    peer: Peer
    model: HexDigest
    dtype: Dtype
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]
    figures: Figures  # the median of what the authorities measured
    issued: UnixSeconds  # when the last of them measured
    expires: UnixSeconds
    measured_by: Annotated[list[HexKey], Field(min_length=1, max_length=16)]  # maintainers, sorted


def sign_measurement(measurement: Measurement, maintainer: Identity) -> bytes:
    """The measurement as a statement of its authority."""
    return sign_statement(measurement, MEASUREMENT_TYPE, [maintainer])


def verify_measurement(raw: bytes, signed: SignedCharter) -> Measurement:
    """The measurement in ``raw``, once the maintainer it names is known to have signed it.

    Raises:
        AdmissionError: forged, of another grid, or by nobody who may measure here.
    """
    keys = [bytes.fromhex(key) for key in signed.charter.maintainers]
    try:
        measurement = verify_statement(raw, Measurement, MEASUREMENT_TYPE, keys, 1)
        verify_statement(raw, Measurement, MEASUREMENT_TYPE, [bytes.fromhex(measurement.authority)], 1)
    except StatementError as error:
        raise AdmissionError(f"A measurement is not of this grid's maintainers: {error}") from error
    if measurement.authority not in signed.charter.maintainers or measurement.grid != signed.grid:
        raise AdmissionError("A measurement was signed for another grid; ask this grid's own authorities.")
    return measurement


def certificate_from(
    measurements: Sequence[Measurement], signed: SignedCharter, admission: Admission, now_s: float
) -> Certificate:
    """What these (verified) measurements certify; the same bytes wherever it is computed.

    Raises:
        AdmissionError: too few authorities, measurements that do not belong together or are too old, or figures that
            reach no role's minimums.
    """
    needed = signed.charter.threshold
    by = sorted({one.authority for one in measurements})
    if len(by) < needed or len(by) != len(measurements):
        raise AdmissionError(f"{needed} different maintainers must have measured this machine, not {len(by)}.")
    if len({(one.grid, one.peer, one.model, one.dtype) for one in measurements}) > 1:
        raise AdmissionError("These measurements are not of one node, model and dtype; measure again.")
    oldest = min(one.taken for one in measurements)
    if oldest < now_s - MEASUREMENT_LIFE_S - SKEW_S or max(one.taken for one in measurements) > now_s + SKEW_S:
        raise AdmissionError(f"A measurement counts for {MEASUREMENT_LIFE_S // 60} minutes only; measure again.")
    figures = median_figures([one.figures for one in measurements])
    roles = roles_met(figures, admission)
    if not roles:
        raise AdmissionError("The measured figures reach the minimums of no role; gridllm bench shows what is short.")
    first, issued = measurements[0], max(one.taken for one in measurements)
    return Certificate(
        grid=first.grid,
        peer=first.peer,
        model=first.model,
        dtype=first.dtype,
        roles=roles,
        figures=figures,
        issued=issued,
        expires=issued + admission.certificate_s,
        measured_by=by,
    )


def sign_certificate(certificate: Certificate, maintainer: Identity) -> bytes:
    """One authority's signature on the certificate: an envelope to be joined with the others'."""
    return sign_statement(certificate, CERTIFICATE_TYPE, [maintainer])


def join_certificate(envelopes: Sequence[bytes], signed: SignedCharter) -> bytes:
    """One envelope with the signatures of all, verified against the charter's threshold.

    Raises:
        AdmissionError: they sign different certificates, or are too few, or it is too large for a node record.
    """
    try:
        raw = join_signatures(envelopes)
    except StatementError as error:
        raise AdmissionError(f"The authorities did not sign the same certificate; try again. ({error})") from error
    try:
        verify_signatures(raw, signed)
    except CertificateError as error:
        raise AdmissionError(f"The certificate lacks valid signatures: {error}") from error
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise AdmissionError(f"The certificate has {len(raw)} bytes; a node record has room for 4096.")
    return raw


def verify_signatures(raw: bytes, signed: SignedCharter) -> Certificate:
    """The certificate in ``raw``, once the charter's threshold is known to have signed it for this grid; nothing else
    is checked (see ``Gatekeeper``).

    Raises:
        CertificateError: missing, forged, or of another grid.
    """
    if not raw:
        raise CertificateError("missing", "It carries no admission certificate; it gets one with: gridllm join")
    keys = [bytes.fromhex(key) for key in signed.charter.maintainers]
    try:
        certificate = verify_statement(raw, Certificate, CERTIFICATE_TYPE, keys, signed.charter.threshold)
    except StatementError as error:
        raise CertificateError("forged", f"Its admission certificate is forged or was altered: {error}") from error
    if certificate.grid != signed.grid:
        raise CertificateError("grid", f"Its admission certificate is of another grid, {certificate.grid[:16]}….")
    return certificate


def check_certificate(
    certificate: Certificate,
    peer: PeerId,
    *,
    now_s: float,
    role: Role = "serve",
    model: ModelRoot | None = None,
    dtype: str | None = None,
) -> Certificate:
    """Check what signatures do not say: holder, time, model, dtype, role. Pure.

    Raises:
        CertificateError: names the rule that it breaks.
    """
    if certificate.peer != peer:
        raise CertificateError("holder", f"The certificate is {certificate.peer}'s; {peer} cannot use it.")
    ahead_s = certificate.issued - now_s
    if ahead_s > SKEW_S:
        raise CertificateError(
            "early",
            f"The certificate of {peer} was issued {ahead_s / 60:.0f} minutes in the future by this machine's clock; "
            "set the clock of whichever machine is wrong (for instance with NTP).",
        )
    past_s = now_s - certificate.expires
    if past_s > SKEW_S:
        raise CertificateError("expired", f"The certificate of {peer} expired {past_s / 60:.0f} minutes ago.")
    if model is not None and certificate.model != model:
        raise CertificateError("model", f"The certificate of {peer} is for the model {certificate.model[:16]}….")
    if dtype is not None and certificate.dtype != dtype:
        raise CertificateError("dtype", f"The certificate of {peer} is for {certificate.dtype}, not {dtype}.")
    if role not in certificate.roles:
        raise CertificateError("role", f"{peer} is admitted to {', '.join(certificate.roles)}, not to {role}.")
    return certificate
