"""Child processes in one terminal: started one by one, watched, stopped in order.

Each child is the leader of a process group, so a Ctrl-C in the terminal reaches only us and we can stop them one after
another. A child that ends by itself ends the whole: nothing is restarted in silence.

    with Children(patience_s, say) as children:
        children.start("Router", "router")
        children.start("job manager", "jobmanager")
        children.pause(60)          # raises Stopped when told to end, Ended when one of them has ended
"""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from eventmq.errors import EventMQError
from eventmq.limits import KILL_GRACE_S
from eventmq.net.signals import Wakeup


class Ended(EventMQError):
    """A child ended that should not have."""


class Stopped(EventMQError):
    """We were told to end."""


class Children:
    """The children, in the order in which they were started; they are stopped in the opposite one.

    Args:
        patience_s: How long one may take to end when it is told to.
        say: Tells the user what happens.
        log: File for what they log; None = our stderr.
        environ: Their environment; None = ours.
    """

    def __init__(
        self,
        patience_s: float,
        say: Callable[[str], None],
        log: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._log = log
        self._environ = environ
        self._say = say
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._told = 0
        self._wakeup = Wakeup({signal.SIGINT: self._tell, signal.SIGTERM: self._tell, signal.SIGCHLD: lambda *_: None})

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told += 1

    def __enter__(self) -> Children:
        self._wakeup.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        self._wakeup.__exit__(kind, error, at)

    def start(self, name: str, verb: str) -> int:
        """Starts `eventmq` with this verb, by this Python.

        Args:
            name: What to call it to the user.
            verb: What it runs; its settings are in the environment.

        Returns:
            Its process id.
        """
        with ExitStack() as opened:
            child = subprocess.Popen(
                [sys.executable, "-m", "eventmq", verb],
                stdin=subprocess.DEVNULL,
                stderr=opened.enter_context(self._log.open("ab")) if self._log else None,
                process_group=0,
                env=self._environ,
            )
        self._children.append((name, child))
        return child.pid

    def until(self, ready: Callable[[], bool], patience_s: float, what: str) -> None:
        """Waits until `ready()`, which is asked again and again.

        Raises:
            Ended: A child ended, or the time is over; `what` says what was waited for.
            Stopped: We were told to end.
        """
        deadline = time.monotonic() + patience_s
        while not ready():
            if time.monotonic() > deadline:
                raise Ended(f"{what} within {patience_s:g} s")
            self.pause(0.02)

    def pause(self, seconds: float) -> None:
        """Lets time pass, until something happens to a child.

        Raises:
            Ended: A child has ended.
            Stopped: We were told to end.
        """
        select.select([self._wakeup.descriptor], [], [], seconds)
        self._wakeup.clear()
        if self._told:
            raise Stopped("told to end")
        for name, child in self._children:
            if child.poll() is not None:
                raise Ended(f"the {name} ended {manner(child.returncode)}")

    def _stop(self) -> None:
        """Ends the children one by one; being told again while that goes on ends all at once."""
        before = self._told
        for name, child in reversed(self._children):
            if child.poll() is None:
                self._say(f"stopping the {name}")
                child.terminate()
            deadline = time.monotonic() + self._patience_s
            while child.poll() is None and self._told <= before and time.monotonic() < deadline:
                select.select([self._wakeup.descriptor], [], [], 0.2)
                self._wakeup.clear()
            if child.poll() is None:
                self._say(f"killing the {name}")
                child.kill()
            child.wait()


def manner(returncode: int) -> str:
    """How a process ended, in words."""
    if returncode >= 0:
        return f"with exit code {returncode}"
    try:
        return f"by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"by signal {-returncode}"


def patience(drain_s: float) -> float:
    """How long a child that drains may take: the time to drain, and the time to kill what did not."""
    return drain_s + 2 * KILL_GRACE_S
