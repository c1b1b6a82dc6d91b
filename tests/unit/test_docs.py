"""Documents cannot drift: the command reference is the one that the commands give."""

from __future__ import annotations

import re
from pathlib import Path

from gridllm.cli.reference import command_reference

DOCS = Path(__file__).parents[2] / "docs"
GROUPS = ("gridllm bootstrap", "gridllm ledger", "gridllm leaderboard")  # of commands, that are none themselves


def test_the_command_reference_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == command_reference(), "run: make docs"


def test_every_command_is_described_with_an_example() -> None:
    for section in command_reference().split("\n## ")[1:]:
        name = section.splitlines()[0]
        assert "cannot be loaded" not in section
        assert "```\ngridllm " in section or name in GROUPS, f"{name} shows no example"


def test_readme_names_only_commands_and_flags_that_exist() -> None:
    reference = command_reference()
    for page, shown in ((DOCS.parent / "README.md", r"```.*?```|`[^`]+`"), (DOCS / "leaderboard.md", r"```.*?```")):
        code = "\n".join(re.findall(shown, page.read_text(encoding="utf-8"), re.DOTALL))
        for used in re.findall(r"\bgridllm ((?:(?:bootstrap|leaderboard|ledger) )?[a-z]+)(?=[ `\n])", code):
            assert f"\n## gridllm {used}\n" in reference, f"{page.name} uses gridllm {used}"
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for flag in re.findall(r"`?(--[a-z-]+)", readme):
        assert flag in reference, f"README uses {flag}"


def test_links_between_documents_lead_somewhere() -> None:
    pages = [DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + list(DOCS.rglob("*.md"))
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_documents_name_only_files_that_exist() -> None:
    root = DOCS.parent
    folders = ("gridllm", "clients", "bootstrap", "leaderboard", "tests", "benchmarks")
    files = {f"/{path.relative_to(root)}" for folder in folders for path in (root / folder).rglob("*.py")}
    for page in (root / "CONTRIBUTING.md", root / "README.md", *DOCS.glob("*.md")):
        for named in re.findall(r"(?<![\w/.])\w+(?:/\w+)*\.py\b", page.read_text(encoding="utf-8")):
            known = named.startswith("_") or any(path.endswith(f"/{named}") for path in files)
            assert known, f"{page.name} names {named}"


def test_every_decision_is_listed() -> None:
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    for record in (DOCS / "decisions").glob("0*.md"):
        assert f"({record.name})" in index, f"docs/decisions/README.md lacks {record.name}"
