"""Pinned grids: one charter under one name, for good."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gridllm.charter.document import sign_charter
from gridllm.charter.pin import MAX_KNOWN_PEERS, Pins
from gridllm.cli.grids import grids
from gridllm.errors import CharterError
from gridllm.identity.keys import Identity
from gridllm.ids import ModelRoot
from tests.charters import MAINTAINERS, charter

SIGNED = sign_charter(charter(), MAINTAINERS)
CHANGED = sign_charter(charter(created="2027-01-01T00:00:00+00:00"), MAINTAINERS)
OTHER = sign_charter(charter(name="other"), MAINTAINERS)


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "gridllm")


def test_nothing_joined(pins: Pins) -> None:
    assert pins.all() == []
    with pytest.raises(CharterError, match="No grid joined yet; run: gridllm join"):
        pins.current()
    with pytest.raises(CharterError, match="No grid called 'home' joined"):
        pins.current("home")
    with pytest.raises(CharterError, match="No grid called '../x' joined"):
        pins.current("../x")


def test_the_latest_joined_is_current(pins: Pins) -> None:
    assert pins.pin(SIGNED)
    assert pins.pin(OTHER)
    assert pins.current() == OTHER
    assert pins.current("home") == SIGNED
    assert not pins.pin(SIGNED), "pinned before"
    assert pins.current() == SIGNED
    assert pins.all() == [SIGNED, OTHER]
    with pytest.raises(CharterError, match="No grid called 'hmoe' joined; gridllm grids lists those joined: .*home"):
        pins.current("hmoe")


def test_another_charter_under_the_same_name_is_refused(pins: Pins) -> None:
    pins.pin(SIGNED)
    with pytest.raises(CharterError, match=f"{SIGNED.grid[:16]}.*{CHANGED.grid[:16]}.*remove .*home"):
        pins.pin(CHANGED)
    assert pins.current() == SIGNED


def test_upper_case_makes_no_second_name(pins: Pins) -> None:
    pins.pin(SIGNED)
    with pytest.raises(CharterError, match="Another grid is pinned"):
        pins.pin(sign_charter(charter(name="HOME"), MAINTAINERS))


def test_a_damaged_pin_says_how_to_mend_it(pins: Pins, tmp_path: Path) -> None:
    pins.pin(SIGNED)
    path = tmp_path / "gridllm" / "grids" / "home" / "charter.json"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CharterError, match=r"charter\.json is damaged; remove this file and join again"):
        pins.current()
    path.unlink()
    pins.pin(SIGNED)  # as join does; what lies beside it, unpaid vouchers among it, stays
    assert pins.current() == SIGNED


def test_grids_lists_those_left_when_the_one_used_last_is_gone(
    pins: Pins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRIDLLM_DATA_DIR", str(pins.data_dir))
    pins.pin(SIGNED)
    (pins.data_dir / "current").write_text("gone")
    with pytest.raises(CharterError, match="gridllm grids lists those joined: home"):
        pins.current()
    grids()
    assert capsys.readouterr().out.startswith("  home")
    grids(use="home")
    assert capsys.readouterr().out.startswith("* home")


def test_a_program_is_told_that_no_grid_was_joined_by_an_empty_list(
    pins: Pins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRIDLLM_DATA_DIR", str(pins.data_dir))
    grids(as_json=True)
    assert capsys.readouterr().out.strip() == "[]"
    with pytest.raises(CharterError, match="gridllm join"):
        grids()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CharterError, match="cannot be pinned"):
        Pins(tmp_path / "file").pin(SIGNED)


def test_known_peers(pins: Pins, tmp_path: Path) -> None:
    pins.pin(SIGNED)
    assert pins.known_peers(SIGNED) == {}
    assert pins.initial_peers(SIGNED) == tuple(SIGNED.charter.first_peers)
    peers = [Identity.ephemeral().peer for _ in range(MAX_KNOWN_PEERS + 3)]
    addresses = {peer: [f"/ip4/10.0.0.1/tcp/1/p2p/{peer}"] for peer in peers}
    pins.remember_peers(SIGNED, addresses)
    pins.remember_peers(SIGNED, {peers[3]: ["garbage", *addresses[peers[3]]]})
    known = pins.known_peers(SIGNED)
    assert len(known) == MAX_KNOWN_PEERS
    assert list(known)[-1] == peers[3], "met again, so the newest"
    assert peers[0] not in known
    entry = pins.initial_peers(SIGNED)
    assert entry[0] == SIGNED.charter.first_peers[0]
    assert entry[1] == addresses[peers[3]][0], "what cannot be dialled is left out"
    assert pins.known_peers(CHANGED) == {}, "peers of another grid under that name"
    (tmp_path / "gridllm" / "grids" / "home" / "known_peers.json").write_text('{"grid": 1, "peers": []')
    assert pins.known_peers(SIGNED) == {}


def test_manifests_are_named_by_their_digest(pins: Pins, tmp_path: Path) -> None:
    raw = b'{"family":"llama"}'
    root = ModelRoot(hashlib.sha256(raw).hexdigest())
    assert pins.manifest(root) is None
    pins.save_manifest(root, raw)
    assert pins.manifest(root) == raw
    (tmp_path / "gridllm" / "manifests" / f"{root}.json").write_bytes(raw[:-1])
    assert pins.manifest(root) is None
