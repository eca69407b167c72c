"""The Router's loop on the simulated clock: receive, turn, send, as `Router.loop_once` does; and its deaths.

Time passes inside a turn: what it sends leaves when what it says is durable. The process may die before, in or after
the commit, or between two sends.
"""

from __future__ import annotations

import traceback
from random import Random

from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.broker.policy import Policy
from eventmq.errors import StorageFull
from eventmq.router import Router
from sim.disk import Disk, Killed
from sim.network import Network
from sim.options import Options
from sim.timeline import Timeline, Violation, Waker
from sim.witness import Witness

SOCKETS = (FRONTEND, BACKEND, ADMINISTRATIVE)

CRASH_POINTS = ("now", "nothing", "all", "torn", "silent", "sends")
"""Between turns · in the commit, with nothing, all or one of the two durable · before the first send · after some."""


class RouterProcess:
    """The process that is started again and again.

    Attributes:
        router: The real one; None = there is no process.
        turns: Turns over all its lives.
        slow_s: What the disk takes more than it should.
        pause_at_boot: How long the next process stands still before its first turn.
    """

    def __init__(
        self, timeline: Timeline, rng: Random, network: Network, disk: Disk, witness: Witness, options: Options
    ) -> None:
        self.timeline = timeline
        self.rng = rng
        self.network = network
        self.disk = disk
        self.witness = witness
        self.options = options
        keep_s, results_max, dead_max = options.keep_s, options.results_max, options.dead_max
        self.policy = Policy(result_ttl_s=keep_s, results_max=results_max, dead_ttl_s=2 * keep_s, dead_max=dead_max)
        self.router: Router | None = None
        self.waker = Waker(timeline, self._turn)
        self.turns = 0
        self.slow_s = 0.0
        self.pause_at_boot = 0.0
        self._life = 0
        self._busy_until = 0.0
        self._dies_at = ""
        self._unsent: list[Send] = []
        self._unreachable: list[tuple[str, bytes | str]] = []
        network.wake_router = self._on_message

    # ---- life and death -------------------------------------------------------------------------------

    def boot(self) -> None:
        if self.router is not None:
            return
        try:
            self.disk.kill = self._dies_at = ""
            self.disk.open()
            self.router = Router(self.disk, self.policy, lambda: self.timeline.now, lambda: self.timeline.wall)
        except StorageFull as error:
            self.timeline.say(f"router cannot start: {error}")
            self.disk.crash()
            self.timeline.after(1.0, self.boot)
            return
        self._life += 1
        self._unsent, self._unreachable = [], []
        self._busy_until = self.timeline.now
        self.timeline.say(f"router is up, epoch {self.router.ledger.epoch}, expects {len(self.router.expected)}")
        self.network.bind(SOCKETS)
        self.witness.on_boot(self.router)
        self._plan_turn()
        if self.pause_at_boot:
            self.pause(self.pause_at_boot)
            self.pause_at_boot = 0.0

    def crash(self, why: str) -> None:
        """kill -9."""
        if self.router is None:
            return
        self.timeline.say(f"router dies: {why}")
        self._gone()
        self.timeline.after(self.rng.choice((0.05, 0.3, 1.0, self.rng.uniform(0.0, 8.0))), self.boot)

    def _gone(self) -> None:
        self.router = None
        self._life += 1
        self.waker.cancel()
        self.waker.paused_until = 0.0
        self.disk.crash()
        self.network.router_gone()

    def crash_at(self, point: str) -> None:
        """kill -9 at a certain point of a coming turn."""
        if point == "now":
            self.crash("now")
        elif point in ("nothing", "all", "torn"):
            self.disk.kill = point
        else:
            self._dies_at = point

    def stop(self) -> None:
        """SIGTERM."""
        if self.router is not None:
            self.timeline.say("router is told to end")
            self.router.sigterm_handler(15, None)
            self._plan_turn()

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later. Nobody new can connect meanwhile."""
        if self.router is not None:
            self.timeline.say(f"router stands still for {seconds:.3f} s")
            self.waker.pause(self.timeline.now + seconds)
            self.network.freeze()
            self.timeline.at(self.waker.paused_until, self._go_on, self._life)

    def _go_on(self, life: int) -> None:
        if life == self._life and not self.waker.paused:
            self.network.thaw()

    # ---- the loop ------------------------------------------------------------------------------------

    def _on_message(self) -> None:
        self.waker.wake(self._busy_until)

    def _plan_turn(self) -> None:
        assert self.router is not None
        waiting = any(self.network.arrived.values())
        soon = self.timeline.now if waiting else self.router.next_deadline()
        self.waker.wake(max(self._busy_until, soon))

    def _turn(self) -> None:
        self._send(self._life)  # a pause may have held it up
        router = self.router
        if router is None:
            return
        count = self.options.receive_max
        received = [each for socket in SOCKETS for each in self.network.receive(socket, count)]
        drained = not any(self.network.arrived.values())
        applied = self.disk.applied
        unreachable, self._unreachable = self._unreachable, []
        self.turns += 1
        try:
            sends = router.turn(received, unreachable, self.timeline.now, self.timeline.wall, drained)
        except Killed as killed:
            self.witness.died_in_turn(received)
            self.crash(f"in a commit, {killed} of it durable")
            return
        except StorageFull as error:
            self.crash(f"of its store: {error}")
            return
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"the Router stopped by itself: {traceback.format_exc()}") from error
        self._say(received, sends)
        router.notes.clear()
        self.witness.after_turn(router, received, sends)
        took = self.options.turn_s + (self.options.sync_s + self.slow_s if self.disk.applied > applied else 0.0)
        self._busy_until = self.timeline.now + took
        self._unsent = sends
        self.timeline.at(self._busy_until, self._send, self._life)
        if router.ended:
            try:
                router.say_goodbye()
            except Killed as killed:
                self.crash(f"in its last commit, {killed} of it durable")
                return
            self.timeline.at(self._busy_until, self._end, router.outbox.drain(), self._life)
        else:
            self._plan_turn()

    def _send(self, life: int) -> None:
        """What the last turn wanted sent; when the process does not stand still, else before its next turn."""
        if life != self._life or self.waker.paused:
            return
        sends, self._unsent = self._unsent, []
        dies = self._dies_at if sends else ""
        if dies == "silent":
            self.crash("before it sends")
            return
        if dies == "sends":
            sends = sends[: self.rng.randint(0, len(sends))]
        for socket, peer, frames in sends:
            identity = peer.encode() if isinstance(peer, str) else peer
            if not self.network.send(socket, identity, frames):
                self._unreachable.append((socket, peer))
        if dies:
            self.crash(f"after {len(sends)} sends")

    def _end(self, sends: list[Send], life: int) -> None:
        """Goodbye, and the end in order; another one is started."""
        if life != self._life:
            return
        if self.waker.paused:
            self.timeline.at(self.waker.paused_until, self._end, sends, life)
            return
        self._unsent += sends
        self._send(life)
        if life == self._life:
            self.timeline.say("router has ended")
            self._gone()
            self.timeline.after(self.rng.choice((0.1, 1.0, 5.0)), self.boot)

    def _say(self, received: list[tuple[str, list[bytes]]], sends: list[Send]) -> None:
        if received or sends:
            got = " ".join(f"{frames[0].decode()[:6]}:{_command(frames[1:])}" for _, frames in received)
            told = " ".join(f"{_name(peer)[:6]}:{_command(frames)}" for _, peer, frames in sends)
            self.timeline.say(f"router <- {got} -> {told}")


def _name(peer: bytes | str) -> str:
    return peer if isinstance(peer, str) else peer.decode(errors="replace")


def _command(frames: list[bytes]) -> str:
    return frames[2].decode(errors="replace")[:12] if len(frames) > 2 else "?"
