"""Options that every ZeroMQ socket of ours has, bound or connecting (`docs/protocol.md`, section 1).

No ZMTP heartbeats: they lose messages under back-pressure and can abort the process. LINGER 0: what matters is
acknowledged and repeated.
"""

from __future__ import annotations

import zmq

from eventmq import limits


def tune(socket: zmq.Socket[bytes]) -> None:
    """Sets them."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, limits.HWM_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, limits.HWM_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.FRAME_BYTES_MAX)
    socket.setsockopt(zmq.RECONNECT_IVL, limits.RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, limits.RECONNECT_MS_MAX)
    socket.setsockopt(zmq.HANDSHAKE_IVL, limits.HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 5)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
