"""Documents cannot drift: the command reference is the one that the commands give."""

from __future__ import annotations

from pathlib import Path

from gridllm.cli.reference import command_reference

DOCS = Path(__file__).parents[2] / "docs"


def test_the_command_reference_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == command_reference(), "run: make docs"


def test_every_command_is_described_with_an_example() -> None:
    for section in command_reference().split("\n## ")[1:]:
        name = section.splitlines()[0]
        assert "cannot be loaded" not in section
        assert "```\ngridllm " in section or name == "gridllm bootstrap", f"{name} shows no example"
