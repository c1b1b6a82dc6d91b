"""A line between peers that is slow one way and counts what goes over it: a TCP port that passes on to another."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from tests.ports import free_port

CHUNK = 32 * 1024


class CountedLine:
    """Whoever connects to ``port`` speaks with ``target``, in whatever process that is just now."""

    def __init__(self, bytes_per_s: float) -> None:
        """``bytes_per_s``: towards the target; back it is as fast as it can be."""
        self._server = socket.create_server(("127.0.0.1", 0))
        # What is not read yet was sent for nothing when the target ends: little may wait here.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
        self.port: int = self._server.getsockname()[1]
        self.target = free_port()
        self.carried = 0  # bytes towards the target, over all connections
        self._pause_s = CHUNK / bytes_per_s
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Connections that stand go on."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:
                return
            try:
                target = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                caller.close()
                continue
            target.settimeout(None)
            for pair in ((caller, target, True), (target, caller, False)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
                if counted:
                    with self._counting:
                        self.carried += len(data)
                    time.sleep(self._pause_s * len(data) / CHUNK)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            if not counted:  # the other direction's thread notices, and leaves them to us
                one.close()
