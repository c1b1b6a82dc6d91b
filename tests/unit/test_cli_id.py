"""What `gridllm id` says of this machine's admissions."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gridllm.charter.board import NoticeBoard
from gridllm.charter.document import sign_charter
from gridllm.charter.minimums import Admission
from gridllm.charter.pin import Pins
from gridllm.cli.id import show_id
from gridllm.identity.keys import load_or_create
from gridllm.settings import load_settings
from tests.certificates import revocation
from tests.charters import ENTRY, MAINTAINERS, charter


def test_a_revocation_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    settings = load_settings()
    signed = sign_charter(charter(models=[ENTRY], admission=Admission(required=True)), MAINTAINERS)
    pins = Pins(settings.data_dir)
    pins.pin(signed)
    show_id()
    assert "Revoked" not in capsys.readouterr().out
    peer = load_or_create(settings.identity_path).peer
    NoticeBoard(signed, pins.notices_path(signed)).add(revocation(signed, peer, until=time.time() + 3600))
    show_id()
    said = " ".join(capsys.readouterr().out.split())
    assert "Revoked" in said
    assert f"{signed.charter.name}: It lied. It may be measured again from 2" in said
    show_id(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["certificates"] == []
    assert [(one["name"], one["peer"]) for one in told["revocations"]] == [(signed.charter.name, peer)]
