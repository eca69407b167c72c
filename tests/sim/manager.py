"""A job manager's loop on the simulated clock, as `jobmanager` does it: the real `Foreman` with fake workers."""

from __future__ import annotations

import traceback
from random import Random

from eventmq import limits
from eventmq.protocol import v2
from eventmq.workers import effects
from eventmq.workers.foreman import Foreman, Rules
from eventmq.workers.session import Identity
from eventmq.workers.worker import Death
from sim.child import Child
from sim.network import Dealer, Host, Network
from sim.timeline import Timeline, Violation, Waker
from sim.truth import LEASE_OVER, Truth
from sim.witness import Witness

LOOP_S = 0.00005
"""Between a message and the turn that reads it, about."""

RECEIVE_MAX = 256

LATE_S = 0.5
"""A manager looks at its clock this often at least, with room to spare."""


class ManagerProcess:
    """One manager that is started again whenever it ends, with another nonce each time.

    Attributes:
        foreman: The real one; None = there is no process.
        children: Its worker processes.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        queues: tuple[tuple[int, str], ...],
        max_job_count: int,
        fair: bool,
        timeline: Timeline,
        rng: Random,
        network: Network,
        truth: Truth,
        witness: Witness,
    ) -> None:
        self.name = name
        self.queues = queues
        self.fair = fair
        self.rules = Rules(workers, max_job_count, drain_s=4.0)
        self.timeline = timeline
        self.rng = rng
        self.network = network
        self.truth = truth
        self.witness = witness
        self.host = Host(name)
        self.foreman: Foreman | None = None
        self.children: dict[int, Child] = {}
        self.waker = Waker(timeline, self._turn)
        self.dealer: Dealer | None = None
        self._unsendable = False
        self._leave = False
        self._life = 0

    # ---- life and death -------------------------------------------------------------------------------

    def boot(self) -> None:
        if self.foreman is not None:
            return
        nonce = f"{self.rng.getrandbits(64):016x}"
        identity = Identity(self.name, nonce, self.queues, {}, self.fair)
        self.foreman = Foreman(self.rules, identity, self._running, lambda: "never in eMQP/2.0")
        self.timeline.say(f"{self.name} is up, {nonce}")
        self.foreman.start()
        self._turn()

    def crash(self, noticed_after: float = 0.0) -> None:
        """kill -9, its workers with it; or its host is gone and nobody is told for a while."""
        if self.foreman is not None:
            self.timeline.say(f"{self.name} dies, noticed after {noticed_after:.1f} s")
            self._gone(False, noticed_after)
            self.timeline.after(self.rng.choice((0.1, 2.0, 10.0)), self.boot)

    def stop(self) -> None:
        """SIGTERM."""
        if self.foreman is not None:
            self.timeline.say(f"{self.name} is told to leave")
            self._leave = True
            self.wake()

    def pause(self, seconds: float) -> None:
        """SIGSTOP of the manager alone, SIGCONT later."""
        self.timeline.say(f"{self.name} stands still for {seconds:.3f} s")
        self.waker.pause(self.timeline.now + seconds)
        self.truth.pauses.setdefault(self.name, []).append(self.timeline.now + seconds)

    def _gone(self, flush: bool, noticed_after: float) -> None:
        self.foreman = None
        self._life += 1
        self.waker.cancel()
        self.waker.paused_until = 0.0
        for child in self.children.values():
            child.die("signal 9 (SIGKILL)")
        self.children.clear()
        if self.dealer is not None:
            self.dealer.close(flush, noticed_after)
            self.dealer = None

    # ---- the loop ------------------------------------------------------------------------------------

    def wake(self) -> None:
        if self.foreman is not None:
            self.waker.wake(self.timeline.now + LOOP_S)

    def _running(self) -> dict[int, tuple[int, float]]:
        return {key: child.running for key, child in self.children.items() if child.running is not None}

    def _turn(self) -> None:
        foreman = self.foreman
        assert foreman is not None
        try:
            more = self._hear_router(foreman)
            self._hear_workers(foreman)
            if self._leave:
                self._leave = False
                foreman.drain(self.timeline.now)
            ended = self._carry_out(foreman)
            self._judge_lease()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{self.name} stopped by itself: {traceback.format_exc()}") from error
        if ended:
            self.timeline.say(f"{self.name} has left")
            self._gone(True, 0.0)
            self.timeline.after(self.rng.choice((0.1, 2.0)), self.boot)
        else:
            self.waker.wake(self.timeline.now + (LOOP_S if more else foreman.patience()))

    def _judge_lease(self) -> None:
        """What is to stop when it is cut off has been stopped."""
        unheard_s = self.timeline.now - self.witness.heard.get(self.name, self.timeline.now)
        if unheard_s > limits.LEASE_S + LATE_S:
            for child in self.children.values():
                job = child.current
                if job is not None and child.alive and v2.options_of(job.options).on_partition == "stop":
                    raise Violation(
                        f"{job.id} runs on at {self.name}, which the Router has not heard for {unheard_s:.1f} s"
                    )

    def _hear_router(self, foreman: Foreman) -> bool:
        """Whether there is more to read."""
        dealer = self.dealer
        if dealer is None:
            return False
        now = self.timeline.now
        if self._unsendable and dealer.writable:
            self._unsendable = False
            foreman.on_sendable(now)
        for _ in range(min(RECEIVE_MAX, len(dealer.inbox))):
            frames = dealer.read()
            self.witness.manager_reads(self.name, frames)
            foreman.on_frames(frames, now)
        return bool(dealer.inbox)

    def _hear_workers(self, foreman: Foreman) -> None:
        now = self.timeline.now
        for key, child in list(self.children.items()):
            while child.events:
                foreman.on_event(key, child.events.popleft(), now)
            if child.death is not None:
                text, clean = child.death
                running = child.running[0] if child.running else None
                del self.children[key]
                foreman.on_death(key, Death(text, clean, child.board, running), now)

    def _carry_out(self, foreman: Foreman) -> bool:
        ended = False
        for effect in foreman.end_turn(self.timeline.now, self.timeline.wall):
            match effect:
                case effects.Send(frames):
                    self._send(foreman, frames)
                case effects.Tell(worker, message):
                    if worker in self.children:
                        self.children[worker].tell(message)
                case effects.Spawn(worker):
                    self.children[worker] = Child(self.timeline, self.rng, self.truth, self.name, self.wake)
                case effects.Stop(worker, lease):
                    if worker in self.children:
                        self.children[worker].stop(lease)
                case effects.Terminate(worker):
                    if worker in self.children:
                        self.children[worker].terminate()
                case effects.Kill(worker):
                    if worker in self.children:
                        self._kill(foreman, self.children[worker])
                case effects.Report(level, text, _):
                    self.timeline.say(f"{self.name} {level}: {text}")
                case effects.Connect():
                    self._connect(foreman)
                case effects.Exit():
                    ended = True
        return ended

    def _kill(self, foreman: Foreman, child: Child) -> None:
        job = child.current
        stops = job is not None and v2.options_of(job.options).on_partition == "stop"
        if job is not None and stops and foreman._session.lease_until <= self.timeline.now:
            self.truth.cause(LEASE_OVER, job.id)
        child.die("signal 9 (SIGKILL)")

    def _send(self, foreman: Foreman, frames: list[bytes]) -> None:
        self.witness.manager_sends(self.name, frames)
        if self.dealer is not None and not self.dealer.send(frames):
            self._unsendable = True
            foreman.on_unsent(self.timeline.now)

    def _connect(self, foreman: Foreman) -> None:
        if self.dealer is not None:
            self.dealer.close()
        identity = self.network.identity()
        self.timeline.say(f"{self.name} connects as {identity.decode()}")
        self.witness.introduce(identity, self.name, self.queues)
        self.dealer = Dealer(self.network, "backend", self.host, identity, self.wake)
        self._unsendable = True
        foreman.on_connected(self.timeline.now)

    # ---- for the end ---------------------------------------------------------------------------------

    def pending(self) -> str:
        """What it has that the Router does not know; "" = nothing."""
        if self.foreman is None:
            return f"{self.name} is not there"
        held = [job.id for job in self.foreman.held()]
        if held:
            return f"{self.name} holds {held}"
        return "" if self.foreman._session.settled() else f"{self.name} has outcomes that are not ACKed"


def queues_of(number: int, names: tuple[str, ...], rng: Random) -> tuple[tuple[int, str], ...]:
    """What a manager announces: the first one everything, others a part."""
    chosen = names if number == 0 else tuple(rng.sample(names, rng.randint(1, len(names))))
    return tuple((rng.choice((1, 10, 20)), name) for name in chosen)
