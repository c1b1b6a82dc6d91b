"""What `gridllm join` shows of an examination and of its end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gridllm.admission.admit import NotAdmittedHere
from gridllm.admission.figures import Figures
from gridllm.charter.minimums import Admission, Minimums
from gridllm.cli.candidate_view import Outcome
from gridllm.cli.examination_view import BarWatcher, LineWatcher, make_watcher, stage_sentence
from gridllm.cli.join import _roles
from gridllm.errors import AdmissionError, UsageError
from gridllm.identity.keys import Identity
from tests.certificates import certificate, closed_grid

PEER = Identity.ephemeral().peer
ADMISSION = Admission(required=True, serve=Minimums(decode_blocks_per_s=50.0, memory_bytes=2**30))


def test_roles_are_checked_and_ordered() -> None:
    assert _roles(None) is None
    assert _roles(["seed", "serve"]) == ("serve", "seed")
    with pytest.raises(UsageError, match="no role 'king'; --role takes serve, relay, seed"):
        _roles(["serve", "king"])


def test_admitted_ends_with_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(certificate(closed_grid(), PEER, roles=["serve", "relay"]), measured=True)
    outcome.show(ADMISSION)
    shown = capsys.readouterr().out
    for text in ("decode, one session", "50 blocks/s", "100 blocks/s", "1.0 GiB", "Admitted to serve, relay until 20"):
        assert text in shown
    document = outcome.json()
    assert (outcome.exit_code, document["admitted"], document["reason"], document["text"]) == (0, True, "", "")
    assert document["certificate"]["peer"] == PEER
    assert document["measured"]["decode_blocks_per_s"] == 100.0


def test_fit_for_less_names_the_commands_it_may_run(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(certificate(closed_grid(), PEER, roles=["relay", "seed"]), measured=True)
    outcome.show(ADMISSION)
    shown = " ".join(capsys.readouterr().out.split())
    assert "gridllm relay or gridllm seed renews it." in shown
    assert "gridllm serve" not in shown + outcome.next_step


def test_a_revoked_machine_is_not_told_that_serve_waits() -> None:
    error = NotAdmittedHere("revoked", "The maintainers revoked it; it may be measured again after 2026-01-01 UTC.")
    with pytest.raises(AdmissionError, match="to volunteer, run gridllm serve after that time"):
        Outcome(None, error=error).show(ADMISSION)


def test_not_admitted_ends_with_the_table_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotAdmittedHere("too_slow", "It reaches 7 blocks/s where 50 are asked.", Figures(decode_blocks_per_s=7.0))
    outcome = Outcome(None, error=error)
    with pytest.raises(
        AdmissionError, match="7 blocks/s where 50 are asked. The grid stays joined.*fix what falls short"
    ):
        outcome.show(ADMISSION)
    assert "7 blocks/s" in capsys.readouterr().out
    document = outcome.json()
    assert (outcome.exit_code, document["admitted"], document["reason"]) == (1, False, "too_slow")


def test_authorities_that_are_down_are_told_from_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(None, error=AdmissionError("Not admitted within 10 s: 1 of 2 authorities answers."))
    with pytest.raises(AdmissionError, match="gridllm serve, which waits until it can be measured"):
        outcome.show(ADMISSION)
    assert capsys.readouterr().out.strip() == ""
    assert outcome.json()["reason"] == "unfinished"


def test_each_news_makes_one_line() -> None:
    text = io.StringIO()
    watcher = make_watcher(Console(file=text))
    assert isinstance(watcher, LineWatcher)
    for place in (2, 2, 1):
        watcher.queued(place, 3)
    watcher.stage("memory", 0.1)
    watcher.stage("memory", 0.2)
    watcher.note("[red]Authority[/] 12 measures.")
    assert text.getvalue().splitlines() == [
        "Waiting to be measured: place 2 of 3 in the queue",
        "Waiting to be measured: place 1 of 3 in the queue",
        stage_sentence("memory"),
        "[red]Authority[/] 12 measures.",
    ]


def test_the_bar_takes_whatever_an_authority_calls_its_stages() -> None:
    watcher = make_watcher(Console(file=io.StringIO(), force_terminal=True))
    assert isinstance(watcher, BarWatcher)
    try:
        watcher.stage("[bold]new", 0.5)
        watcher.queued(1, 1)
        watcher.note("[/] is no markup")
    finally:
        watcher.close()
    assert stage_sentence("\x1b[2J") == "Measuring: ?"
