"""``gridllm leaderboard``: its commands. Each imports what it needs inside the function, so that --help stays quick."""

from __future__ import annotations

from typing import Any, Final

import typer

from gridllm_leaderboard.cli.annul import annul
from gridllm_leaderboard.cli.backup import backup, restore
from gridllm_leaderboard.cli.grade import grade
from gridllm_leaderboard.cli.history import history
from gridllm_leaderboard.cli.init import init
from gridllm_leaderboard.cli.practice import practice
from gridllm_leaderboard.cli.rank import rank
from gridllm_leaderboard.cli.regrade import regrade
from gridllm_leaderboard.cli.run import run
from gridllm_leaderboard.cli.show import show
from gridllm_leaderboard.cli.submissions import submissions
from gridllm_leaderboard.cli.submit import submit
from gridllm_leaderboard.cli.verify import verify
from gridllm_leaderboard.cli.withdraw import withdraw

app = typer.Typer(
    help="Submit models, have them graded by others, see who is best.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
PANELS: Final[dict[str, tuple[Any, ...]]] = {
    "Who is best": (rank, show, history, verify),
    "Submit a model": (practice, submit, submissions, regrade, withdraw),
    "Grade": (grade,),
    "Run a leaderboard (maintainers)": (init, run, annul, backup, restore),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
