"""Asks the Router's administrative socket, for the command line and other tools. One question at a time, one thread."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any, Self

import msgspec

from eventmq.client.sockets import dealer, has_message, receive, send
from eventmq.errors import BrokerUnavailable, EventMQError, SettingsError
from eventmq.limits import ENQUEUE_TIMEOUT_S, RESEND_S
from eventmq.net import address
from eventmq.protocol import v2


class Admin:
    """A connection to the administrative socket at `addr`; a context manager.

    Args:
        addr: As `tcp://127.0.0.1:47293`.
        timeout_s: How long to wait for an answer.

    Raises:
        SettingsError: Not such an address.
    """

    def __init__(self, addr: str, timeout_s: float = ENQUEUE_TIMEOUT_S) -> None:
        try:
            self._addr = str(address.parse_connect(addr))
        except ValueError as error:
            raise SettingsError(f"{addr!r}: expected {error}") from None
        self._timeout_s = timeout_s
        self._socket = dealer(self._addr)
        self._n = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def ask(self, command: str, **params: Any) -> Any:
        """The answer to one command: STATUS, WORKERS, SCHEDULERS, QUEUES, DISCONNECT.

        The question is repeated until the answer comes; the commands allow that.

        Raises:
            BrokerUnavailable: None came in time.
            EventMQError: The Router refused the question.
        """
        self._n += 1
        question = v2.encode(command.encode(), v2.Question(self._n, params))
        deadline = monotonic() + self._timeout_s
        while (now := monotonic()) < deadline:
            send(self._socket, question)
            until = min(now + RESEND_S, deadline)
            while self._arrives(until):
                answered, answer = self._read(command, receive(self._socket))
                if answered:
                    return answer
        raise BrokerUnavailable(
            f"the Router's administrative socket at {self._addr} did not answer within {self._timeout_s:g} s. "
            "Is it running there?"
        )

    def _arrives(self, until: float) -> bool:
        left_s = max(until - monotonic(), 0.0)
        return has_message(self._socket) or bool(self._socket.poll(math.ceil(left_s * 1000)))

    def _read(self, command: str, frames: list[bytes]) -> tuple[bool, Any]:
        """Whether a message answers the question, and how. Answers to earlier ones come late and mean nothing."""
        if len(frames) != 4 or frames[1] != v2.VERSION:
            return False, None
        try:
            if frames[2] == b"REPLY":
                reply = v2.decode(frames[3], v2.Answer)
                return reply.n == self._n, reply.answer
            refused = v2.decode(frames[3], v2.Refused)
        except msgspec.MsgspecError:
            return False, None
        if frames[2] == b"REFUSED" and refused.n in (0, self._n):
            raise EventMQError(f"the Router refused {command}: {refused.reason} ({refused.text})")
        return False, None
