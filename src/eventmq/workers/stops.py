"""The hand-outs that are to stop: when each is asked, terminated, killed, and what is told of how it went.

    ask ──half of the grace──▶ SIGTERM ──the other half──▶ SIGKILL
     └─▶ stopped                  └─▶ terminated              └─▶ killed

One that had not begun is `returned`. One that was ordered without a report (a verdict on a hand-out that another took
the place of) is killed at once, and nothing is told of it. Only the worker that runs it is touched. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventmq.protocol.v2 import Outcome

ASK, TERMINATE, KILL = "ask", "terminate", "kill"


class Stop:
    """How one hand-out is stopped.

    Attributes:
        terminate_at, kill_at: When, if it still runs then.
        report: Something is told of it.
        word: The state that is told once it ends; "" = it was not even asked.
    """

    __slots__ = ("kill_at", "report", "terminate_at", "word")

    def __init__(self, now: float, grace_s: float, report: bool) -> None:
        self.terminate_at = now + grace_s / 2
        self.kill_at = now + grace_s
        self.report = report
        self.word = ""


class Stops:
    """Them, by lease, from the order to the end."""

    def __init__(self) -> None:
        self._stops: dict[int, Stop] = {}

    def __len__(self) -> int:
        return len(self._stops)

    def __contains__(self, lease: int) -> bool:
        return lease in self._stops

    def order(self, leases: Iterable[int], now: float, grace_s: float, report: bool) -> None:
        """These are to stop. Saying it again never gives more time, and a verdict, which comes with a new session, does
        not change what is under way."""
        for lease in leases:
            stop, before = Stop(now, grace_s, report), self._stops.get(lease)
            if before is None:
                self._stops[lease] = stop
            elif report and stop.kill_at < before.kill_at:
                before.terminate_at, before.kill_at = stop.terminate_at, stop.kill_at

    def next_step(self, lease: int, now: float) -> str:
        """What to do now about one that runs: `ASK`, `TERMINATE`, `KILL`, or "" for waiting."""
        stop = self._stops[lease]
        if now >= stop.kill_at:
            stop.word = "killed"
            return KILL
        if now >= stop.terminate_at and stop.word != "terminated":
            stop.word = "terminated"
            return TERMINATE
        if not stop.word:
            stop.word = "stopped"
            return ASK
        return ""

    def settle(self, outcome: Outcome) -> Outcome | None:
        """What is told of any hand-out that has ended with `outcome`; None = nothing."""
        stop = self._stops.pop(outcome.lease, None)
        if stop is None:
            return outcome
        if not stop.report:
            return None
        if outcome.state == "killed" or (outcome.state == "returned" and not stop.word):
            return outcome
        return Outcome(outcome.id, outcome.lease, stop.word or "stopped", b"", None, outcome.run_s)
