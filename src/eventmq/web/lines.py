"""The connection to the Router that all pages share, and answers that they share.

What many browsers ask at nearly the same time is asked once: answers to questions that change nothing are kept for
SHARED_S, and forgotten when something is changed here. Whoever gets one must not change it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.web.limits import PATIENCE_S, QUESTIONS_MAX, SHARED_S, SUMS_SHARED_S

Ask = Callable[..., Any]

CHANGING = frozenset(
    {"SCHEDULE", "PAUSE", "RESUME", "DRAIN", "LIMIT", "REQUEUE", "PURGE", "CANCEL", "DRAIN_MANAGER", "RERUN"}
)
"""Questions whose answers are nobody else's."""

SUMS = frozenset({"HISTORY", "TYPES", "FAILURES"})
"""Questions about sums of whole minutes."""


class Answers:
    """What the Router has said lately, by question."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._said: dict[tuple[str, bytes], tuple[float, Any]] = {}
        self._changed = now()

    def of(self, command: str, params: dict[str, Any], ask: Ask) -> Any:
        """The answer to a question: one that is there, or that of `ask`."""
        if command in CHANGING:
            try:
                return ask(command, **params)
            finally:
                self.forget()
        key = command, msgspec.msgpack.encode(sorted(params.items()))
        asked = self._now()
        with self._lock:
            self._said = {each: said for each, said in self._said.items() if said[0] > asked}
            if key in self._said:
                return self._said[key][1]
        answer = ask(command, **params)
        with self._lock:
            if asked >= self._changed:
                self._said[key] = asked + (SUMS_SHARED_S if command in SUMS else SHARED_S), answer
        return answer

    def forget(self) -> None:
        """Something has changed: what was said before counts no more, but for sums."""
        with self._lock:
            self._said = {key: said for key, said in self._said.items() if key[0] in SUMS}
            self._changed = self._now()


class Line(Admin):
    """A connection whose answers are shared, for a few questions at a time."""

    def __init__(self, addr: str, timeout_s: float = PATIENCE_S) -> None:
        super().__init__(addr, timeout_s)
        self.answers = Answers()
        self._patience_s = timeout_s
        self._turns = threading.BoundedSemaphore(QUESTIONS_MAX)

    def ask(self, command: str, **params: Any) -> Any:
        """See `Admin.ask`.

        Raises:
            BrokerUnavailable: Too many ask: the Router answers slowly, or not at all.
        """
        return self.answers.of(command, params, self._in_turn)

    def _in_turn(self, command: str, **params: Any) -> Any:
        if not self._turns.acquire(timeout=self._patience_s):
            raise BrokerUnavailable("the Router answers too slowly for all who ask")
        try:
            return super().ask(command, **params)
        finally:
            self._turns.release()
