"""Minimums in lines for people."""

from __future__ import annotations

from gridllm.admission.spelling import label, spell
from gridllm.charter.minimums import ROLES, Admission, Minimums
from gridllm.quantities import spell_duration


def asked(minimums: Minimums) -> dict[str, str]:
    """Field → its value for people, for those that ask for something."""
    values = {name: getattr(minimums, name) for name in Minimums.model_fields}
    return {name: spell(name, value) for name, value in values.items() if value}


def admission_lines(admission: Admission) -> list[str]:
    """What a machine must reach to take part: one line for the rule, one for each role."""
    if not admission.required:
        return ["open: no certificate needed"]
    lines = [
        f"required: a machine is measured first; its certificate holds for {spell_duration(admission.certificate_s)}"
    ]
    for role in ROLES:
        asks = [f"{label(name)} {text}" for name, text in asked(admission.of(role)).items()]
        lines.append(f"to {role}: {'; '.join(asks) or 'nothing asked for'}")
    return lines
