"""How the way to a certificate ended, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridllm.admission.certificate import Certificate
    from gridllm.admission.examination.candidacy import Candidacy
    from gridllm.admission.figures import Figures
    from gridllm.charter.minimums import Admission, Role
    from gridllm.cli.bench_view import Row
    from gridllm.errors import GridError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the way to a certificate ended."""

    certificate: Certificate | None
    measured: bool = False  # just now; else the certificate is one from before
    error: GridError | None = None  # why there is no certificate
    candidacy: Candidacy | None = None  # what was measured, where it is not fit to serve

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
        from gridllm.errors import AdmissionError, Revoked
        from gridllm.node.standing import spell_time

        console = stdout()
        if self.figures is not None:
            rows = rows_of(self.figures, admission, unknown=self._unknown())
            console.print()
            console.print(bench_table(rows, self.figures), crop=False)
            for sentence in self._remedies(rows):
                console.print(f"  • {sentence}", markup=False)
        if self.certificate is None:
            if self.reason == Revoked.code:
                mend = "run gridllm serve after that time"
            elif self.figures is not None:
                mend = "fix what falls short (gridllm bench shows it) and join again"
            else:
                mend = "run gridllm serve, which waits until it can be measured"
            raise AdmissionError(
                f"This machine is not admitted: {str(self.error).rstrip('.')}. The grid stays joined, and generating "
                f"needs no certificate; to volunteer, {mend}."
            )
        admitted = "Admitted" if self.measured else "Admitted already,"
        roles, until = ", ".join(self.certificate.roles), spell_time(self.certificate.expires)
        console.print(
            f"\n[bold green]{admitted}[/] to {roles} until {until}; {_commands(self.certificate.roles)} renews it."
        )

    @property
    def next_step(self) -> str:
        """The commands that this machine's roles are for, for rich."""
        roles = self.certificate.roles if self.certificate is not None else ()
        return _commands(("serve",) if "serve" in roles else roles, bold=True)

    def _unknown(self) -> frozenset[str]:
        """Figures that a refusal came before."""
        from gridllm.admission.examination.judge import TOO_LITTLE

        if self.figures is None or not self.reason or self.reason in TOO_LITTLE:
            return frozenset()
        return frozenset(name for name in type(self.figures).model_fields if not getattr(self.figures, name))

    def _remedies(self, rows: Sequence[Row]) -> list[str]:
        from gridllm.cli.bench import situation_of
        from gridllm.cli.bench_view import remedies

        return [] if self.candidacy is None else remedies(rows, situation_of(self.candidacy))


def _commands(roles: Sequence[Role], *, bold: bool = False) -> str:
    """gridllm serve or gridllm relay, …: what a machine with these roles may run."""
    return " or ".join(f"[bold]gridllm {role}[/]" if bold else f"gridllm {role}" for role in roles)
