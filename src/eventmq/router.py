"""The Router: the only owner of every job's state, and the only writer of the store.

`Router` is the published class. What it decides stands in `broker/`, one file for each of its sockets; what is here is
the process around it: the sockets, the clock, the signals, the log, and the one loop.

    received = sockets.receive(until=router.next_deadline())
    messages = router.turn(received, …)         # decide, commit, answer
    gone     = sockets.send(messages)           # only now is anything visible
    router.upkeep()                             # what nobody waits for

What each step takes is summed up, in STATUS and by `eventmq profile`.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, ClassVar

from eventmq import limits
from eventmq.broker import administrative, backend, frontend
from eventmq.broker.administrative import Administrative
from eventmq.broker.backend_v1 import BackendV1
from eventmq.broker.frontend import Frontend
from eventmq.broker.handlers import Handlers
from eventmq.broker.numbers import Meter, numbers
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.broker.policy import Policy
from eventmq.broker.pool import PeerId
from eventmq.errors import InvalidMessageError, NoAvailableWorkerSlotsError, SettingsError, UnknownQueueError
from eventmq.logs import Limited, setup
from eventmq.machine import make_default_folder
from eventmq.monitoring import pages
from eventmq.monitoring.listener import listening
from eventmq.net import address
from eventmq.net.signals import Wakeup
from eventmq.net.sockets import RouterSockets
from eventmq.net.systemd import Service
from eventmq.protocol import v1
from eventmq.settings import Settings, load, public
from eventmq.store.base import Store
from eventmq.store.open import open_store

__all__ = ["InvalidMessageError", "NoAvailableWorkerSlotsError", "Router", "UnknownQueueError", "run"]

log = logging.getLogger("eventmq.router")

LAST_WORDS_S = 0.2
"""When the Router ends, results that are on their way get this long to arrive."""

STEPS = ("wait", "receive", "decide", "commit", "answer", "send", "upkeep")
"""What the loop spends its time on; to wait is to have nothing to do."""


class Router(Frontend, BackendV1, Administrative):
    """Routes jobs to job managers, which are in named queues.

    Args:
        store: Where jobs are remembered; None = in memory.
        policy: What an operator may set.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        reload: On SIGHUP: reads the configuration again, returns the addresses by socket.
        drain_s: How long an ending Router waits for jobs of managers that could not report them to the next one.
        http_addr: Where metrics and health are told; "" = nowhere.
    """

    handlers: ClassVar[dict[str, Handlers]] = {
        FRONTEND: frontend.HANDLERS,
        BACKEND: backend.HANDLERS,
        ADMINISTRATIVE: administrative.HANDLERS,
    }

    def __init__(
        self,
        store: Store | None = None,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        reload: Callable[[], dict[str, str]] = dict,
        drain_s: float = limits.DRAIN_S,
        http_addr: str = "",
    ) -> None:
        self.clock = clock
        self.wall_clock = wall_clock
        self.reload = reload
        self.sockets: RouterSockets | None = None
        self.unreachable: list[tuple[str, PeerId]] = []
        self.limited = Limited(log)
        self._reload_wanted = False
        self.end_at_once = False
        self.drain_s = drain_s
        self.http_addr = http_addr
        self.meter = Meter()
        self.service = Service()
        super().__init__(store or open_store("memory:", "none"), policy or Policy(), clock(), wall_clock())
        self.spent_s = dict.fromkeys(STEPS, 0.0)
        self._lap_began = time.perf_counter()

    # ---- the process ---------------------------------------------------------------------------------

    def start(
        self,
        frontend_addr: str = Settings.frontend_addr,
        backend_addr: str = Settings.backend_addr,
        administrative_addr: str = Settings.administrative_addr,
    ) -> None:
        """Listens for requests, job managers and administrative commands, and runs until it is told to end.

        Raises:
            SettingsError: An address cannot be bound.
            StoreError: The store failed; nothing was acknowledged that it does not hold.
        """
        addresses = {FRONTEND: frontend_addr, BACKEND: backend_addr, ADMINISTRATIVE: administrative_addr}
        self.sockets = RouterSockets(addresses)
        asked_at = address.reachable(self.sockets.addresses[ADMINISTRATIVE])
        ends = dict.fromkeys((signal.SIGTERM, signal.SIGINT), self.sigterm_handler)
        try:
            with Wakeup(ends) as wakeup, listening(self.http_addr, pages.of_router(asked_at, lambda: self.now, True)):
                if hasattr(signal, "SIGHUP"):
                    wakeup.handle(signal.SIGHUP, self.sighup_handler)
                self.sockets.wake_by(wakeup)
                log.info("listening: %s", ", ".join(f"{name} {at}" for name, at in self.sockets.addresses.items()))
                self.service.ready(self.now)
                while not self.ended:
                    self.loop_once()
            self.say_goodbye()
            self.sockets.send(self.outbox.drain())
        finally:
            self.sockets.close()
            self.store.close()
        log.info("ended")

    def loop_once(self) -> None:
        """Receives, decides, commits, sends: one turn with the real sockets and clock."""
        assert self.sockets is not None
        ready = self.sockets.wait(self.next_deadline())
        self._spent("wait")
        began = self._lap_began
        received, drained = self.sockets.receive(ready)
        self._spent("receive")
        if self._reload_wanted:
            self._rebind()
        self.decide(received, self.unreachable, self.clock(), self.wall_clock(), drained)
        self._spent("decide")
        changed = bool(self.ledger.changes)
        self.commit()
        commit_s = self._spent("commit")
        if changed:
            self.meter.commits.observe(commit_s)
        messages = self.answer_questions()
        self._spent("answer")
        self.unreachable = self.sockets.send(messages)
        self._spent("send")
        self.upkeep()
        self._spent("upkeep")
        self.meter.sent.update(frames[2] for _, _, frames in messages)
        self.meter.turns.observe(self._lap_began - began)
        self.service.turned(self.now, self._in_a_line, self.received_disconnect)
        if self.notes:
            for note in self.notes:
                self.limited.log(logging.getLevelNamesMapping()[note.level.upper()], note.key, note.text, self.now)
            self.notes.clear()

    def turn(
        self,
        received: Sequence[tuple[str, list[bytes]]],
        unreachable: Iterable[tuple[str, PeerId]],
        now: float,
        wall: float,
        drained: bool = True,
    ) -> list[Send]:
        """One turn for whoever has other sockets and clocks, see `decide`. Returns what to send, all of it durable."""
        self.decide(received, unreachable, now, wall, drained)
        self.commit()
        messages = self.answer_questions()
        self.upkeep()
        return messages

    def _spent(self, step: str) -> float:
        """The time since the last step is this one's; how much that is."""
        now = time.perf_counter()
        lap_s = now - self._lap_began
        self.spent_s[step] += lap_s
        self._lap_began = now
        return lap_s

    def metrics(self) -> dict[str, Any]:
        """METRICS: the answer."""
        return numbers(self, self.meter)

    def _in_a_line(self) -> str:
        waiting = sum(map(len, self.ledger.backlogs.values()))
        return f"{waiting} jobs wait, {len(self.ledger.leases)} run, {len(self.pool.managers)} job managers"

    def router_main(self) -> None:
        """Starts the router with logging and settings."""
        settings = load("router")
        setup(settings.least_level, settings.log_format)
        self.start(settings.frontend_addr, settings.backend_addr, settings.administrative_addr)

    @property
    def ended(self) -> bool:
        """Whether the loop is to stop: told to, and results on their way have had time to come in."""
        if not self.received_disconnect:
            return False
        waited = self.now - self.ending_since
        return self.end_at_once or (waited >= LAST_WORDS_S and (self.drained or waited >= self.drain_s))

    def next_deadline(self) -> float:
        """Monotonic time at which the loop has to turn even if nothing arrives."""
        deadline = min(super().next_deadline(), self.service.next)
        return min(deadline, self.now + LAST_WORDS_S / 2) if self.received_disconnect else deadline

    # ---- signals -------------------------------------------------------------------------------------

    def sighup_handler(self, signum: int, frame: FrameType | None) -> None:
        """Reloads the configuration and rebinds the ports, before the next turn."""
        self._reload_wanted = True

    def sigterm_handler(self, signum: int, frame: FrameType | None) -> None:
        """Ends in order: nothing new, results in flight are taken in, goodbye. A second signal ends at once."""
        if self.received_disconnect:
            self.end_at_once = True
        self.on_disconnect("", [])

    def _rebind(self) -> None:
        assert self.sockets is not None
        self._reload_wanted = False
        try:
            moved = self.sockets.rebind(self.reload())
        except SettingsError as error:
            log.error("reload: %s The Router goes on as before.", error)
        else:
            log.info("reloaded; moved: %s", ", ".join(moved) or "nothing")

    # ---- the rest of the published API -----------------------------------------------------------------

    @classmethod
    def prioritize_queue_list(cls, unprioritized_iterable: Iterable[Any]) -> tuple[Any, ...]:
        """`(priority, …)` elements in descending priority; equal ones keep their order.

        Raises:
            IndexError: An element has no 0-index.
        """
        return tuple(sorted(unprioritized_iterable, key=lambda element: element[0], reverse=True))

    def send_heartbeat(self, socket: str, recipient: PeerId) -> str:
        """Sends a heartbeat to an eMQP/1.0 peer.

        Returns:
            The id of the HEARTBEAT.
        """
        id = self.new_id()
        self.beats["sent"] += 1
        self.outbox.send(socket, recipient, v1.encode(b"HEARTBEAT", id, f"{self.wall:.2f}"))
        return id

    def reset_heartbeat_counters(self) -> None:
        """Sets the heartbeat counters back to 0."""
        self.beats.clear()


def policy_of(settings: Settings) -> Policy:
    """The part of the settings that decides."""
    return Policy(
        result_ttl_s=settings.result_ttl,
        results_max=settings.results_max,
        dead_ttl_s=settings.dead_ttl,
        dead_max=settings.dead_max,
        queue_jobs_max=settings.queue_jobs_max,
        crash_limit=settings.crash_limit,
        heartbeat_s=settings.heartbeat_interval,
        silence_s=settings.heartbeat_timeout,
        default_queues=((settings.default_queue_weight, settings.default_queue_name),),
    )


def addresses_of(settings: Settings) -> dict[str, str]:
    """Where each socket listens."""
    return {
        FRONTEND: settings.frontend_addr,
        BACKEND: settings.backend_addr,
        ADMINISTRATIVE: settings.administrative_addr,
    }


def run(settings: Settings) -> int:
    """Runs a Router in this process until it is told to end.

    Args:
        settings: Of the component `router`; on SIGHUP they are read again.

    Returns:
        The exit code.

    Raises:
        SettingsError: An address cannot be bound.
        StoreError: The store cannot be opened, or failed.
    """
    make_default_folder(settings.store)
    store = open_store(settings.store, settings.durability)
    try:
        router = Router(
            store,
            policy_of(settings),
            reload=lambda: addresses_of(settings.reload()),
            drain_s=settings.drain_s,
            http_addr=settings.http_addr,
        )
    except BaseException:
        store.close()
        raise
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    sys.setswitchinterval(limits.SWITCH_S)
    log.info("store %s, durability %s, epoch %d", public(settings.store), settings.durability, router.ledger.epoch)
    router.start(settings.frontend_addr, settings.backend_addr, settings.administrative_addr)
    return 0
