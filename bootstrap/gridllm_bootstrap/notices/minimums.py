"""Changing the minimums of a grid that runs: an amendment beside its charter."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gridllm.admission.spelling import label, spell
from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import SignedCharter
from gridllm.charter.minimums import ROLES, Admission, Minimums, Role
from gridllm.charter.notices import AMENDMENT_TYPE, Amendment
from gridllm.errors import UsageError
from gridllm.identity.keys import Identity
from gridllm.identity.statement import sign_statement
from gridllm_bootstrap.founding.defaults import WHAT
from gridllm_bootstrap.founding.minimum_flags import Changes, changed


@dataclass(frozen=True, slots=True)
class Change:
    """What the maintainer wants changed, as typed."""

    minimums: Changes
    certificate_s: int | None = None
    required: bool | None = None

    def __bool__(self) -> bool:
        return bool(self.minimums) or self.certificate_s is not None or self.required is not None

    def applied(self, admission: Admission) -> Admission:
        """The rules that result.

        Raises:
            UsageError: a minimum that cannot be, or nothing would change.
        """
        fields = {"certificate_s": self.certificate_s, "required": self.required}
        given = {name: value for name, value in fields.items() if value is not None}
        result = changed(admission, self.minimums).model_copy(update=given)
        if result == admission:
            raise UsageError("These minimums are in force already; nothing was signed.")
        return result


def amendment(signed: SignedCharter, board: NoticeBoard, change: Change, maintainer: Identity) -> bytes:
    """The change as a statement with one maintainer's signature.

    Raises:
        UsageError: see ``Change.applied``.
    """
    latest = board.amendment
    notice = Amendment(
        grid=signed.grid,
        serial=1 if latest is None else latest.serial + 1,
        issued=int(time.time()),
        admission=change.applied(board.admission),
    )
    return sign_statement(notice, AMENDMENT_TYPE, [maintainer])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    role: Role
    name: str  # field of ``Minimums``
    value: float | int | str | bool

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Role, figure, value, what it is."""
        return self.role, label(self.name), spell(self.name, self.value), WHAT.get(self.name, "")


def rows(admission: Admission) -> list[Row]:
    """Every minimum that asks for something, role by role."""
    found = []
    for role in ROLES:
        for name in Minimums.model_fields:
            value = getattr(admission.of(role), name)
            if value:
                found.append(Row(role, name, value))
    return found
