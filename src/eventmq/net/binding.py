"""Sockets of the system that listen, at addresses as ZeroMQ understands them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress

from eventmq import limits
from eventmq.net.address import Address, is_interface, parse

IN_USE = errno.EADDRINUSE

_SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of a network interface."""


def listen(text: str) -> tuple[socket.socket, str]:
    """A socket that listens there, and where that really is: port 0 has become a number.

    Raises:
        OSError: It cannot be bound.
    """
    place = parse(text)
    listener = _local(place.host) if place.transport == "ipc" else _network(place)
    listener.setblocking(False)
    if place.transport == "ipc":
        return listener, text
    host, port = listener.getsockname()[:2]
    return listener, str(Address("tcp", host, port))


def _network(place: Address) -> socket.socket:
    host = "0.0.0.0" if place.host == "*" else place.host
    if is_interface(host):
        host = _address_of(host)
    family, *_ = socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((host, place.port), family=family, backlog=limits.BACKLOG)


def _address_of(interface: str) -> str:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker, _SIOCGIFADDR, struct.pack("256s", interface[:15].encode()))
    return socket.inet_ntoa(answer[20:24])


def _local(path: str) -> socket.socket:
    """What a Router that was killed has left there is in nobody's way."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener.bind(path)
    listener.listen(limits.BACKLOG)
    return listener


def tune(accepted: socket.socket) -> None:
    """What every connection that was accepted has: no waiting for more to send, and a dead peer is noticed."""
    accepted.setblocking(False)
    if accepted.family == socket.AF_UNIX:
        return
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if option := getattr(socket, name, 0):
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)


def leave(text: str) -> None:
    """Nobody listens there any more."""
    place = parse(text)
    if place.transport == "ipc":
        with suppress(FileNotFoundError):
            os.unlink(place.host)
