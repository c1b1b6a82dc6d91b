"""From an examination's outcome to the signed word that the candidate takes home. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gridllm.admission.certificate import Certificate, Measurement, sign_measurement
from gridllm.admission.examination.judge import TOO_LITTLE
from gridllm.admission.figures import roles_met
from gridllm.admission.messages import Hello, Verdict
from gridllm.admission.renewing import renewed
from gridllm.charter.minimums import Admission
from gridllm.identity.keys import Identity
from gridllm.ids import GridId, PeerId

if TYPE_CHECKING:
    from gridllm.admission.examination.stages import Examined

HONEST: Final = ("", *TOO_LITTLE)  # nothing was found false: what was measured counts
MAX_TEXT_CHARS: Final = 1024


def verdict_on(
    examined: Examined,
    hello: Hello,
    peer: PeerId,
    admission: Admission,
    maintainer: Identity,
    grid: GridId,
    *,
    now_s: float,
    old: Certificate | None = None,
    strict: bool = False,
) -> Verdict:
    """Admitted, with a signed measurement, when the figures reach a role that was asked for.

    Args:
        old: the certificate that is renewed; what counts then is ``renewing.renewed``.
        strict: the node is suspect: nothing is carried over.
    """
    figures = examined.figures if old is None else renewed(old.figures, examined.figures, strict=strict)
    roles = roles_met(figures, admission) if examined.reason in HONEST else []
    seen = figures.model_dump_json().encode()
    if not set(roles) & set(hello.roles):
        text = examined.text or "The figures reach the minimums of no role that was asked for; see gridllm bench."
        return Verdict(
            admitted=False,
            reason=examined.reason or "short",
            text=text[:MAX_TEXT_CHARS],
            figures=seen,
            measurement=b"",
        )
    measurement = Measurement(
        grid=grid,
        peer=peer,
        model=hello.model,
        dtype=hello.dtype,  # type: ignore[arg-type]  # one of the three: entrance.check_hello
        figures=figures,
        taken=int(now_s),
        authority=maintainer.public_key.hex(),
    )
    return Verdict(
        admitted=True,
        reason="",
        text=f"Measured fit to {', '.join(roles)}.",
        figures=seen,
        measurement=sign_measurement(measurement, maintainer),
    )
