"""Acts on many jobs: counted first, and done only when somebody who has seen the number says so.

    counting ──▶ counted ──▶ running ──▶ done
                    └─(never told)          each may end as `stopped` or `failed`, with what was done so far

Each counts and runs in a thread of its own, in the slices of `Admin`. They are known to this process
only: when it ends, what was done stays done, and the rest is not.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventmq.client.acts import KINDS, Kind
from eventmq.client.admin import Admin
from eventmq.errors import EventMQError
from eventmq.protocol.administration import Selection
from eventmq.web.limits import ACTS_MAX, ACTS_RUNNING_MAX

GOING = ("counting", "running")


@dataclass
class Act:
    """One act, as far as it is."""

    do: str
    selection: Selection
    words: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    phase: str = "counting"
    jobs: int = 0
    done: int = 0
    error: str = ""

    @property
    def kind(self) -> Kind:
        """What is done."""
        return KINDS[self.do]


class _Stopped(EventMQError):
    pass


class Bulk:
    """The acts of this process, oldest first.

    Args:
        admin: The Router.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._acts: dict[str, Act] = {}
        self._lock = threading.Lock()

    def begin(self, act: Act, patience_s: float = 0.0) -> Act:
        """Counts the jobs of a new act; waits a little, as most counts are short.

        Raises:
            EventMQError: Too many are going on.
        """
        with self._lock:
            if sum(each.phase in GOING for each in self._acts.values()) >= ACTS_RUNNING_MAX:
                raise EventMQError(f"{ACTS_RUNNING_MAX} acts are going on; wait for one of them to end, or stop it")
            while len(self._acts) >= ACTS_MAX:
                del self._acts[next(id for id, each in self._acts.items() if each.phase not in GOING)]
            self._acts[act.id] = act
        self._start(act, self._count).join(patience_s)
        return act

    def go(self, act: Act) -> None:
        """Does what was counted; saying it again does nothing."""
        with self._lock:
            if act.phase != "counted":
                return
            act.phase = "running"
        self._start(act, self._run)

    def stop(self, act: Act) -> None:
        """It goes no further; what was done stays done."""
        if act.phase in (*GOING, "counted"):
            act.phase = "stopped"

    def find(self, id: str) -> Act | None:
        """An act by its id."""
        return self._acts.get(id)

    def close(self) -> None:
        """Stops all."""
        for act in list(self._acts.values()):
            self.stop(act)

    def _start(self, act: Act, what: Callable[[Act], None]) -> threading.Thread:
        thread = threading.Thread(target=self._work, args=(act, what), name=f"act-{act.id}", daemon=True)
        thread.start()
        return thread

    def _work(self, act: Act, what: Callable[[Act], None]) -> None:
        try:
            what(act)
        except _Stopped:
            return
        except EventMQError as error:
            act.phase, act.error = "failed", str(error)

    def _count(self, act: Act) -> None:
        count = self._admin.count(act.selection, lambda jobs: self._note(act, jobs=jobs))
        self._note(act, jobs=count.jobs)
        act.selection = msgspec.structs.replace(act.selection, before=count.newest)
        act.phase = "counted"

    def _run(self, act: Act) -> None:
        done = getattr(self._admin, act.do)(act.selection, lambda done: self._note(act, done=done), act.jobs)
        self._note(act, done=done)
        act.phase = "done"

    def _note(self, act: Act, **numbers: Any) -> None:
        for name, number in numbers.items():
            setattr(act, name, number)
        if act.phase == "stopped":
            raise _Stopped
