"""A charter's economy in lines for people: what service costs, and what credit opens."""

from __future__ import annotations

from typing import Final

from gridllm.charter.document import Charter
from gridllm.charter.economy import PARAMETERS
from gridllm.quantities import count_credits, spell_credits, spell_duration

BILLION: Final = 10**9


def economy_lines(charter: Charter) -> list[str]:
    """One line for each rule; a single one where nothing is paid for."""
    economy = charter.economy
    if not economy.required:
        return ["none: nothing is metered, nobody pays"]
    names = {entry.root: entry.name for entry in charter.models}
    lines = [
        f"a token through a billion parameters costs {count_credits(_per_billion(economy.prices.decode))}, "
        f"of a prompt {spell_credits(_per_billion(economy.prices.prefill))}",
        f"a node serves {economy.window_tokens} tokens beyond what is paid; escrow holds for "
        f"{spell_duration(economy.escrow_s)}",
        _first_credit(charter),
        f"who cannot pay {_newcomers(charter)}",
    ]
    if economy.trust:
        trusted = count_credits(economy.trust)
        beyond = "; beyond that it is served after all who pay" if economy.newcomers == "lowest" else ""
        lines.append(f"while a keeper is silent, each node trusts an account in good standing with {trusted}{beyond}")
    elif economy.newcomers == "lowest":
        lines.append("while an account's keeper is silent, it is served after all who pay, and nodes are not paid")
    lines += [f"{names[tier.model]}: {_contribution(tier.contribution)}" for tier in economy.tiers]
    lines += [
        f"priority class {number}: {_contribution(needed)}" for number, needed in enumerate(economy.classes, start=2)
    ]
    lines.append(f"leaderboard submissions: {_contribution(economy.submit)}")
    lines.append(f"books are kept by {len(charter.keepers)} of {len(charter.maintainers)} maintainers")
    return lines


def _first_credit(charter: Charter) -> str:
    if not charter.admission.required:  # nobody is certified, so nobody starts with anything
        return "the first credit is what maintainers grant: gridllm bootstrap grant"
    return f"each machine admitted to serve starts with {count_credits(charter.economy.starter)}"


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
    return f"for those who gave {count_credits(micro)} more than they took"


def _per_billion(price: int) -> int:
    return price * (BILLION // PARAMETERS)
