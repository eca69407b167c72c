"""A worker process on the simulated clock: what `workers/child.py` does, without Python code to run.

The main thread runs jobs one after another and reads commands when it has none; the steward takes over while it stays
on one job: sends outcomes, reads commands, gives back what waits. The board outlives the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from eventmq import limits
from eventmq.protocol import v2
from eventmq.workers import messages
from sim.timeline import Timeline
from sim.truth import Run, Truth

PIPE_S = 0.00005
"""What a message through the socketpair takes, about."""

FLUSH_S = 0.001

HEEDS = {"stop": 0.4, "terminate": 0.5}
"""Share of the runs that end when they are asked, and of the others when they are terminated."""


class Child:
    """One worker process and its manager's end of the socketpair.

    Attributes:
        events: What the manager can read.
        death: How it died, once the manager can see it.
        running: Its board: lease and start of the job that runs.
        unwanted: Its board: lease of the job that is to stop.
        board: Its board: outcomes.
    """

    def __init__(self, timeline: Timeline, rng: Random, truth: Truth, manager: str, wake: Callable[[], None]) -> None:
        self.timeline = timeline
        self.rng = rng
        self.truth = truth
        self.manager = manager
        self.wake = wake
        self.events: deque[messages.Event] = deque()
        self.death: tuple[str, bool] | None = None
        self.running: tuple[int, float] | None = None
        self.board: list[v2.Outcome] = []
        self.unwanted = 0
        self.alive = True
        self._commands: deque[messages.Command] = deque()
        self._jobs: deque[v2.Job] = deque()
        self._sent = 0
        self._flushed = 0.0
        self._stopping = False
        self._ready = False
        self._current: tuple[v2.Job, Run, bool] | None = None
        self._pipe_free = 0.0
        self._commands_free = 0.0
        timeline.after(rng.uniform(0.01, 0.3), self._get_ready)

    # ---- the manager's side ----------------------------------------------------------------------------

    def tell(self, message: bytes) -> None:
        self._commands_free = max(self._commands_free, self.timeline.now + PIPE_S * self.rng.uniform(0.5, 2.0))
        self.timeline.at(self._commands_free, self._hear, messages.decode_command(message))

    def stop(self, lease: int | None) -> None:
        """The job of this lease is to stop; None: the manager drains."""
        self.unwanted = lease or self.unwanted
        if self._current is not None and lease in (None, self._current[0].lease):
            self._heed("stop", "retry" if lease is None else "stop")

    def terminate(self) -> None:
        """SIGTERM."""
        if self._current is not None and self._current[0].lease == self.unwanted:
            self._heed("terminate", "stop")

    def _heed(self, asked: str, how: str) -> None:
        """The job that runs may do as it is asked, in its own time."""
        assert self._current is not None
        _, run, gil = self._current
        if not gil and self.rng.random() < HEEDS[asked]:
            self.timeline.after(self.rng.choice((0.001, 0.1, 1.0)), self._finish, run, how)

    def die(self, how: str, clean: bool = False) -> None:
        """The process ends here. What it has written is read by the manager before it sees the end."""
        if not self.alive:
            return
        self.alive = False
        if self._current is not None:
            job, run, _ = self._current
            self.truth.end(job.id, run, "cut")
            self.truth.look()
        self.timeline.at(max(self._pipe_free, self.timeline.now + PIPE_S), self._show_death, (how, clean))

    @property
    def current(self) -> v2.Job | None:
        """The job that runs."""
        return self._current[0] if self._current else None

    def _show_death(self, death: tuple[str, bool]) -> None:
        self.death = death
        self.wake()

    # ---- the process --------------------------------------------------------------------------------------

    def _get_ready(self) -> None:
        if self.alive:
            self._ready = True
            self._send(messages.Ready())
            self._read()

    def _send(self, event: messages.Event) -> None:
        self._pipe_free = max(self._pipe_free, self.timeline.now + PIPE_S * self.rng.uniform(0.5, 2.0))
        self.timeline.at(self._pipe_free, self._arrive, event)

    def _arrive(self, event: messages.Event) -> None:
        self.events.append(event)
        self.wake()

    def _hear(self, command: messages.Command) -> None:
        if not self.alive:
            return
        self._commands.append(command)
        if self._current is None and self._ready:
            self._read()
        elif self._current is not None:
            self._plan_steward()

    def _read(self) -> None:
        while self._commands:
            self._obey(self._commands.popleft())
        if self._current is None:
            self._begin_next()

    def _obey(self, command: messages.Command) -> None:
        match command:
            case messages.Run(jobs):
                self._jobs.extend(jobs)
            case messages.Return():
                self._give_back()
            case messages.Stop():
                self._stopping = True

    def _begin_next(self) -> None:
        if not self._jobs:
            self._flush(clear=True)
            if self._commands:
                self._read()
            elif self._stopping:
                self.die("exit code 0", clean=True)
            return
        job = self._jobs.popleft()
        what, seconds, run = self.truth.start(self.manager, job)
        gil = self.truth.plans[job.id].gil
        self.running = (job.lease, self.timeline.now)
        self._current = (job, run, gil)
        self.truth.look()
        if what == "crash":
            self.timeline.after(seconds, self._crash, run)
        elif what != "stuck":
            self.timeline.after(seconds, self._finish, run, what)
        if seconds >= limits.STUCK_S or what == "stuck":
            self._plan_steward()

    def _crash(self, run: Run) -> None:
        if self.alive and self._current is not None and self._current[1] is run:
            self.truth.cause("the job crashed its worker", self._current[0].id)
            self.die("signal 11 (SIGSEGV)")

    def _finish(self, run: Run, what: str) -> None:
        if not self.alive or self._current is None or self._current[1] is not run:
            return
        job, _, _ = self._current
        seconds = self.timeline.now - run.began
        if what == "ok":
            run.value = v2.pack([job.id, job.lease])
            outcome = v2.Outcome(job.id, job.lease, "succeeded", run.value, None, seconds)
        else:
            failure = v2.Failure("builtins.ValueError", f"{job.lease}")
            state, delay_s = ("retry", self.rng.choice((None, 0.0, 0.5))) if what == "retry" else ("failed", None)
            outcome = v2.Outcome(job.id, job.lease, state, b"", failure, seconds, delay_s)
        self.truth.end(job.id, run, what)
        self.board.append(outcome)
        self.running = self._current = None
        self.truth.look()
        if self.timeline.now - self._flushed >= FLUSH_S:
            self._flush(clear=True)
            while self._commands:
                self._obey(self._commands.popleft())
        self._begin_next()

    def _flush(self, clear: bool) -> None:
        if len(self.board) > self._sent:
            self._send(messages.Done(list(self.board[self._sent :])))
            self._sent = len(self.board)
        if clear:
            self.board, self._sent = [], 0
        self._flushed = self.timeline.now

    def _give_back(self) -> None:
        if self._jobs:
            leases = [job.lease for job in self._jobs]
            self._jobs.clear()
            self._send(messages.Returned(leases))

    # ---- the steward -----------------------------------------------------------------------------------------

    def _plan_steward(self) -> None:
        current = self._current
        if current is not None and not current[2]:
            early = current[1].began + limits.STUCK_S
            self.timeline.at(
                max(early, self.timeline.now) + self.rng.random() * limits.STUCK_S, self._steward, current[1]
            )

    def _steward(self, run: Run) -> None:
        if not self.alive or self._current is None or self._current[1] is not run:
            return
        if self.rng.random() < 0.2:
            self._send(messages.Progress([v2.Report(self._current[0].id, run.lease, v2.pack(run.attempt))]))
        self._flush(clear=False)
        while self._commands:
            self._obey(self._commands.popleft())
        self._give_back()
