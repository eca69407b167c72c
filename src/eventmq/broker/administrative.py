"""The administrative socket: what operators ask, and how the Router is told to end.

Published names here: `get_status`, `on_disconnect`, `queues`, `workers`, `waiting_messages`, `job_latencies`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from eventmq import __version__, limits
from eventmq.broker import charts
from eventmq.broker.handlers import Handler, Handlers
from eventmq.broker.operators import Asked, Operators
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND
from eventmq.broker.pool import Manager, PeerId, text_of
from eventmq.broker.problems import problems
from eventmq.protocol import administration, v1, v2
from eventmq.protocol.answers import Problem

HANDLERS: Handlers = {
    (v1.VERSION, b"STATUS"): Handler("on_question_1_0", more=("status",)),
    (v1.VERSION, b"ROUTER_SHOW_WORKERS"): Handler("on_question_1_0", more=("show_workers",)),
    (v1.VERSION, b"ROUTER_SHOW_SCHEDULERS"): Handler("on_question_1_0", more=("show_schedulers",)),
    (v1.VERSION, b"HELLO"): Handler("on_hello"),
    (v1.VERSION, b"DISCONNECT"): Handler("on_admin_disconnect"),
    (v2.VERSION, b"DRAIN_MANAGER"): Handler("ask_drain_manager", v2.Question),
    (v2.VERSION, b"DISCONNECT"): Handler("ask_disconnect", v2.Question),
}
QUESTIONS = {
    b"STATUS": Asked("status"),
    b"METRICS": Asked("metrics"),
    b"WORKERS": Asked("show_workers"),
    b"SCHEDULERS": Asked("show_schedulers"),
    b"SCHEDULES": Asked("list_schedules", administration.Schedules, limits.TURN_ANSWERS),
    b"SCHEDULE": Asked("act_on_schedule", administration.Schedules),
    b"EVENTS": Asked("show_events", administration.Events),
    b"PROBLEMS": Asked("show_problems"),
    b"QUEUES": Asked("show_queues", administration.Queues),
    b"PAUSE": Asked("pause", administration.OneQueue),
    b"RESUME": Asked("resume", administration.OneQueue),
    b"DRAIN": Asked("drain", administration.OneQueue),
    b"LIMIT": Asked("limit", administration.Bound),
    b"JOBS": Asked("list_jobs", administration.Selection, limits.TURN_ANSWERS),
    b"COUNT": Asked("count_jobs", administration.Selection, limits.TURN_ANSWERS),
    b"JOB": Asked("show_job", administration.OneJob),
    b"WHY": Asked("why", administration.OneJob, limits.TURN_ANSWERS // 10),
    b"LOGS": Asked("show_logs", administration.Logs),
    b"RERUN": Asked("rerun", administration.Rerun),
    b"HISTORY": Asked("show_history", administration.Chart, limits.TURN_ANSWERS),
    b"TYPES": Asked("show_types", administration.Types, limits.TURN_ANSWERS),
    b"FAILURES": Asked("show_failures", administration.Since),
    b"REQUEUE": Asked("requeue", administration.Selection, limits.TURN_ANSWERS),
    b"PURGE": Asked("purge", administration.Selection, limits.TURN_ANSWERS),
    b"CANCEL": Asked("cancel_jobs", administration.Selection, limits.TURN_ANSWERS),
}
HANDLERS |= {
    (v2.VERSION, command): Handler("on_question", v2.Question, (asked,)) for command, asked in QUESTIONS.items()
}


class Administrative(Operators):
    """Handlers of the administrative socket, and the Router as an operator sees it."""

    # ---- the published views --------------------------------------------------------------------------

    @property
    def queues(self) -> dict[str, list[PeerId]]:
        """Job managers by queue, least recently used first, one entry for each free slot."""
        return self.pool.slots()

    @property
    def workers(self) -> Mapping[PeerId, Manager]:
        """Job managers by connection; each reads as a mapping with `queues`, `hb` and `available_slots`."""
        return self.pool.managers

    @property
    def waiting_messages(self) -> dict[str, list[v2.Job]]:
        """What could not be sent because nobody was free, by queue: the part of it that is in memory."""
        backlogs = self.ledger.backlogs.values()
        return {b.name: [job for rank in b.ranks for job in b.lanes[rank]] for b in backlogs if b.head}

    @property
    def job_latencies(self) -> dict[str, tuple[float, str]]:
        """By message id of each REQUEST forwarded to a job manager and not yet answered: (monotonic time, queue)."""
        return {id: (since, job.queue) for id, (job, _, since) in self.ledger.leases.items()}

    def get_status(self) -> str:
        """The Router's state as JSON: the keys of 0.3.13, and ours."""
        return json.dumps(self.status())

    def status(self) -> dict[str, Any]:
        """The Router's state. Latencies in milliseconds, as 0.3.13 has them; all other times in seconds."""
        ledger = self.ledger
        store = self.store.info()
        latencies = ledger.latencies.items()
        return {
            "inflight_messages_by_queue": dict(ledger.running()),
            "latency_messages_by_queue": {q: 1e3 * each.total / each.count for q, each in latencies},
            "max_latency_messages_by_queue": {q: 1e3 * each.max for q, each in latencies},
            "waiting_messages_by_queue": {q: len(backlog) for q, backlog in ledger.backlogs.items()},
            "processed_messages_by_queue": dict(ledger.processed),
            "processed_messages_by_worker": {
                manager.incarnation.name: manager.finished for manager in self.pool.managers.values()
            },
            "version": __version__,
            "wall": self.wall,
            "epoch": ledger.epoch,
            "uptime_s": self.now - self.started,
            "turns": self.turns,
            "spent_s": dict(self.spent_s),
            "draining": self.received_disconnect,
            "expected_managers": sorted(incarnation.name for incarnation in self.expected),
            "managers": len(self.pool.managers),
            "schedulers": len(self.schedulers),
            "jobs": {
                "waiting": sum(map(len, ledger.backlogs.values())),
                "running": len(ledger.leases),
                "delayed": len(ledger.timers),
                "kept": store["results"] + store["dead"],
            },
            "problems": len(problems(self)),
            "queues": {queue: msgspec.structs.asdict(rule) for queue, rule in sorted(ledger.rules.by_queue.items())},
            "schedules": self.schedules.summary(),
            "counts": dict(ledger.counts),
            "refusals": dict(self.refusals),
            "store": store,
        }

    def show_workers(self) -> dict[str, Any]:
        """All job managers, with the keys of 0.3.13 and ours."""
        running = Counter(manager for _, manager, _ in self.ledger.leases.values())
        return {
            "connected_workers": {
                text_of(id): {
                    "queues": manager["queues"],
                    "hb": manager.heard,
                    "available_slots": manager.credit,
                    "name": manager.incarnation.name,
                    "wire": f"{manager.wire}.0",
                    "running": running[manager],
                    "finished": manager.finished,
                    "silent_s": round(self.now - manager.heard, 3),
                    "skew_s": round(manager.skew_s, 3),
                    "draining": manager.draining,
                    "about": manager.about,
                }
                for id, manager in self.pool.managers.items()
            },
            "connected_queues": {
                queue: [text_of(manager.id) for crew in crews for manager in crew.idle]
                for queue, crews in self.pool.serving.items()
            },
        }

    def show_events(self, params: administration.Events) -> dict[str, Any]:
        """What has happened lately."""
        return self.events.read(params.after, min(params.limit, limits.LIST_JOBS_MAX), self.now)

    def show_problems(self) -> list[Problem]:
        """What an operator should look at."""
        return problems(self)

    def show_schedulers(self) -> dict[str, Any]:
        """All schedulers, with the keys of 0.3.13 and ours."""
        held = Counter(entry.holder for entry in self.schedules.entries.values())
        return {
            "connected_schedulers": {
                text_of(id): {"hb": each.hb, "name": each.name, "wire": f"{each.wire}.0", "schedules": held[id]}
                for id, each in self.schedulers.items()
            }
        }

    def show_logs(self, params: administration.Logs) -> dict[str, Any]:
        """What a job has logged."""
        return self.ledger.logs.read(params.id, params.after)

    def show_history(self, params: administration.Chart) -> dict[str, Any]:
        """What has happened to all jobs, or to some."""
        backlogs = self.ledger.backlogs
        some = backlogs if not params.queue else {params.queue} & backlogs.keys()
        waiting = None if params.name else sum(len(backlogs[queue]) for queue in some)
        return charts.chart(self.history, params, self.wall, waiting)

    def show_types(self, params: administration.Types) -> dict[str, Any]:
        """What has become of the jobs of each type."""
        return charts.types(self.history, params, self.wall)

    def show_failures(self, params: administration.Since) -> list[dict[str, Any]]:
        """Why attempts failed, last seen first."""
        since = max(params.since or 0.0, self.wall - limits.HISTORY_S)
        return [msgspec.structs.asdict(group) for group in self.history.failures.since(since)]

    # ---- eMQP/1.0 ------------------------------------------------------------------------------------

    def on_question_1_0(self, sender: PeerId, msgid: str, msg: list[bytes], method: str) -> None:
        """STATUS, ROUTER_SHOW_WORKERS and ROUTER_SHOW_SCHEDULERS: the answer as JSON."""
        answer = json.dumps(getattr(self, method)())
        self.outbox.send(ADMINISTRATIVE, sender, v1.encode(b"REPLY", self.new_id(), answer, msgid))

    def on_hello(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """HELLO has no answer."""

    def on_admin_disconnect(self, sender: PeerId, msgid: str, msg: list[bytes]) -> None:
        """DISCONNECT: an ACK, then the Router ends."""
        self.outbox.send(ADMINISTRATIVE, sender, v1.encode(b"ACK", self.new_id(), msgid))
        self.on_disconnect(msgid, msg)

    # ---- eMQP/2.0 ------------------------------------------------------------------------------------

    def ask_drain_manager(self, sender: PeerId, body: v2.Question) -> None:
        """DRAIN_MANAGER {manager: name}: those of this name finish what they run and leave; repeating it is harmless.
        The answer tells how many jobs each runs, by connection: none if there is no such manager."""
        named = [m for m in self.pool.managers.values() if m.incarnation.name == body.params.get("manager")]
        for manager in named:
            self.drain_manager(manager)
        self.answer(sender, body, lambda: {text_of(m.id): len(self.ledger.held_by(m)) for m in named})

    def ask_disconnect(self, sender: PeerId, body: v2.Question) -> None:
        """DISCONNECT: an answer, then the Router ends."""
        self.answer(sender, body, lambda: True)
        self.on_disconnect("", [])

    # ---- the end -------------------------------------------------------------------------------------

    def on_disconnect(self, msgid: str, msg: list[bytes]) -> None:
        """Prepares to end: nothing new is accepted or handed out from now on. Managers that speak eMQP/2.0 keep what
        they run and report it to the next Router; those that cannot are waited for (`drained`)."""
        if not self.received_disconnect:
            self.received_disconnect = True
            self.ending_since = self.now
            self.note("info", "drain", "told to end: accepting and handing out nothing more")

    @property
    def drained(self) -> bool:
        """Whether nothing runs any more at a manager that could not report it to a restarted Router."""
        return not any(manager.wire == 1 for _, manager, _ in self.ledger.leases.values())

    def say_goodbye(self) -> None:
        """KBYE to everybody: the last thing before the sockets close."""
        self.history.end(self.ledger)
        self.commit()
        peers = [(BACKEND, id, manager.wire) for id, manager in self.pool.managers.items()]
        peers += [(FRONTEND, id, scheduler.wire) for id, scheduler in self.schedulers.items()]
        for socket, id, wire in peers:
            frames = v2.encode(b"KBYE", v2.Empty()) if wire == 2 else v1.encode(b"KBYE", self.new_id())
            self.outbox.send(socket, id, frames)
