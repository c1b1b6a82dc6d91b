"""A charter's economy in lines for people: what service costs, and what credit opens."""

from __future__ import annotations

from typing import Final

from gridllm.charter.document import Charter
from gridllm.charter.economy import PARAMETERS
from gridllm.quantities import spell_credits, spell_duration

BILLION: Final = 10**9


def economy_lines(charter: Charter) -> list[str]:
    """One line for each rule; a single one where nothing is paid for."""
    economy = charter.economy
    if not economy.required:
        return ["none: nothing is metered, nobody pays"]
    names = {entry.root: entry.name for entry in charter.models}
    lines = [
        f"a token through a billion parameters costs {_per_billion(economy.prices.decode)} credits, "
        f"of a prompt {_per_billion(economy.prices.prefill)}",
        f"a node serves {economy.window_tokens} tokens beyond what is paid; escrow holds for "
        f"{spell_duration(economy.escrow_s)}",
        f"whoever is admitted to serve starts with {spell_credits(economy.starter)} credits",
        f"who cannot pay {_newcomers(charter)}",
    ]
    if economy.trust:
        trusted = spell_credits(economy.trust)
        lines.append(f"while a keeper is silent, each node trusts an account in good standing with {trusted} credits")
    lines += [f"{names[tier.model]}: {_contribution(tier.contribution)}" for tier in economy.tiers]
    lines += [
        f"priority class {number}: {_contribution(needed)}" for number, needed in enumerate(economy.classes, start=2)
    ]
    lines.append(f"leaderboard submissions: {_contribution(economy.submit)}")
    lines.append(f"books are kept by {len(charter.keepers)} of {len(charter.maintainers)} maintainers")
    return lines


def _newcomers(charter: Charter) -> str:
    economy = charter.economy
    return {
        "nothing": "is served nothing",
        "allowance": f"is given {spell_credits(economy.allowance)} credits' worth a day, after all who pay",
        "lowest": "is served after all who pay",
    }[economy.newcomers]


def _contribution(micro: int) -> str:
    if not micro:
        return "open to all"
    return f"for those who gave {spell_credits(micro)} credits more than they took"


def _per_billion(price: int) -> str:
    return spell_credits(price * (BILLION // PARAMETERS))
