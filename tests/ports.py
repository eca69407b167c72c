"""Ports of the loopback for tests, that nobody else is given.

A port that the kernel chose is free only until the next outgoing connection of anybody is given it. So these are below
the range that it chooses from. A Router that is started again has left its ports for a moment; so testers side by side
have each a part of the range.
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST, LAST = 20_000, 32_000
"""Below the ports that kernels give to outgoing connections: Linux from 32,768, macOS from 49,152."""

TESTERS_MAX = 8

_part = (LAST - FIRST) // TESTERS_MAX
_tester = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % TESTERS_MAX
_next = itertools.count(os.getpid() * 101)


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on, all different."""
    ports: list[int] = []
    while len(ports) < count:
        port = FIRST + _tester * _part + next(_next) % _part
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        ports.append(port)
    return ports
