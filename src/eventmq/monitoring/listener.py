"""Serves `pages` over HTTP: GET and HEAD, one request for each connection, a few threads, nothing kept.

Each request has a time and a size, so that nobody who connects and says nothing holds up the others for long.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from eventmq.errors import SettingsError
from eventmq.limits import HTTP_REQUEST_BYTES_MAX, HTTP_REQUEST_S, HTTP_THREADS
from eventmq.monitoring.pages import Page, Pages
from eventmq.net import address

log = logging.getLogger("eventmq.http")


@contextmanager
def listening(http_addr: str, pages: Pages) -> Iterator[str]:
    """Listens at `http_addr`, as `http://127.0.0.1:47294`, while the block runs; nowhere, if it is empty.

    Yields:
        Where it really listens: port 0 has become a number.

    Raises:
        SettingsError: It cannot listen there.
    """
    if not http_addr:
        yield ""
        return
    listener, bound = listen(http_addr)
    for _ in range(HTTP_THREADS):
        threading.Thread(target=_serve, args=(listener, pages), name="eventmq-http", daemon=True).start()
    log.info("%s: %s", bound, " ".join(pages))
    try:
        yield bound
    finally:
        with suppress(OSError):  # macOS: it is not connected, which it never was
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def listen(http_addr: str) -> tuple[socket.socket, str]:
    """A socket that listens there, and where it really does.

    Raises:
        SettingsError: It cannot.
    """
    where = address.parse_served(http_addr)
    host = "" if where.host == "*" else where.host
    try:
        listener = socket.create_server((host, where.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SettingsError(f"cannot listen on {http_addr}: {error.strerror}. Choose another address.") from error
    return listener, address.to_serve(str(where._replace(port=listener.getsockname()[1])))


def _serve(listener: socket.socket, pages: Pages) -> None:
    while listener.fileno() >= 0:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.1)  # closed, or no descriptor is left
            continue
        with connection, suppress(OSError):  # who asked is gone, or slow
            answer = _answer(pages, _request(connection))
            connection.settimeout(HTTP_REQUEST_S)
            connection.sendall(answer)


def _answer(pages: Pages, request: str) -> bytes:
    method, target, *_ = [*request.split(" "), "", ""]
    page = pages.get(target) if method in ("GET", "HEAD") else Page(405, b"GET and HEAD only\n")
    head = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else page.body)


def _request(connection: socket.socket) -> str:
    """The first line of a request, once all of its headers are there."""
    deadline = time.monotonic() + HTTP_REQUEST_S
    received = b""
    while b"\r\n\r\n" not in received:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or len(received) > HTTP_REQUEST_BYTES_MAX:
            raise TimeoutError("no request in time")
        connection.settimeout(left_s)
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("gone")
        received += part
    return received.partition(b"\r\n")[0].decode("latin-1")
