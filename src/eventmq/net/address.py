"""Where a socket binds or connects: `tcp://127.0.0.1:47291`, `tcp://*:47291`, `ipc:///run/eventmq`.

Reads and judges an address; opens no socket. Only `is_loopback` asks the machine something: what a host name
resolves to, and which network interfaces there are.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

IPC_PATH_BYTES_MAX = 107
"""A Unix socket's path (`sun_path`); longer ones fail at bind with an errno that says nothing."""

ANY_HOST = {"*", "0.0.0.0", "::"}
"""Hosts that bind every interface of the machine."""

_TCP = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\s\[\]]+):(?P<port>\d{1,5}|\*)")


class Address(NamedTuple):
    """One parsed address: `tcp` with host and port (0 = any free port), or `ipc` with its path as host."""

    transport: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.transport == "ipc":
            return f"ipc://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port or '*'}"


def parse(text: str, like: str = "tcp://127.0.0.1:47291 or ipc:///path/to/socket") -> Address:
    """The address in `text`; `like` is what might have stood there.

    Raises:
        ValueError: Not an address; the message says what was expected.
    """
    transport, separator, rest = text.strip().partition("://")
    if separator and transport == "ipc" and rest:
        if len(rest.encode()) > IPC_PATH_BYTES_MAX:
            raise ValueError(f"an ipc:// path of at most {IPC_PATH_BYTES_MAX} bytes")
        return Address("ipc", rest)
    match = _TCP.fullmatch(rest) if separator and transport == "tcp" else None
    if match is None:
        raise ValueError(f"an address such as {like}")
    port = 0 if match["port"] == "*" else int(match["port"])
    if port > 65535:
        raise ValueError("a port between 1 and 65535")
    return Address("tcp", match["host"].strip("[]"), port)


def parse_connect(text: str) -> Address:
    """The address in `text`, which must name one place to connect to.

    Raises:
        ValueError: Not an address, or one that can only be bound.
    """
    address = parse(text)
    if address.transport == "tcp" and (address.host in ANY_HOST or not address.port):
        raise ValueError("the address of one host and port, as tcp://router.example:47291")
    return address


def parse_served(text: str) -> Address:
    """The address in `text`, as `parse` has it, or `http://127.0.0.1:47294`, or that without its beginning.

    Raises:
        ValueError: Not such an address.
    """
    place = text.strip().removeprefix("http://")
    return parse(place if "://" in place else f"tcp://{place}", "http://127.0.0.1:8080")


# What settings are read by: text to text, checked; what is optional may be empty.


def to_bind(text: str) -> str:
    """Where to listen."""
    return str(parse(text))


def to_connect(text: str) -> str:
    """Where to connect to, if anywhere."""
    return str(parse_connect(text)) if text.strip() else ""


def to_serve(text: str) -> str:
    """Where to listen for HTTP, if anywhere."""
    return str(parse_served(text)).replace("tcp:", "http:", 1) if text.strip() else ""


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach what is bound there. A name that cannot be resolved: no."""
    if address.transport == "ipc":
        return True
    if address.host in ANY_HOST:
        return False
    if _is_interface(address.host):
        return address.host in {"lo", "lo0"}
    try:
        found = socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(place[4][0]).partition("%")[0]).is_loopback for place in found)


def reachable(text: str) -> str:
    """Where a process of this machine connects to what is bound at `text`: any interface means loopback."""
    address = parse(text)
    if address.host in ANY_HOST:
        return str(address._replace(host="::1" if address.host == "::" else "127.0.0.1"))
    return text


def _is_interface(host: str) -> bool:
    """ZeroMQ binds to a network interface by its name, and looks for one before it asks the resolver."""
    try:
        return any(host == name for _, name in socket.if_nameindex())
    except OSError:
        return False
