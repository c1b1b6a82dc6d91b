"""The key file: made once, kept private, refused with the sentence that mends it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridllm.errors import IdentityError, StatementError
from gridllm.identity.keys import (
    KEY_FILE_BYTES,
    Identity,
    hold,
    libp2p_key_file_bytes,
    load,
    load_or_create,
    peer_of,
    public_key_of,
    verify,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "identity.key"


def test_created_once_private_and_read_back(path: Path) -> None:
    first = load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    again = load_or_create(path)
    assert (again.peer, again.public_key) == (first.peer, first.public_key)
    assert again.path == path
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_two_processes_that_start_together_get_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        peers = {identity.peer for identity in pool.map(lambda _: load_or_create(path), range(16))}
    assert len(peers) == 1


def test_key_file_is_libp2ps_protobuf(path: Path) -> None:
    identity = load_or_create(path)
    raw = path.read_bytes()
    assert raw == libp2p_key_file_bytes(identity)
    assert raw[:4] == b"\x08\x01\x12\x40"
    assert raw[-32:] == identity.public_key
    assert len(raw) == 68


def test_peer_id_is_the_one_libp2p_derives() -> None:
    # From the libp2p peer-id specification's Ed25519 test vector.
    public = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert peer_of(public).startswith("12D3KooW")
    assert public_key_of(peer_of(public)) == public


@given(st.binary(min_size=32, max_size=32))
def test_peer_id_carries_the_key(public: bytes) -> None:
    assert public_key_of(peer_of(public)) == public


@given(st.text(max_size=200))
def test_anything_else_is_no_peer_id(text: str) -> None:
    with pytest.raises(IdentityError, match="not the peer id"):
        public_key_of(text)


def test_public_key_of_wrong_length() -> None:
    with pytest.raises(IdentityError, match="32 bytes, not 31"):
        peer_of(bytes(31))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_exposed_file_is_refused(path: Path, mode: int) -> None:
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"chmod 600 {path}"):
        load_or_create(path)
    path.chmod(0o600)
    load_or_create(path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: b"", "is empty"),
        (lambda raw: raw[:40], "has 40 bytes where 68"),
        (lambda raw: raw + b"\n", "more than 68 bytes"),
        (lambda raw: b"-----BEGIN PRIVATE KEY-----".ljust(KEY_FILE_BYTES), "does not hold an Ed25519 key"),
        (lambda raw: raw[:10] + bytes([raw[10] ^ 1]) + raw[11:], "halves do not match"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "halves do not match"),
    ],
)
def test_damaged_file_is_refused_and_left_alone(path: Path, damage: object, says: str) -> None:
    load_or_create(path)
    broken = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(broken)
    with pytest.raises(IdentityError, match=says) as caught:
        load_or_create(path)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == broken


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(IdentityError, match="is not a file"):
        load_or_create(path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(IdentityError, match="cannot be read or written"):
        load_or_create(tmp_path / "taken" / "identity.key")


def test_load_makes_nothing(path: Path) -> None:
    with pytest.raises(IdentityError, match="no key file"):
        load(path)
    assert not path.exists()


def test_sign_and_verify() -> None:
    mine, other = Identity.ephemeral(), Identity.ephemeral()
    signature = mine.sign(b"hello")
    assert len(signature) == 64
    verify(mine.public_key, signature, b"hello")
    for key, data in ((mine.public_key, b"hell"), (other.public_key, b"hello"), (b"short", b"hello")):
        with pytest.raises(StatementError, match="does not verify"):
            verify(key, signature, data)


def test_the_secret_is_not_in_repr() -> None:
    identity = Identity.ephemeral()
    assert "private" not in repr(identity).lower()
    assert identity.path is None
    with hold(identity):
        pass  # nothing to lock


def test_one_key_serves_one_process(path: Path) -> None:
    identity = load_or_create(path)
    script = (
        "import sys; from pathlib import Path; from gridllm.identity.keys import hold, load\n"
        f"with hold(load(Path({str(path)!r}))): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(IdentityError, match=f"in use by process {holder.pid}"), hold(identity):
            pass
        with pytest.raises(IdentityError, match=r"stop that one, or wait\."), hold(identity, otherwise="wait"):
            pass
        path.with_name(path.name + ".lock").write_bytes(b"")  # as between locking and writing the pid
        with pytest.raises(IdentityError, match="in use by another process"), hold(identity):
            pass
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
    with hold(identity):
        pass  # free again
