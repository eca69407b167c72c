"""Whole messages over a ZeroMQ socket, bound or connecting, as cheaply as pyzmq gives them. Nothing here waits.

Plain numbers, and frame by frame: operators on pyzmq's enums, and its `send_multipart` and `recv_multipart` with them,
take longer than the calls themselves.
"""

from __future__ import annotations

from typing import cast

import zmq

from eventmq import limits

Socket = zmq.Socket[bytes]
Frames = list[bytes]

POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)
_EVENTS = int(zmq.EVENTS)
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def has_message(socket: Socket) -> bool:
    """A message can be received now. Asking is a third of the price of being told by an exception."""
    return bool(cast(int, socket.getsockopt(_EVENTS)) & POLLIN)


def receive(socket: Socket) -> Frames:
    """The next message.

    Raises:
        zmq.Again: There is none.
    """
    frames = []
    while True:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(frame.bytes)
        if not frame.more:
            return frames


def receive_some(
    socket: Socket, bytes_max: float, messages_max: int = limits.TURN_MESSAGES_MAX
) -> tuple[list[Frames], bool]:
    """The messages that have arrived, at most `messages_max` and about `bytes_max`, and whether that was all."""
    messages: list[Frames] = []
    size = 0
    try:
        while size < bytes_max and len(messages) < messages_max:
            messages.append(receive(socket))
            size += len(messages[-1][-1])
            if len(messages) == 1 and not has_message(socket):  # a message mostly comes alone, or with many
                return messages, True
    except zmq.Again:
        return messages, True
    return messages, False


def send(socket: Socket, frames: Frames) -> bool:
    """Sends, or drops the message when nobody is there to take it, and says which: as good as lost on the way, and what
    matters is repeated.

    Raises:
        zmq.ZMQError: With EHOSTUNREACH from a ROUTER socket: the peer is gone.
    """
    try:
        for frame in frames[:-1]:
            socket.send(frame, _NOBLOCK_MORE)
        socket.send(frames[-1], _NOBLOCK)
    except zmq.Again:
        return False
    return True
