"""Starts, watches and ends the libp2p daemon of this process. One daemon, no further processes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from gridllm.errors import AddressError, SwarmError
from gridllm.identity.keys import Identity, libp2p_key_file_bytes
from gridllm.swarm import apart
from gridllm.swarm.addresses import parse_addresses
from gridllm.swarm.folder import SocketFolder
from gridllm.swarm.gate import CallGate
from gridllm.swarm.hivemind_parts import P2P, Multiaddr, p2pd_pb2, raise_if_failed, read_pbmsg_safe, write_pbmsg

START_TIMEOUT_S: Final = 30.0  # from a disk that may be slow, on a machine that may be busy
END_TIMEOUT_S: Final = 2.0  # between asking the daemon to end and killing it
STREAM_BACKLOG: Final = 2048  # hivemind's own 100 breaks a fifth of 512 simultaneous opens


class _ApartP2P(P2P):
    """Starts p2pd through ``apart.py``: out of reach of Ctrl-C, and gone as soon as we are."""

    @staticmethod
    def _make_process_args(*args: Any, **kwargs: Any) -> list[str]:
        return [sys.executable, "-I", "-S", apart.__file__, str(os.getpid()), *P2P._make_process_args(*args, **kwargs)]


class Daemon:
    """One p2pd process and hivemind's handle on it."""

    def __init__(self, p2p: Any, folder: SocketFolder) -> None:
        self.p2p = p2p
        self._folder = folder
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(
        cls,
        identity: Identity,
        *,
        host_maddrs: Sequence[str],
        announce_maddrs: Sequence[str],
        trusted_relays: Sequence[str],
        client_only: bool,
        relay: bool,
    ) -> Daemon:
        """Start p2pd with the identity; its sockets lie in a private folder.

        Raises:
            SwarmError: it did not start.
            AddressError: an address to listen on or announce is no multiaddr.
        """
        for address in (*host_maddrs, *announce_maddrs):
            parse_addresses([address])
        if not client_only:
            check_ports_free(host_maddrs)
        folder = SocketFolder()
        key_file = folder.path / "key"
        local = client_only or is_loopback(announce_maddrs or host_maddrs)
        auto_relay = relay and not local and bool(trusted_relays)
        public = bool(announce_maddrs) and not client_only  # whoever names an address vouches for it
        try:
            key_file.touch(mode=0o600)
            key_file.write_bytes(libp2p_key_file_bytes(identity))
            # The class attribute is hivemind's only way to place the control sockets.
            private: Any = type("PrivateP2P", (_ApartP2P,), {"_UNIX_SOCKET_PREFIX": f"/unix{folder.path}/"})
            p2p = await private.create(
                identity_path=str(key_file),
                check_if_identity_free=False,  # hivemind parses only RSA keys there
                host_maddrs=None if client_only else list(host_maddrs),
                announce_maddrs=list(announce_maddrs) or None,
                no_listen=client_only,
                dht_mode="client" if client_only else "server",
                # p2pd runs two relay services that race; the one that cuts connections at 128 KB nearly always wins
                # unless both of these are on, and then still about one time in four (decision 0006).
                auto_nat=public or not local,
                force_reachability="public" if public else None,
                nat_port_map=not local,
                use_relay=relay,
                use_auto_relay=auto_relay,
                trusted_relays=list(trusted_relays) if auto_relay else None,  # p2pd panics on one without the other
                startup_timeout=START_TIMEOUT_S,
            )
        except BaseException as error:
            folder.remove()
            if not isinstance(error, Exception):
                raise
            raise SwarmError(
                f"The libp2p daemon did not start with {', '.join(host_maddrs) or 'no address'}: {error}."
            ) from error
        daemon = cls(p2p, folder)
        control = daemon.control
        control.unary_handlers = CallGate(control.unary_handlers)
        try:
            key_file.unlink()
            await daemon._listen()
        except BaseException:
            await daemon.stop()
            raise
        return daemon

    @property
    def control(self) -> Any:
        """Hivemind's control connection to the daemon."""
        return self.p2p._client.control

    async def connect(self, peer: Any, addresses: Sequence[bytes]) -> None:
        """Dial ``peer``; with no addresses, wherever libp2p's own routing finds it."""
        request = p2pd_pb2.Request(
            type=p2pd_pb2.Request.CONNECT, connect=p2pd_pb2.ConnectRequest(peer=peer.to_bytes(), addrs=addresses)
        )
        _, _, writer = await self._ask(request)
        writer.close()

    async def open_stream(self, peer: Any, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream to ``peer``. Raises P2PDaemonError with the daemon's text."""
        request = p2pd_pb2.Request(
            type=p2pd_pb2.Request.STREAM_OPEN,
            streamOpen=p2pd_pb2.StreamOpenRequest(peer=peer.to_bytes(), proto=[name]),
        )
        _, reader, writer = await self._ask(request)
        return reader, writer

    async def seen_at(self, peer: Any) -> tuple[str, ...]:
        """Far ends of the open connections with ``peer``, as multiaddrs."""
        mine = [info for info in await self._connections() if info.id == peer.to_bytes()]
        return tuple(str(Multiaddr(bytes(address))) for info in mine for address in info.addrs)

    async def connected(self) -> int:
        """How many peers there are connections with."""
        return len({info.id for info in await self._connections()})

    async def _connections(self) -> list[Any]:
        """Peer and addresses, one entry for each connection."""
        response, _, writer = await self._ask(p2pd_pb2.Request(type=p2pd_pb2.Request.LIST_PEERS))
        writer.close()
        return list(response.peers)

    async def _ask(self, request: Any) -> tuple[Any, asyncio.StreamReader, asyncio.StreamWriter]:
        """One request on a control connection of its own, which hivemind would leak on failure."""
        reader, writer = await self.control.daemon_connector.open_connection()
        try:
            await write_pbmsg(writer, request)
            response = p2pd_pb2.Response()
            await read_pbmsg_safe(reader, response)
            raise_if_failed(response)
        except BaseException:
            writer.transport.abort()
            raise
        return response, reader, writer

    async def ended(self) -> int:
        """Wait for the daemon's end; returns its exit status."""
        return await self.p2p._child.wait()

    def fail_pending(self, reason: str) -> None:
        """Give every call that still waits for the daemon an end; hivemind would leave it hanging."""
        for future in list(self.control._pending_calls.values()):
            if not future.done():
                future.set_exception(ConnectionError(reason))

    async def stop(self) -> None:
        """End the daemon and remove its sockets; never hangs."""
        if self._server is not None:
            self._server.close()
        workers = [t for t in (self.control._read_task, self.control._write_task) if t is not None]
        child = self.p2p._child
        self.p2p._terminate()
        for worker in workers:
            worker.cancel()
        self.fail_pending("this swarm was closed")
        for end in (None, child.kill):
            if end is not None:
                with contextlib.suppress(ProcessLookupError):
                    end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await child.wait()
                    break
        await asyncio.gather(*workers, return_exceptions=True)
        self._folder.remove()

    async def _listen(self) -> None:
        """Take incoming streams from the daemon; hivemind's own listener has too short a backlog."""
        path = self.control.listen_maddr["unix"]
        self._server = await asyncio.start_unix_server(self.control._handler, path=path, backlog=STREAM_BACKLOG)


def is_loopback(addresses: Sequence[str]) -> bool:
    """Whether all of these multiaddrs lead to this machine only."""

    def local(address: str) -> bool:
        parts = address.split("/")
        if len(parts) < 3 or parts[1] not in {"ip4", "ip6"}:
            return parts[1:3] in (["dns4", "localhost"], ["dns", "localhost"], ["dns6", "localhost"])
        try:
            return ipaddress.ip_address(parts[2]).is_loopback
        except ValueError as error:
            raise AddressError(f"{parts[2]!r} in {address!r} is not an IP address.") from error

    return bool(addresses) and all(local(address) for address in addresses)


def check_ports_free(addresses: Sequence[str]) -> None:
    """libp2p shares a port that another process listens on, and each would get some of the other's connections.

    Raises:
        SwarmError: a fixed TCP port is in use.
    """
    for address in addresses:
        _, family, host, protocol, port, *_ = (*address.split("/"), *[""] * 4)
        if family not in {"ip4", "ip6"} or protocol != "tcp" or port == "0":
            continue
        with socket.socket(socket.AF_INET6 if family == "ip6" else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that wait to expire do not count
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                raise SwarmError(
                    f"This machine cannot listen on {address} ({error.strerror}); choose a free port, or 0 for any."
                ) from error
