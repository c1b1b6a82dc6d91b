"""How an admission ends without a certificate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gridllm.admission.figures import Figures
from gridllm.errors import AdmissionError, Revoked

if TYPE_CHECKING:
    from gridllm.admission.messages import Verdict
    from gridllm.charter.notices import Revocation


class NotAdmittedHere(AdmissionError):
    """An authority measured this machine, or declined to, and does not admit it."""

    def __init__(self, reason: str, text: str, figures: Figures | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        """A word for programs: of ``judge.Reason``, or a Refusal's code."""
        self.text = text
        self.figures = figures
        """As far as measured."""


def check_not_revoked(revocation: Revocation | None) -> None:
    """Spare everyone the trouble where this machine's own notices say that it is not admitted.

    Raises:
        NotAdmittedHere: revoked, and until when.
    """
    if revocation is not None and time.time() < revocation.until:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(revocation.until))
        raise NotAdmittedHere(
            Revoked.code,
            f"The maintainers revoked this machine's admission ({revocation.why}); it may be measured again after "
            f"{until}.",
        )


def figures_of(verdict: Verdict) -> Figures | None:
    """What an authority measured, for the table; None where it sent nothing that parses."""
    try:
        return Figures.model_validate_json(verdict.figures)
    except ValidationError:
        return None
