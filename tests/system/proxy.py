"""A TCP proxy that can hold back what it carries, in one direction or both: a network that is cut and says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


class Proxy:
    """Carries connections to `target` until it is closed; a context manager.

    Attributes:
        address: Where to connect instead.
        up: Set while what goes to the target passes.
        down: The same for what comes from it.
    """

    def __init__(self, target: str) -> None:
        url = urlsplit(target)
        self._target = (url.hostname, url.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.up, self.down = threading.Event(), threading.Event()
        self.heal()
        self._sockets = [self._server]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.heal()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5.0)

    def heal(self) -> None:
        self.up.set()
        self.down.set()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._start(self._carry, near, far, self.up)
                self._start(self._carry, far, near, self.down)

    def _carry(self, source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                passes.wait()
                sink.sendall(data)
        passes.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
