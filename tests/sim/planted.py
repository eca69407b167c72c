"""Real mistakes, planted one at a time: a simulator that does not see one of them is not done.

Each is a patch of a few lines of the package, put in place for one run and taken away again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from msgspec.structs import replace

from eventmq.broker.backend import Backend
from eventmq.broker.backlog import Backlog
from eventmq.broker.core import Core
from eventmq.broker.intake import Intake
from eventmq.broker.leases import Leases
from eventmq.broker.ledger import Ledger
from eventmq.broker.outbox import Outbox
from eventmq.broker.pool import Manager
from eventmq.broker.stops import Stops
from eventmq.client.exchange import Exchange
from eventmq.protocol.v2 import Outcome
from eventmq.workers.pool import Pool
from eventmq.workers.session import NOTHING, News, SessionV2

Method = Callable[..., Any]
Wrong = Callable[[Any], Any]


class Plant(NamedTuple):
    """A mistake: in which method of which class or module, what stands there instead, made from what was right, and in
    which worlds it shows soon: their kind of trouble ("" = any), and options that are not left to the seed."""

    owner: type | ModuleType
    method: str
    wrong: Wrong
    profile: str
    options: dict[str, Any]


PLANTED: dict[str, Plant] = {}


def plant(owner: type | ModuleType, method: str, profile: str = "", **options: Any) -> Callable[[Wrong], Wrong]:
    """Adds a mistake; the decorated function is given the right method and returns the wrong one."""

    def add(wrong: Wrong) -> Wrong:
        PLANTED[wrong.__name__] = Plant(owner, method, wrong, profile, options)
        return wrong

    return add


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With this mistake in the package; "" = none."""
    if not name:
        yield
        return
    owner, method, wrong, *_ = PLANTED[name]
    right = owner.__dict__[method]
    setattr(owner, method, wrong(right))
    try:
        yield
    finally:
        setattr(owner, method, right)


def nothing(*args: Any, **kwargs: Any) -> None:
    """Instead of doing something."""


# ---- the Router and its store ------------------------------------------------------------------------


@plant(Core, "commit")
def ack_before_commit(right: Method) -> Method:
    """What a turn decided becomes durable one turn later."""

    def commit(self: Any) -> None:
        late = self.__dict__.get("_late")
        now, self._late = self.ledger.changes, None
        if late:
            self.ledger.changes = late
            self.store.apply(late)
        if now:
            self._late = now
        for peer, result in self.waiters.ended(self.ledger.ended):
            self.outbox.tell(peer, result)
        self.ledger.applied()

    return commit


@plant(Core, "commit")
def outcomes_not_stored(right: Method) -> Method:
    """The end of a job stays in memory."""

    def commit(self: Any) -> None:
        self.ledger.changes.ended.clear()
        right(self)

    return commit


@plant(Core, "holding")
def no_hold(right: property) -> property:
    """After a restart jobs are handed out before their managers are back."""
    return property(lambda self: self.received_disconnect)


@plant(Backend, "_join")
def managers_not_remembered(right: Method) -> Method:
    """A restarted Router does not know for whom to wait."""

    def join(self: Any, *args: Any) -> Manager:
        manager: Manager = right(self, *args)
        self.ledger.changes.facts.clear()
        return manager

    return join


@plant(Ledger, "__init__")
def leases_again(right: Method) -> Method:
    """A restarted Router gives out the same numbers again."""

    def init(self: Any, *args: Any) -> None:
        right(self, *args)
        self.next_lease = 1 << 32

    return init


@plant(Core, "forgive", "router")
def no_forgiveness(right: Method) -> Method:
    """Time in which the Router stood still counts against its peers."""
    return nothing


@plant(Intake, "accept")
def dedupe_dropped(right: Method) -> Method:
    """A job that has ended or is only in the store is not recognised when it is sent again."""

    class Forgetful:
        def __init__(self, store: Any) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def find(self, ids: list[str]) -> list[Any]:
            return []

    def accept(self: Any, *args: Any) -> Any:
        store, self.store = self.store, Forgetful(self.store)
        try:
            return right(self, *args)
        finally:
            self.store = store

    return accept


# ---- hand-outs and outcomes ----------------------------------------------------------------------------


@plant(Ledger, "settle", "liars")
def no_lease_check(right: Method) -> Method:
    """Whoever names a running job decides it."""

    def settle(self: Any, outcomes: list[Any], manager: Manager, *times: float) -> None:
        for outcome in outcomes:
            job, holder, _ = self.leases.get(outcome.id) or (None, manager, 0.0)
            current = replace(outcome, lease=job.lease) if job is not None else outcome
            right(self, [current], holder, *times)

    return settle


@plant(Leases, "adopt", "network")
def keep_what_is_stale(right: Method) -> Method:
    """A manager may keep a hand-out that another one took the place of."""

    def adopt(self: Any, *args: Any) -> str:
        verdict: str = right(self, *args)
        return "keep" if verdict == "kill" else verdict

    return adopt


@plant(Leases, "adopt", "workers", crash_share=0.1, fault_every_s=0.5)
def failure_counted_twice(right: Method) -> Method:
    """A manager that tells an outcome again after a restart may keep its hand-out, though the outcome is known."""

    def adopt(self: Any, id: str, *args: Any) -> str:
        job = self.live.get(id)
        if job is not None:
            job.settled = 0
        verdict: str = right(self, id, *args)
        return verdict

    return adopt


@plant(Manager, "credit")
def credit_forgotten(right: property) -> property:
    """Jobs that were sent do not use up credit."""
    return property(lambda self: self.limit)


@plant(Intake, "put_back")
def give_back_forgets(right: Method) -> Method:
    """A job that comes back is not put into its queue."""
    return nothing


@plant(Ledger, "cut_short")
def attempt_not_counted(right: Method) -> Method:
    """A job that may have run is handed out again as the same attempt."""
    return lambda self, jobs, *args: self.give_back(jobs)


@plant(Ledger, "give_back")
def attempt_always_counted(right: Method) -> Method:
    """A job that was never begun uses up an attempt."""

    def give_back(self: Any, jobs: Any) -> None:
        jobs = list(jobs)
        for job in jobs:
            job.attempt += 1
        right(self, jobs)

    return give_back


@plant(Leases, "_mark")
def start_not_marked(right: Method) -> Method:
    """That a job which may begin only once was handed out is not stored."""
    return nothing


@plant(Ledger, "cut_short", "network", stop_share=0.5, slow_share=0.8, faults=("cut",), fault_s=40.0)
def stop_not_awaited(right: Method) -> Method:
    """A job that is held back for its manager to stop it is not."""
    return lambda self, jobs, cause, wall, *left: right(self, jobs, cause, wall)


@plant(Ledger, "cancel")
def cancel_forgotten(right: Method) -> Method:
    """A waiting job is said to be cancelled and is not."""
    return lambda self, id, wall: right(self, id, wall) if id not in self.live else "cancelled"


@plant(Outbox, "kill")
def cancelled_and_running(right: Method) -> Method:
    """Nobody tells the manager that a job was cancelled."""
    return nothing


@plant(Stops, "ask")
def stop_claimed(right: Method) -> Method:
    """A client is told that a run was killed when the order to do so is sent."""

    def ask(self: Any, peer: Any, n: int, answer: dict[str, str]) -> bool:
        return bool(right(self, peer, n, {id: word or "killed" for id, word in answer.items()}))

    return ask


# ---- queues and timers -----------------------------------------------------------------------------------


@plant(Backlog, "before_edge")
def page_off_by_one(right: property) -> property:
    """The first job of each page is left out."""
    return property(lambda self: self.edge)


@plant(Backlog, "push_back")
def back_of_the_line(right: Method) -> Method:
    """A job that comes back goes behind all others."""
    return Backlog.push


@plant(Intake, "delay")
def timer_lost(right: Method) -> Method:
    """A delayed job is stored, and nobody looks at the clock for it."""
    return nothing


# ---- managers and clients ----------------------------------------------------------------------------------


@plant(SessionV2, "_reply")
def outcome_dropped_early(right: Method) -> Method:
    """A manager forgets an outcome when it has sent it."""

    def reply(self: Any, n: int, *args: Any) -> None:
        right(self, n, *args)
        del self._unacked[n]

    return reply


@plant(SessionV2, "_tick_open")
def outcomes_not_sent_again(right: Method) -> Method:
    """A manager that gets no ACK waits for it for ever."""

    def tick_open(self: Any, now: float, wall: float) -> None:
        unacked, self._unacked = self._unacked, {}
        right(self, now, wall)
        self._unacked = unacked

    return tick_open


@plant(SessionV2, "_on_request", "lossy")
def gap_not_seen(right: Method) -> Method:
    """A manager does not mind that a REQUEST before this one is missing."""

    def on_request(self: Any, body: Any, now: float) -> News:
        if not self._open or body.n <= self._received:
            return NOTHING
        self._received = body.n
        return News(jobs=body.jobs)

    return on_request


@plant(SessionV2, "_heard_at", "network", stop_share=0.5, slow_share=0.8, faults=("cut",), fault_s=40.0)
def lease_without_end(right: Method) -> Method:
    """A manager that is cut off goes on with what it is to stop."""
    return lambda self, at: right(self, at + 1e6)


@plant(Pool, "_on_cut", "managers", once_share=0.5, slow_share=0.8, slow_s=20.0)
def begun_and_returned(right: Method) -> Method:
    """A manager that leaves gives back what it has begun as if it had not."""

    def on_cut(self: Any, *args: Any) -> None:
        right(self, *args)
        interrupted = [replace(o, state="returned") if o.state == "interrupted" else o for o in self.outcomes]
        self.outcomes[:] = interrupted

    return on_cut


@plant(Pool, "recall", "calm", managers=(2, 2), queues=("q0",), slow_share=0.8, slow_s=20.0)
def recalled_and_run(right: Method) -> Method:
    """A manager gives back what its workers have begun, too."""

    def recall(self: Any) -> None:
        jobs = [job for worker in self.workers.values() for job in worker.jobs.values()]
        self.outcomes += [Outcome(job.id, job.lease, "returned") for job in jobs]

    return recall


@plant(Pool, "stop")
def kill_ignored(right: Method) -> Method:
    """A manager goes on with what it is told to stop."""
    return nothing


@plant(Pool, "_replace")
def slot_lost(right: Method) -> Method:
    """A dead worker is not replaced."""
    return nothing


@plant(Pool, "_requeue", "workers")
def lost_with_the_worker(right: Method) -> Method:
    """What waited behind the job that killed its worker is forgotten."""
    return nothing


@plant(Exchange, "_send_waits")
def wait_not_repeated(right: Method) -> Method:
    """A client asks for an outcome once."""

    def send_waits(self: Any, now: float, out: list[Any]) -> None:
        for id in self._asked:
            self._asked[id] = now
        right(self, now, out)

    return send_waits
