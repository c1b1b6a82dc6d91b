"""A participant's Ed25519 key: libp2p identity, ledger account and signing key in one.

The key file has libp2p's own format (the protobuf ``PrivateKey``), so that the libp2p daemon can read it as it stands.
It holds the public key beside the secret seed, which tells a damaged file from a sound one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gridllm.disk import make_private_dir, write_atomically
from gridllm.errors import IdentityError, StatementError
from gridllm.ids import PeerId

KEY_FILE_HEADER: Final = b"\x08\x01\x12\x40"  # protobuf: key_type = Ed25519 (1), then 64 bytes of data
KEY_FILE_BYTES: Final = len(KEY_FILE_HEADER) + 64
PEER_ID_HEADER: Final = b"\x00\x24\x08\x01\x12\x20"  # identity multihash of a 36-byte protobuf PublicKey (Ed25519)
MAX_PEER_ID_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class Identity:
    """A participant's key pair. ``path`` is where it is kept; None for a key that lives in memory only."""

    peer: PeerId
    public_key: bytes  # 32 bytes
    path: Path | None
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def ephemeral(cls) -> Identity:
        """A fresh key that is never written to disk: for a client that needs no standing."""
        return _identity_of(Ed25519PrivateKey.generate(), None)

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of ``data``, 64 bytes."""
        return self._private.sign(data)


def _identity_of(private: Ed25519PrivateKey, path: Path | None) -> Identity:
    public_key = private.public_key().public_bytes_raw()
    return Identity(peer_of(public_key), public_key, path, private)


def peer_of(public_key: bytes) -> PeerId:
    """The libp2p peer id of a 32-byte Ed25519 public key.

    Raises:
        IdentityError: not 32 bytes.
    """
    if len(public_key) != 32:
        raise IdentityError(f"An Ed25519 public key has 32 bytes, not {len(public_key)}.")
    return PeerId(base58.b58encode(PEER_ID_HEADER + public_key).decode("ascii"))


def public_key_of(peer: str) -> bytes:
    """The 32-byte Ed25519 public key that a peer id carries.

    Raises:
        IdentityError: not a peer id, or one made from another kind of key.
    """
    try:
        raw = base58.b58decode(peer) if len(peer) <= MAX_PEER_ID_CHARS else b""
    except ValueError:
        raw = b""
    if len(raw) != len(PEER_ID_HEADER) + 32 or not raw.startswith(PEER_ID_HEADER):
        raise IdentityError(
            f"{peer[:MAX_PEER_ID_CHARS]!r} is not the peer id of an Ed25519 key; those start with 12D3Koo and have "
            "52 characters."
        )
    return raw[len(PEER_ID_HEADER) :]


def verify(public_key: bytes, signature: bytes, data: bytes) -> None:
    """Check one signature.

    Raises:
        StatementError: the signature is not this key's over ``data``.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise StatementError(f"A signature does not verify with the public key {public_key.hex()}.") from error


def libp2p_key_file_bytes(identity: Identity) -> bytes:
    """The key as libp2p's protobuf ``PrivateKey``: what the key file holds and the libp2p daemon reads."""
    return KEY_FILE_HEADER + identity._private.private_bytes_raw() + identity.public_key


def load_or_create(path: Path) -> Identity:
    """Read the key at ``path``, or make one there (mode 0600) on first use.

    Raises:
        IdentityError: the file is exposed to other users, damaged, not a file, or cannot be read or written.
    """
    try:
        make_private_dir(path.parent)
        if not path.exists():
            fresh = _identity_of(Ed25519PrivateKey.generate(), path)
            with contextlib.suppress(FileExistsError):  # another process was first: its key is as good
                write_atomically(path, libp2p_key_file_bytes(fresh), mode=0o600, replace=False)
        return _parse(path, _read_private(path))
    except OSError as error:
        raise IdentityError(
            f"The key file {path} cannot be read or written ({error.strerror}); check who owns it and its folder, "
            "or name another with --identity."
        ) from error


def load(path: Path) -> Identity:
    """Read the key at ``path``, which must exist.

    Raises:
        IdentityError: there is no such file, or it cannot be used (see ``load_or_create``).
    """
    if not path.exists():
        raise IdentityError(f"There is no key file at {path}; check the path, or copy the key there from its backup.")
    return load_or_create(path)


def _read_private(path: Path) -> bytes:
    """The file's bytes, once it is known that nobody else can read them."""
    if not path.is_file():
        raise IdentityError(f"The key file {path} is not a file; move it away, or name another with --identity.")
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise IdentityError(
                f"The key file {path} can be read by other users (mode {mode:04o}); run: chmod 600 {path} — and if "
                "others may have read it, move it away and a new key is made."
            )
        return file.read(KEY_FILE_BYTES + 1)


def _parse(path: Path, raw: bytes) -> Identity:
    mend = "restore it from a backup, or move it away and a new key (a new peer id) is made."
    if not raw:
        raise IdentityError(f"The key file {path} is empty; {mend}")
    if len(raw) != KEY_FILE_BYTES:
        size = f"more than {KEY_FILE_BYTES}" if len(raw) > KEY_FILE_BYTES else f"{len(raw)}"
        raise IdentityError(f"The key file {path} has {size} bytes where {KEY_FILE_BYTES} are expected; {mend}")
    if not raw.startswith(KEY_FILE_HEADER):
        raise IdentityError(f"The key file {path} does not hold an Ed25519 key in libp2p's format; {mend}")
    seed, public_key = raw[len(KEY_FILE_HEADER) :][:32], raw[-32:]
    identity = _identity_of(Ed25519PrivateKey.from_private_bytes(seed), path)
    if identity.public_key != public_key:
        raise IdentityError(f"The key file {path} is damaged: its public and secret halves do not match; {mend}")
    return identity


@contextlib.contextmanager
def hold(identity: Identity, *, otherwise: str = "give this one its own key with --identity") -> Iterator[None]:
    """Keep other processes from serving with the same key: two nodes with one peer id break each other's connections.

    Args:
        otherwise: what people can do other than to stop the process that holds it.

    Raises:
        IdentityError: another process holds it (named by its pid), or the lock file cannot be written.
    """
    if identity.path is None:
        yield
        return
    lock_path = identity.path.with_name(identity.path.name + ".lock")
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IdentityError(
            f"The lock file {lock_path} cannot be opened ({error.strerror}); check who owns it."
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, 16, 0).decode("ascii", "replace").strip()  # empty until its holder has written it
            holder = f"process {pid}" if pid else "another process"
            raise IdentityError(
                f"The key {identity.path} is in use by {holder}; stop that one, or {otherwise}."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)  # releases the lock; the empty file stays, since removing it would race with the next holder
