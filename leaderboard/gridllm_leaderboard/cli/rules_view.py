"""The leaderboard's rules in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridllm.ledger.statements import peer_of_account
from gridllm.quantities import count_credits, count_things, spell_duration

if TYPE_CHECKING:
    from gridllm.charter.contest import Rules, TaskRule


def rules_facts(rules: Rules, grid: str) -> dict[str, str | list[str]]:
    """What the rules say."""
    return {
        "Rules": f"number {rules.serial} of the leaderboard of {grid}",
        "Leaderboard": [peer_of_account(rules.account), f"account {rules.account}"],
        "Graders": [
            f"{count_things(rules.quorum, 'grade')} of these for each submission:",
            *(peer_of_account(one) for one in rules.graders),
        ],
        "Tasks": [_task(task) for task in rules.tasks],
        "Fee": count_credits(rules.fee) if rules.fee else "none",
        "Bounty": f"{count_credits(rules.bounty)} for a new champion" if rules.bounty else "none",
        "Limits": [
            f"{count_things(rules.daily, 'submission')} of an account in 24 hours",
            f"{rules.largest_bytes / 1e9:,.1f} GB of weights",
        ],
        "Listed models": f"for contributions of {count_credits(rules.tier)}" if rules.tier else "for every member",
        "Rounds": [
            f"begin {spell_duration(rules.round_s)} after the first submission" if rules.round_s else "begin at once",
            f"are void without a verdict {spell_duration(rules.patience_s)} after their lock",
        ],
    }


def _task(task: TaskRule) -> str:
    kind = "bits per byte of text" if task.kind == "text" else "the likeliest of several continuations"
    weight = f", weight {task.weight}" if task.weight != 1 else ""
    return f"{task.name}: {task.items:,} items, {kind}{weight}; commitment {task.commitment[:16]}…"
