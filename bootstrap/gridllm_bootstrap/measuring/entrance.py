"""What an authority checks before it measures anything. Pure: a Hello in, the model's entry or a named refusal out."""

from __future__ import annotations

import time
from typing import Final

from gridllm.admission.certificate import SKEW_S, Certificate, check_certificate, verify_signatures
from gridllm.admission.figures import meets, version_tuple
from gridllm.admission.messages import Hello
from gridllm.charter.board import NoticeBoard
from gridllm.charter.catalogue import Catalogue
from gridllm.charter.document import ModelEntry, SignedCharter
from gridllm.charter.minimums import ROLES, Admission
from gridllm.errors import CertificateError, ClockSkew, Malformed, Outdated, Revoked, WrongGrid, WrongModel
from gridllm.ids import ModelRoot, PeerId

DTYPES: Final = ("float32", "bfloat16", "float16")


def check_hello(hello: Hello, peer: PeerId, signed: SignedCharter, board: NoticeBoard, now_s: float) -> ModelEntry:
    """The model that ``peer`` wants to serve, if it may be measured for it now.

    Raises:
        WrongGrid, WrongModel, Malformed, Outdated, ClockSkew, Revoked: why not, and what to do.
    """
    entry = _model(hello, signed, board)
    unknown = [role for role in hello.roles if role not in ROLES]
    if unknown:
        raise Malformed(f"There is no role {unknown[0]!r}; roles are {', '.join(ROLES)}.")
    _check_version(hello, board.admission)
    _check_clock(hello, now_s)
    check_not_revoked(peer, board, now_s)
    return entry


def check_not_revoked(peer: PeerId, board: NoticeBoard, now_s: float) -> None:
    """Whether the maintainers let ``peer`` be measured.

    Raises:
        Revoked: not before a time, which is named.
    """
    revocation = board.revocation(peer)
    if revocation is not None and now_s < revocation.until:
        raise Revoked(
            f"The maintainers revoked the admission of {peer} ({revocation.why}); it may be measured again after "
            f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(revocation.until))}."
        )


def certificate_to_renew(
    hello: Hello, peer: PeerId, signed: SignedCharter, board: NoticeBoard, now_s: float
) -> Certificate | None:
    """The certificate of ``peer`` that runs out, if it counts; None: it is measured like a newcomer."""
    if not hello.certificate:
        return None
    try:
        certificate = verify_signatures(hello.certificate, signed)
        check_certificate(
            certificate,
            peer,
            now_s=now_s,
            role=certificate.roles[0],
            model=ModelRoot(hello.model),
            dtype=hello.dtype,
        )
    except CertificateError:
        return None
    revocation = board.revocation(peer)
    return None if revocation is not None and certificate.issued < revocation.issued else certificate


def _model(hello: Hello, signed: SignedCharter, board: NoticeBoard) -> ModelEntry:
    if hello.grid != signed.grid:
        raise WrongGrid(
            f"This is an authority of the grid {signed.grid[:16]}…, not of {hello.grid[:16]}…; join this one first."
        )
    entry = Catalogue(signed, board).entry(hello.model)
    if entry is None:
        raise WrongModel(
            f"The grid {signed.charter.name!r} serves no model of root {hello.model[:16]}…, as far as this authority "
            "knows; one that was listed a moment ago is known everywhere within a minute."
        )
    if hello.dtype not in DTYPES:
        raise WrongModel(f"The dtype {hello.dtype!r} is not served; choose one of {', '.join(DTYPES)}.")
    return entry


def _check_version(hello: Hello, admission: Admission) -> None:
    asked = [admission.of(role).version for role in ROLES if role in hello.roles]
    if not any(meets(version, hello.version) for version in asked):
        oldest = min(asked, key=version_tuple)
        raise Outdated(
            f"This grid asks for gridllm {oldest} or newer, and this machine runs {hello.version}; run: "
            "pip install --upgrade gridllm"
        )


def _check_clock(hello: Hello, now_s: float) -> None:
    ahead_s = hello.clock_s - now_s
    if abs(ahead_s) > SKEW_S:
        raise ClockSkew(
            f"This machine's clock says {_spell(hello.clock_s)}, the authority's {_spell(now_s)}: "
            f"{abs(ahead_s) / 60:.1f} minutes {'ahead' if ahead_s > 0 else 'behind'}, and {SKEW_S // 60} are "
            "tolerated; set the clock of whichever is wrong (for instance with NTP)."
        )


def _spell(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
