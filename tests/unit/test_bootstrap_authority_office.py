"""What ``gridllm bootstrap run`` does with a maintainer's key, and what it shows of candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridllm.disk import write_atomically
from gridllm.errors import IdentityError
from gridllm.identity.keys import Identity, libp2p_key_file_bytes
from gridllm_bootstrap.first_peer import Census
from gridllm_bootstrap.measuring.authority import Event
from gridllm_bootstrap.measuring.office import Office, find_maintainer
from gridllm_bootstrap.reporter import REFUSED_LINES, Reporter
from tests.charters import MAINTAINERS
from tests.unit.authority_hall import signed_charter

SIGNED = signed_charter()
PEER = Identity.ephemeral().peer


def key_file(path: Path, identity: Identity) -> Path:
    write_atomically(path, libp2p_key_file_bytes(identity), mode=0o600)
    return path


def test_only_a_maintainers_key_opens_the_office(tmp_path: Path) -> None:
    found = find_maintainer(key_file(tmp_path / "a.key", MAINTAINERS[1]), SIGNED)
    assert found is not None
    assert found.public_key == MAINTAINERS[1].public_key
    assert find_maintainer(key_file(tmp_path / "b.key", Identity.ephemeral()), SIGNED) is None
    assert find_maintainer(tmp_path / "missing.key", SIGNED) is None
    (tmp_path / "a.key").write_bytes(b"damaged")
    with pytest.raises(IdentityError):
        find_maintainer(tmp_path / "a.key", SIGNED)


def test_programs_get_one_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(SIGNED, as_json=True)
    reporter.open_to(Office(MAINTAINERS[0], at_once=3), required=True)
    reporter.examined(Event("failed", PEER, "Too slow by half.", "too_slow"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event": "authority", "open": True, "at_once": 3},
        {"event": "candidate", "outcome": "failed", "peer": PEER, "reason": "too_slow", "text": "Too slow by half."},
    ]


def test_people_get_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(SIGNED, as_json=False)
    reporter.open_to(None, required=True)
    reporter.examined(Event("examining", PEER))
    reporter.examined(Event("refused", PEER, "It is too early."))
    reporter.examined(Event("refused", PEER, "\x1b[2JCandidate is \ncertified"))
    reporter.seen(Census({"serving": 1}, 2, 8), (2, 5))
    raw = capsys.readouterr().out
    assert "\x1b[2J" not in raw
    assert "Candidate is \n" not in raw
    said = " ".join(raw.split())
    assert "This first peer measures no machines" in said
    assert f"Candidate …{PEER[-8:]} is examined" in said
    assert f"Candidate …{PEER[-8:]} was turned away: It is too early." in said
    assert "2 examined, 5 waiting" in said


def test_strangers_do_not_fill_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(SIGNED, as_json=True)
    for _ in range(3 * REFUSED_LINES):
        reporter.examined(Event("refused", PEER))
    reporter.examined(Event("admitted", PEER))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == REFUSED_LINES + 1
    assert "admitted" in lines[-1]
