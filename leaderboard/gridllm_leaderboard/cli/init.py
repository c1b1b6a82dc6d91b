"""``gridllm leaderboard init``: the rules, signed by the maintainers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridllm_bootstrap.cli.common import HomeOption, JsonOption, NameOption, grid_at, home_at

if TYPE_CHECKING:
    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.contest import Rules
    from gridllm.identity.keys import Identity


def init(
    fee: Annotated[str | None, typer.Option(metavar="CREDITS", help="Fee for a submission. Default: nothing.")] = None,
    bounty: Annotated[
        str | None, typer.Option(metavar="CREDITS", help="Granted to the author of a new champion. Default: nothing.")
    ] = None,
    daily: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Submissions per account in 24 hours. Default: 3.")
    ] = None,
    largest: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Largest weights of a submission. Default: 20GiB.")
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option(metavar="CREDITS", help="Contribution needed to use a listed model. Default: none."),
    ] = None,
    grader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PEER",
            help="Peer id or public key of a grader; may be repeated; replaces earlier ones. Default: this "
            "machine's (gridllm id).",
        ),
    ] = None,
    quorum: Annotated[int | None, typer.Option(min=1, max=64, help="Grades a submission needs. Default: 1.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FOLDER[:ITEMS[:WEIGHT]]",
            help="Task to grade on; may be repeated; replaces earlier ones. Default: stories, sums and facts, "
            "200 items of each.",
        ),
    ] = None,
    round_: Annotated[
        str | None,
        typer.Option(
            "--round", metavar="DURATION", help="How long a round waits for more submissions. Default: 10min."
        ),
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="A round that has no verdict this long after its lock is void, and its submissions wait for the "
            "next one. Default: 7d.",
        ),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key because the old one is lost: the leaderboard starts over.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    name: NameOption = None,
    out: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the grid's leaderboard, or change its rules from the next round on.

    Run it where the grid was founded. What is not given stays as it was. Then start it: gridllm leaderboard run

    Example: gridllm leaderboard init --fee 5 --bounty 100 --task stories:400:2 --task sums
    """
    import time

    from gridllm.charter.board import NoticeBoard
    from gridllm.charter.contest import RULES_TYPE
    from gridllm.cli.show import facts_text, room, stdout
    from gridllm.cli.work import step
    from gridllm.errors import UsageError
    from gridllm.identity.keys import load_or_create
    from gridllm.identity.statement import sign_statement
    from gridllm.ledger.statements import account_named
    from gridllm.settings import load_settings
    from gridllm_bootstrap.cli.notices import say
    from gridllm_leaderboard.cli.rules_view import rules_facts
    from gridllm_leaderboard.place import Place
    from gridllm_leaderboard.wishes import USUAL_TASKS, lines_of, loaded, parse_task, remember_sources, rules_of

    home = home_at(out)
    signed = grid_at(home, name)
    if not signed.charter.economy.required:
        raise UsageError(
            f"The grid {signed.charter.name!r} keeps no ledger, which a leaderboard needs for fees, bounties and "
            "contributions. Grids with credit are founded with: gridllm bootstrap init --ledger"
        )
    place = Place(home.folder(signed.charter.name))
    held = NoticeBoard(signed, home.pins.notices_path(signed)).rules
    if new_key and place.key.exists():
        raise UsageError(f"The leaderboard's key is here: {place.key}. To start over, move it away first.")
    changes = _changes(fee, bounty, daily, largest, tier, quorum, round_, patience)
    if grader is not None:
        changes["graders"] = [account_named(one) for one in grader]
    elif held is None:
        changes["graders"] = [load_or_create(load_settings().identity_path).public_key.hex()]
    wishes = [parse_task(one) for one in (task or ([] if held is not None else USUAL_TASKS))]
    with step("Making the tasks"):
        tasks = loaded(wishes)
        lines = lines_of(tasks)
    own = held is None or new_key or place.key.exists()  # else it lies with another maintainer, or is lost
    account = load_or_create(place.key).public_key.hex() if held is None or own else held.account

    def next_rules(before: Rules | None) -> Rules:
        return rules_of(signed.grid, account, before, changes, lines, int(time.time()))

    shown = next_rules(held)
    if not as_json:
        stdout().print(facts_text(rules_facts(shown, signed.charter.name), room()))
    if sys.stdin.isatty() and not yes and not as_json:
        typer.confirm("Sign these rules?", abort=True)
    remember_sources(place.tasks, tasks)

    def make(board: NoticeBoard, maintainer: Identity) -> bytes:
        return sign_statement(next_rules(board.rules or held), RULES_TYPE, [maintainer])

    say(home, signed, "leaderboard-rules", make, as_json=as_json)
    if not as_json:
        stdout().print("\nStart it beside gridllm bootstrap run:  [bold]gridllm leaderboard run[/]")


def _changes(
    fee: str | None,
    bounty: str | None,
    daily: int | None,
    largest: str | None,
    tier: str | None,
    quorum: int | None,
    round_: str | None,
    patience: str | None,
) -> dict[str, Any]:
    """What was typed, by the rules' fields. Raises UsageError."""
    from gridllm.quantities import parse_credits, parse_duration, parse_size

    said = {
        "fee": None if fee is None else parse_credits(fee),
        "bounty": None if bounty is None else parse_credits(bounty),
        "daily": daily,
        "largest_bytes": None if largest is None else parse_size(largest),
        "tier": None if tier is None else parse_credits(tier),
        "quorum": quorum,
        "round_s": None if round_ is None else parse_duration(round_),
        "patience_s": None if patience is None else parse_duration(patience),
    }
    return {field: value for field, value in said.items() if value is not None}
