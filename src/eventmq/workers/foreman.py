"""What a job manager decides, all of it: the session with the Router on one side, the pool of workers on the other.

Pure: sockets, processes, the clock and ids are handed in; effects are handed out, in the order in which to carry them
out. A simulator drives it as `jobmanager` does, one turn at a time:

    on_connected · on_frames · on_event · on_death · on_unsent · on_sendable · drain     as they happen
    end_turn                                                             decide the rest, return the effects

Life: start the workers; when the first is ready, announce; serve; drain; say goodbye; exit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from eventmq import limits
from eventmq.protocol.v2 import Job
from eventmq.workers import backlog, messages
from eventmq.workers.effects import Connect, Effect, Exit, Report, Send
from eventmq.workers.pool import Pool
from eventmq.workers.session import Identity, News, SessionV2
from eventmq.workers.session_v1 import SessionV1
from eventmq.workers.worker import Death

FAREWELL_S = 2.0
"""After the last job has ended, or was ended, the Router has this long to ACK what it is told."""

TICK_S = 0.1
"""Timeouts of jobs, beats and silence are looked at this often at least."""

COMPLAINTS_MAX = 5
"""What is wrong with messages is told so many times in `LOG_PER_REASON_S`."""


class Rules(NamedTuple):
    """The settings of the same names that decide."""

    concurrent_jobs: int
    max_job_count: int = 0
    job_timeout_s: float = limits.JOB_TIMEOUT_S
    drain_s: float = limits.DRAIN_S
    heartbeat_s: float = limits.HEARTBEAT_S
    wire: str = "2.0"


class Foreman:
    """One job manager.

    Args:
        running: Looks at the boards: lease and start of what each worker runs, by worker.
        new_id: Makes message ids for eMQP/1.0.
    """

    def __init__(
        self,
        rules: Rules,
        identity: Identity,
        running: Callable[[], Mapping[int, tuple[int, float]]],
        new_id: Callable[[], str],
    ) -> None:
        self._rules = rules
        self._identity = identity
        self._running = running
        self._new_id = new_id
        self._pool = Pool(rules.concurrent_jobs, rules.max_job_count, rules.job_timeout_s)
        self._session = self._new_session()
        self._announced = False
        self._leave_at: float | None = None
        self._farewell_at: float | None = None
        self._ended = False
        self._quiet_until = 0.0

    def _new_session(self) -> SessionV1 | SessionV2:
        session: SessionV1 | SessionV2
        if self._rules.wire == "1.0":
            session = SessionV1(self._identity, self._new_id)
        else:
            session = SessionV2(self._identity, self._pool.held, self._rules.heartbeat_s, lambda: self._pool.declared)
        self._pool.returns = session.can_return
        return session

    # ---- what happens --------------------------------------------------------------------------

    def start(self) -> None:
        """Spawn the workers; the Router hears of us when the first one is ready."""
        self._pool.start()

    def on_connected(self, now: float) -> None:
        """The new socket is there."""
        self._session.connect(now)

    def on_unsent(self, now: float) -> None:
        """A message could not be sent: nobody is connected."""
        self._session.on_unsent(now)

    def on_sendable(self, now: float) -> None:
        """Somebody is connected again."""
        self._session.on_sendable(now)

    def on_frames(self, frames: list[bytes], now: float) -> None:
        """One message from the Router, without identity."""
        news: News = self._session.receive(frames, now)
        if news.jobs:
            self._pool.add(news.jobs, now)
        if news.unwanted:
            self._pool.stop(news.unwanted, now, news.grace_s, news.report)
        if news.recall:
            self._pool.recall()
        if news.leave and self._leave_at is None:  # the Router may repeat it; only people are in a hurry
            self.drain(now)

    def on_event(self, worker: int, event: messages.Event, now: float) -> None:
        """One message from a worker."""
        self._pool.on_event(worker, event, now)

    def on_death(self, worker: int, death: Death, now: float) -> None:
        """A worker process has ended, and every message that it sent was handed in before."""
        self._pool.on_death(worker, death, now)

    def drain(self, now: float) -> None:
        """Finish what runs, then leave. Asked a second time: leave now."""
        if self._leave_at is None:
            self._leave_at = now + self._rules.drain_s
            self._pool.drain()
            self._session.leave()
        elif self._farewell_at is None:
            self._leave_at = now

    # ---- what to do about it -----------------------------------------------------------------------

    def end_turn(self, now: float, wall: float) -> list[Effect]:
        """Decide what follows from all that happened and from the time that it is."""
        workers, session = self._pool, self._session
        workers.tick(now, self._running())
        if session.lease_until <= now:
            workers.cut_off()
        self._tell_outcomes()
        if isinstance(session, SessionV1):
            workers.add(session.retries(), now)
        workers.assign()
        workers.retire_finished(now)
        self._tell_outcomes()
        effects: list[Effect] = []
        if self._pool.start_error is not None:
            effects += self._give_up(self._pool.start_error)
        self._announce(effects, now, wall)
        self._depart(effects, now)
        if Connect() not in effects:  # what was meant for the old socket is void
            effects += [Send(frames) for frames in session.outgoing]
        session.outgoing.clear()
        return self._rest(effects, now)

    def _tell_outcomes(self) -> None:
        if self._pool.outcomes:
            self._session.finish(self._pool.outcomes)
            self._pool.outcomes = []
        if self._pool.reports:
            self._session.report(self._pool.reports)
            self._pool.reports = []

    def _announce(self, effects: list[Effect], now: float, wall: float) -> None:
        """Keep the conversation going: start it, flush it, change the socket."""
        session, workers = self._session, self._pool
        if not self._announced:
            if any(worker.ready for worker in workers.workers.values()):
                self._announced = True
                effects.append(Connect())
            return
        session.tick(now, wall)
        session.flush(max(0, self._capacity() - workers.outstanding()), now)
        if session.reconnect:
            effects.append(Connect())

    def _capacity(self) -> int:
        """A 2020 Router takes nothing back, so it is asked for no more than can run now. So is one that shares slots
        among queues: what lies ready ahead of the workers holds none."""
        capacity = self._pool.capacity()
        ahead = self._session.can_return and not self._identity.fair
        return capacity if ahead else min(capacity, self._rules.concurrent_jobs)

    def _depart(self, effects: list[Effect], now: float) -> None:
        """Once leaving: when the jobs are ended, or time is up, and the Router knows, go."""
        if self._leave_at is None or self._ended:
            return
        if now >= self._leave_at and self._farewell_at is None:
            self._pool.halt()
        if self._pool.outstanding() or self._pool.workers:
            return
        if self._farewell_at is None:
            self._farewell_at = now + FAREWELL_S
        if self._session.settled() or not self._session.opened or now >= self._farewell_at:
            self._go(effects)

    def _go(self, effects: list[Effect]) -> None:
        self._ended = True
        if not self._session.settled():
            text = "the Router did not acknowledge everything: jobs that ended here may run again elsewhere"
            effects.append(Report("warning", text))
        self._session.goodbye()

    def _give_up(self, error: str) -> list[Effect]:
        return [Report("error", "no worker process can start, so the job manager ends", error), Exit(1)]

    def _rest(self, effects: list[Effect], now: float) -> list[Effect]:
        effects += self._pool.effects
        self._pool.effects = []
        if self._session.complaints and now >= self._quiet_until:
            self._quiet_until = now + limits.LOG_PER_REASON_S
            effects += [Report("warning", text) for text in self._session.complaints[:COMPLAINTS_MAX]]
        self._session.complaints.clear()
        if self._ended:
            effects.append(Exit(0))
        return effects

    # ---- for the loop ----------------------------------------------------------------------------------

    def held(self) -> list[Job]:
        """Every job that is here and has no outcome."""
        return list(self._pool.held())

    @property
    def leaving(self) -> bool:
        """It finishes what runs, then goes."""
        return self._leave_at is not None

    @property
    def absence(self) -> str:
        """Why the Router gives us no jobs; empty = it does."""
        if self.leaving:
            return "it drains"
        return "" if self._session.in_session else "the Router does not know it"

    def patience(self) -> float:
        """Seconds that the loop may sleep when nothing happens."""
        if self._pool.backlog.jobs:
            return backlog.WAIT_S / 2
        return TICK_S
