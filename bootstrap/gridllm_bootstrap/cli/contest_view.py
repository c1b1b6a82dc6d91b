"""What maintainers say about the leaderboard, in lines for people: its rules, models that are listed, the champion."""

from __future__ import annotations

from datetime import UTC, datetime

from gridllm.admission.spelling import spell_bytes
from gridllm.charter.contest import Crown, Listing, Rules
from gridllm.charter.document import Charter
from gridllm.cli.show import count_of
from gridllm.quantities import count_credits, spell_duration


def contest_facts(content: Rules | Listing | Crown, charter: Charter) -> dict[str, str | list[str]]:
    """What such a notice says."""
    if isinstance(content, Rules):
        return _rules(content, charter)
    if isinstance(content, Listing):
        return _listing(content, charter)
    return {
        "Champion": f"the model {content.root}",
        "Grid": charter.name,
        "Number": str(content.serial),
        "Submission": content.submission,
        "Verdict": content.verdict,
        "Issued": moment(content.issued),
    }


def moment(unix_s: int) -> str:
    """A time in UTC; what lies beyond the calendar, in seconds."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s after 1970"


def _rules(rules: Rules, charter: Charter) -> dict[str, str | list[str]]:
    shares = sum(task.weight for task in rules.tasks)
    return {
        "Leaderboard": f"rules, number {rules.serial}",
        "Grid": charter.name,
        "Issued": moment(rules.issued),
        "Account": rules.account,
        "Graders": [f"{rules.quorum} of {len(rules.graders)} must grade each submission:", *rules.graders],
        "Tasks": [
            f"{task.name}: {task.kind}, {task.items} items, {100 * task.weight / shares:.3g}% of the score, "
            f"committed to as {task.commitment[:16]}…"
            for task in rules.tasks
        ],
        "Fee": count_credits(rules.fee),
        "Bounty": count_credits(rules.bounty),
        "At most": [
            f"{rules.daily} submissions of one account in a day",
            f"{spell_bytes(rules.largest_bytes)} of weights",
        ],
        "Tier": f"a listed model is for those who gave {count_credits(rules.tier)} more than they took"
        if rules.tier
        else "listed models are open to all",
        "Rounds": [
            f"wait {spell_duration(rules.round_s)} for further submissions",
            f"are void without a verdict {spell_duration(rules.patience_s)} after their lock",
        ],
    }


def _listing(listing: Listing, charter: Charter) -> dict[str, str | list[str]]:
    model = listing.model
    return {
        "Withdrawn" if listing.withdrawn else "Listed": f"{model.name}: {model.blocks} blocks, "
        f"{count_of(model.parameters)} parameters, {model.dtype}",
        "Grid": charter.name,
        "Root": model.root,
        "Submission": listing.submission,
        "Asks for": f"a contribution of {count_credits(listing.contribution)}" if listing.contribution else "nothing",
        "Issued": moment(listing.issued),
    }
