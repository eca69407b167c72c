"""The client's DEALER sockets, and the ZeroMQ context of this process.

A context and its sockets belong to the process that made them. A forked child gets its own; those that it inherited
are kept from the garbage collector and never touched, for closing them would talk to the parent's threads.
"""

from __future__ import annotations

import os
from typing import Any, cast

import zmq

from eventmq.net.tuning import tune

Dealer = zmq.Socket[bytes]

_context: zmq.Context[Dealer] | None = None
_inherited: list[Any] = []


def dealer(address: str) -> Dealer:
    """A socket connected (or connecting for as long as it takes) to the Router, with an identity of its own.

    Raises:
        zmq.ZMQError: The address is none.
    """
    global _context
    if _context is None:
        _context = zmq.Context()
    socket = _context.socket(zmq.DEALER)
    tune(socket)
    socket.connect(address)
    return socket


def descriptor(socket: Dealer) -> int:
    """What to poll for a change of the socket. It signals edges: ask `has_message` before each poll."""
    return cast(int, socket.getsockopt(zmq.FD))


def abandon(*inherited: Any) -> None:
    """Keeps what a forked child inherited, untouched, until it ends."""
    _inherited.extend(inherited)


def _forget_context() -> None:
    global _context
    abandon(_context)
    _context = None


os.register_at_fork(after_in_child=_forget_context)
