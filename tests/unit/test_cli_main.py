"""The root command: sub-commands by entry point, errors as one sentence."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import pytest
import typer

from gridllm.cli import main as cli
from gridllm.cli.help import PANELS
from gridllm.cli.reference import commands_of_all
from gridllm.errors import GridError, UsageError

REAL = {entry.name: entry for entry in entry_points(group=cli.COMMAND_GROUP)}


def fails_politely() -> None:
    """Fail as commands do."""
    raise GridError("The moon is in the wrong phase [bold]7[/bold]; wait a week.")


def used_wrongly() -> None:
    raise UsageError("The flag --x cannot be y.")


def interrupted() -> None:
    raise KeyboardInterrupt


def finds_a_full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")


def has_a_bug() -> None:
    raise ZeroDivisionError("division by zero")


sub = typer.Typer()


@sub.command()
def inner(name: str) -> None:
    typer.echo(f"inner {name}")


@sub.command()
def other() -> None:
    typer.echo("other")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points to this very module, and some that lead nowhere."""
    module = ModuleType("gridllm_test_commands")
    for name, value in globals().items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "gridllm_test_commands", module)
    targets = {name: f"gridllm_test_commands:{name}" for name in ("fails_politely", "used_wrongly", "interrupted")}
    targets["finds_a_full_disk"] = "gridllm_test_commands:finds_a_full_disk"
    targets |= {"has_a_bug": "gridllm_test_commands:has_a_bug", "sub": "gridllm_test_commands:sub"}
    targets |= {"gone": "gridllm_no_such_module:app", "hollow": "gridllm_test_commands:nothing"}
    entries = [EntryPoint(name, value, cli.COMMAND_GROUP) for name, value in targets.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: entries)
    monkeypatch.delenv("GRIDLLM_DEBUG", raising=False)


def run(*args: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    return caught.value.code


def test_ctrl_c_waits_for_no_thread() -> None:
    script = (
        "import sys, threading, time\nfrom gridllm.cli import main as cli\n"
        "def command():\n    threading.Thread(target=time.sleep, args=(3600,)).start()\n    raise KeyboardInterrupt\n"
        "cli.app.command('wait')(command)\nsys.argv = ['gridllm', 'wait']\nprint('said before')\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (130, "said before\n"), done.stderr


@pytest.mark.usefixtures("commands")
class TestMain:
    def test_a_grid_error_is_one_sentence(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("fails_politely") == 1
        out, err = capsys.readouterr()
        assert err == "gridllm: The moon is in the wrong phase [bold]7[/bold]; wait a week.\n"
        assert out == ""

    def test_wrong_usage_exits_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("used_wrongly") == 2
        assert capsys.readouterr().err == "gridllm: The flag --x cannot be y.\n"
        assert run("no_such_command") == 2
        assert "No such command" in capsys.readouterr().err

    def test_a_slip_is_answered_with_the_nearest_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("interupted") == 2
        assert "'interrupted'" in capsys.readouterr().err

    def test_ctrl_c_exits_130(self) -> None:
        assert run("interrupted") == 130

    def test_a_bug_is_a_sentence_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("has_a_bug") == 70
        err = capsys.readouterr().err
        assert "Unexpected ZeroDivisionError: division by zero" in err
        assert "Traceback" not in err

    def test_a_full_disk_is_no_bug(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("finds_a_full_disk") == 1
        assert capsys.readouterr().err == (
            "gridllm: No space left on device (/data/x): make room on that disk, and run the command again.\n"
        )

    def test_debug_shows_where(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRIDLLM_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            cli.main(["has_a_bug"])

    def test_an_app_with_commands_of_its_own(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("sub", "inner", "x") == 0
        assert capsys.readouterr().out == "inner x\n"

    @pytest.mark.parametrize(("name", "why"), [("gone", "gridllm_no_such_module"), ("hollow", "nothing")])
    def test_a_broken_command_breaks_no_other(self, name: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(name, "--flag", "x") == 1
        err = capsys.readouterr().err
        assert f"'gridllm {name}' cannot be loaded" in err
        assert why in err
        assert run("--help") == 0
        assert "fails_politely" in capsys.readouterr().out


def test_every_command_loads_and_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(cli.COMMAND_ORDER) == set(REAL)
    for name in REAL:
        assert run(name, "--help") == 0, name
        out = capsys.readouterr().out
        assert "cannot be loaded" not in out
        assert "<bool>" not in out
    for name, command in commands_of_all():
        assert getattr(command, "commands", None) or "\n\nExample: gridllm " in command.help, f"{name} has no example"


def test_the_first_help_says_what_to_type_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    panels = [out.index(panel) for panel in PANELS]
    assert panels == sorted(panels) and out.index("gridllm demo") < out.index("gridllm join ADDRESS")


def test_a_command_of_a_group_is_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rank") == 2
    assert "did you mean: gridllm leaderboard rank?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [("gridllm sta", "status"), ("gridllm leaderboard subm", "submit"), ("gridllm id --js", "--json")],
)
def test_a_shell_completes_words(
    words: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_GRIDLLM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert run() == 0
    assert found in capsys.readouterr().out.split()


def test_help_needs_no_torch() -> None:
    script = (
        "import sys\nfrom gridllm.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'hivemind', 'numpy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be loaded" not in done.stdout


def test_help_is_fast() -> None:
    """Processor time, not wall time: the machine that runs the tests may be busy. It takes 0.15 to 0.4 s."""
    best_s = 10.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "gridllm", "--help"], capture_output=True, timeout=200, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best_s = min(best_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert best_s < 1.0, f"gridllm --help took {best_s:.2f} s"
