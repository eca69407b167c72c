"""Schedulers as actors, and what they are there for: each occurrence of each schedule becomes a job exactly once.

Real here: `schedules.session` with its agenda, and the Router. Fake: the loop around them, as `scheduler` has it,
and who asks for the schedules, again and again until that is answered. Every schedule ends when the trouble does, and
makes up for whatever it misses; so in the end the jobs that were accepted are its occurrences, all of them, each once.
"""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from eventmq.broker.schedule import State, run_of
from eventmq.broker.schedules import TICK_FACT
from eventmq.protocol import calls, scheduling, v2
from eventmq.schedules import due as dues
from eventmq.schedules.rule import Cron, Every
from eventmq.schedules.session import SchedulerSession
from sim.network import Dealer, Host
from sim.timeline import Violation, Waker
from sim.truth import Plan

if TYPE_CHECKING:
    from sim.world import World

LOOP_S = 0.0001
TICK_S = 0.5
BEFORE_S = 60.0
"""The wall clock may be set back by so much."""


class SchedulerProcess:
    """One scheduler that is started again whenever it dies.

    Attributes:
        session: The real one; None = there is no process.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.host = Host(name)
        self.session: SchedulerSession | None = None
        self._network = world.network
        self._timeline = world.timeline
        self._rng: Random = world.rng(name)
        self._waker = Waker(world.timeline, self._turn)
        self._dealer: Dealer | None = None
        self._unsendable = False

    def boot(self) -> None:
        if self.session is None:
            self.session = SchedulerSession(self.name, f"{self._rng.getrandbits(64):016x}", 0.5)
            self._timeline.say(f"{self.name} is up")
            self._connect(self.session)
            self.wake()

    def crash(self) -> None:
        """kill -9."""
        if self.session is not None:
            self._timeline.say(f"{self.name} dies")
            self.session = None
            self._waker.cancel()
            self._waker.paused_until = 0.0
            if self._dealer is not None:
                self._dealer.close()
                self._dealer = None
            self._timeline.after(self._rng.choice((0.1, 2.0, 10.0)), self.boot)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self._timeline.say(f"{self.name} stands still for {seconds:.3f} s")
        self._waker.pause(self._timeline.now + seconds)

    def wake(self) -> None:
        if self.session is not None:
            self._waker.wake(self._timeline.now + LOOP_S)

    def _connect(self, session: SchedulerSession) -> None:
        if self._dealer is not None:
            self._dealer.close()
        self._dealer = Dealer(self._network, "frontend", self.host, self._network.identity(), self.wake)
        self._unsendable = True
        session.connect(self._timeline.now)

    def _turn(self) -> None:
        try:
            self._go_round()
        except Exception as error:
            raise Violation(f"{self.name} stopped by itself: {traceback.format_exc()}") from error

    def _go_round(self) -> None:
        session, now = self.session, self._timeline.now
        assert session is not None
        assert self._dealer is not None
        if self._unsendable and self._dealer.writable:
            self._unsendable = False
            session.on_sendable(now)
        while self._dealer.inbox:
            session.receive(self._dealer.read(), now)
        session.tick(now, self._timeline.wall)
        session.flush(now)
        if session.reconnect:
            self._connect(session)
        for frames in session.outgoing:
            if not self._dealer.send(frames):
                self._unsendable = True
                session.on_unsent(now)
        session.outgoing.clear()
        self._waker.wake(min(now + TICK_S, max(now + LOOP_S, session.next_time())))

    def pending(self) -> str:
        return f"{self.name} is not there" if self.session is None else ""


class Planner:
    """Who wants the schedules, and knows what is to come of them.

    Attributes:
        schedules: What is asked for, by id.
        expected: Jobs that are to be, by schedule; known once it is stored.
    """

    def __init__(self, world: World) -> None:
        self.host = Host("planner")
        self.schedules: dict[str, scheduling.Schedule] = {}
        self.expected: dict[str, list[str]] = {}
        self._world = world
        self._timeline = world.timeline
        self._dealer: Dealer | None = None
        self._waker = Waker(world.timeline, self._turn)
        rng = world.rng("schedules")
        for number in range(world.options.schedules):
            self._plan(f"schedule{number}", rng)

    def _plan(self, id: str, rng: Random) -> None:
        wall, step = self._timeline.wall, rng.choice((1, 2, 3))
        end = datetime.fromtimestamp(wall + self._world.options.fault_s, UTC)
        if rng.random() < 0.5:
            rule = Cron(f"*/{step} * * * * *", end=end, misfire="all", grace=2)
        else:
            rule = Every(step, start=datetime.fromtimestamp(int(wall) - BEFORE_S, UTC), end=end, misfire="all", grace=2)
        job = v2.Job("run", rng.choice(self._world.options.queues), "tasks.tiny", calls.pack_call((1,), {}))
        schedule = self.schedules[id] = scheduling.Schedule(id, f"token of {id}", rule, job)
        for due in self._between(schedule, wall - BEFORE_S, wall - BEFORE_S):
            run = replace(run_of(schedule), id=dues.run_id(id, due))
            self._world.truth.plans[run.id] = Plan(run, [("ok", rng.choice((0.0001, 0.002, 0.05)))])

    def _between(self, schedule: scheduling.Schedule, anchor: float, last: float) -> list[float]:
        return list(takewhile(lambda due: due <= schedule.rule.end, dues.times(schedule.rule, anchor, last)))

    # ---- asking ------------------------------------------------------------------------------------------

    def boot(self) -> None:
        self._dealer = Dealer(self._world.network, "frontend", self.host, b"", self._turn)
        self._waker.wake(self._timeline.now)

    def _turn(self) -> None:
        assert self._dealer is not None
        while self._dealer.inbox:
            frames = self._dealer.read()
            if frames[2] == b"REPLY":
                self._stored(v2.decode(frames[3], v2.Answer).answer)
        for n, (id, schedule) in enumerate(self.schedules.items()):
            if id not in self.expected:
                self._dealer.send(v2.encode(b"SCHEDULE", scheduling.Arrange(n, schedule)))
                self._waker.wake(self._timeline.now + 1.0)

    def _stored(self, id: str) -> None:
        if id not in self.expected:
            anchor = v2.decode(self._world.disk.facts()[TICK_FACT + id], State).anchor
            moment = dues.first_moment(self.schedules[id].rule, anchor)
            self.expected[id] = [dues.run_id(id, due) for due in self._between(self.schedules[id], anchor, moment)]
            self._timeline.say(f"{id} is stored; {len(self.expected[id])} runs are to come")

    # ---- the judgement -----------------------------------------------------------------------------------

    def pending(self) -> str:
        """What has not come to be; raises what has come to be twice, or should not have."""
        accepted = self._world.witness.accepted
        for id, schedule in self.schedules.items():
            ids = {dues.run_id(id, due) for due in self._between(schedule, 0.0, self._timeline.wall - 1e4)}
            twice = [run for run in ids if accepted[run] > 1]
            if twice:
                raise Violation(f"{id} was run twice at the same time: {twice}")
            if id not in self.expected:
                return f"{id} is not stored"
            wanted = set(self.expected[id])
            strange = [run for run in ids - wanted if accepted[run]]
            if strange:
                raise Violation(f"{id} was run at times that are not its own: {strange}")
            missing = [run for run in self.expected[id] if not accepted[run]]
            if missing:
                return f"{id} has not run {len(missing)} times: {missing[:3]}"
        return ""
