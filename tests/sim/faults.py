"""What goes wrong, when, and for how long; and the end of it. Each kind is a method; each tells `truth` what it may
excuse: a second run of a job is excused by trouble of its manager or worker, never by trouble of the Router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.liar import Liar
from sim.manager import ManagerProcess
from sim.network import Host
from sim.router import CRASH_POINTS

if TYPE_CHECKING:
    from sim.world import World

PATIENCE_S = 13.0
"""A manager that stands still for less is not given up by the Router (`SILENCE_S`, less what it was silent before)."""

SHORT_CUT_S = 3.0
"""A cut that is shorter makes nobody open a new connection (`ROUTER_SILENCE_S`, less the same)."""

LIARS_MAX = 3


class Faults:
    """The trouble of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.timeline = world.timeline
        self.rng = world.rng("faults")
        self.until = world.timeline.now + world.options.fault_s
        self.liars: list[Liar] = []
        self.over = False
        if world.options.faults:
            self._plan()
        self.timeline.at(self.until, self._stop)

    def _plan(self) -> None:
        self.timeline.after(self.rng.expovariate(1 / self.world.options.fault_every_s), self._strike)

    def _strike(self) -> None:
        if self.over:
            return
        kind = self.rng.choice(self.world.options.faults)
        self.world.struck[kind] += 1
        getattr(self, f"_{kind}")()
        self._plan()

    def _stop(self) -> None:
        """From here on nothing goes wrong any more."""
        world = self.world
        self.timeline.say("---- the trouble is over ----")
        self.over = True
        world.disk.full = False
        world.disk.kill = ""
        world.router.slow_s = 0.0
        for host in self._hosts():
            world.network.heal(host)
            host.lossy = host.repeats = 0.0
        for liar in self.liars:
            liar.leave()
        for client in world.clients:
            client.calm = True
        for operator in world.operators:
            operator.relax()

    def _duration(self, longest: float) -> float:
        return min(longest, self.rng.choice((0.01, 0.2, 1.0, 5.0, 20.0)) * self.rng.uniform(0.5, 2.0))

    def _hosts(self) -> list[Host]:
        return [each.host for each in self.world.peers]

    def _manager(self) -> ManagerProcess:
        return self.rng.choice(self.world.managers)

    def _blame(self, what: str, host: Host, lasting_s: float = 0.0) -> None:
        self.world.truth.cause(what, host.name, lasting_s)

    # ---- the Router: never an excuse --------------------------------------------------------------------

    def _router_crash(self) -> None:
        points = (*CRASH_POINTS, *["torn"] * 6) if self.world.options.sqlite else CRASH_POINTS
        self.world.router.crash_at(self.rng.choice(points))

    def _router_stop(self) -> None:
        self.world.router.stop()

    def _router_pause(self) -> None:
        """At any moment, or right after a restart, before the managers are back."""
        if self.rng.random() < 0.3:
            self.world.router.crash("to come back and stand still")
            self.world.router.pause_at_boot = self.rng.choice((0.3, 12.0, 25.0))
        else:
            self.world.router.pause(self._duration(40.0))

    def _slow_disk(self) -> None:
        self.world.router.slow_s = self.rng.choice((0.05, 0.5, 3.0))
        self.timeline.after(self._duration(10.0), self._fast_disk)

    def _fast_disk(self) -> None:
        self.world.router.slow_s = 0.0

    def _disk_full(self) -> None:
        self.world.disk.full = True
        self.timeline.say("the disk is full")
        self.timeline.after(self._duration(10.0), self._disk_free)

    def _disk_free(self) -> None:
        self.world.disk.full = False

    def _wall_jump(self) -> None:
        self.timeline.offset = self.rng.choice((5.0, 40.0)) * self.rng.uniform(-1.0, 1.0)
        self.timeline.jumped = True
        self.timeline.say(f"the wall clock is off by {self.timeline.offset:.1f} s")

    # ---- schedulers: nothing that concerns a job ----------------------------------------------------------

    def _scheduler_crash(self) -> None:
        self.rng.choice(self.world.schedulers).crash()

    def _scheduler_pause(self) -> None:
        self.rng.choice(self.world.schedulers).pause(self._duration(40.0))

    # ---- the network ---------------------------------------------------------------------------------------

    def _break(self) -> None:
        """A connection breaks and both ends see it; a manager is back before it is given up."""
        host = self.rng.choice(self._hosts())
        for dealer in host.dealers:
            if dealer.link is not None:
                self.timeline.say(f"the connection of {host.name} breaks")
                self.world.network.break_link(dealer.link, router_after=0.0, dealer_after=0.0)

    def _half_open(self) -> None:
        """A connection breaks and one end does not see it for a while."""
        host = self.rng.choice(self._hosts())
        late = self._duration(40.0)
        self._blame("half-open connection", host, late)
        for dealer in host.dealers:
            if dealer.link is not None:
                router_after, dealer_after = self.rng.choice(((late, 0.0), (0.0, late), (late, late)))
                self.world.network.break_link(dealer.link, router_after=router_after, dealer_after=dealer_after)

    def _cut(self) -> None:
        host = self.rng.choice(self._hosts())
        seconds = self._duration(40.0)
        sends, hears = self.rng.choice(((False, False), (False, True), (True, False)))
        self.timeline.say(f"{host.name} is cut off for {seconds:.3f} s: {sends=} {hears=}")
        if seconds > SHORT_CUT_S or not (host.sends and host.hears):
            self._blame("cut off", host, seconds)
        self.world.network.cut(host, sends, hears)
        self.timeline.after(seconds, self.world.network.heal, host)

    def _lossy(self) -> None:
        """High-water marks are reached: whole messages are dropped."""
        host = self.rng.choice((self._manager().host, self.rng.choice(self._hosts())))
        host.lossy = self.rng.choice((0.2, 0.7))
        self.timeline.after(self._duration(5.0), self._deliver_all, host)

    def _repeat(self) -> None:
        """Messages arrive twice or overtake others, which TCP never does: an INFORM that comes late lies about what is
        held."""
        host = self.rng.choice(self._hosts())
        seconds = self._duration(5.0)
        host.repeats = 0.2
        self._blame("repeated messages", host, seconds + 1.0)
        self.timeline.after(seconds, self._deliver_all, host)

    def _deliver_all(self, host: Host) -> None:
        host.lossy = host.repeats = 0.0

    # ---- managers and workers ------------------------------------------------------------------------------

    def _manager_crash(self) -> None:
        manager = self._manager()
        self._blame("killed", manager.host)
        manager.crash()

    def _host_crash(self) -> None:
        manager = self._manager()
        late = self._duration(30.0)
        self._blame("host gone", manager.host, late)
        manager.crash(noticed_after=late)

    def _manager_pause(self) -> None:
        manager = self._manager()
        seconds = self._duration(40.0)
        if seconds > PATIENCE_S or manager.waker.paused:
            self._blame("stood still", manager.host, seconds)
        manager.pause(seconds)

    def _manager_stop(self) -> None:
        manager = self._manager()
        self._blame("told to leave", manager.host, 10.0)
        manager.stop()

    def _worker_crash(self) -> None:
        children = list(self._manager().children.values())
        if children:
            child = self.rng.choice(children)
            if child.current is not None:
                self.world.truth.cause("its worker was killed", child.current.id)
            child.die("signal 9 (SIGKILL)")

    # ---- clients and others ------------------------------------------------------------------------------------

    def _client_crash(self) -> None:
        self.rng.choice(self.world.clients).crash()

    def _client_pause(self) -> None:
        self.rng.choice(self.world.clients).pause(self._duration(40.0))

    def _lie(self) -> None:
        world = self.world
        if len(self.liars) < LIARS_MAX:
            name = f"liar{len(self.liars)}"
            self.liars.append(Liar(name, self.timeline, self.rng, world.network, world.truth, world.witness))
        self.rng.choice(self.liars).lie()
