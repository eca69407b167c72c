"""A Router for tests of the dashboard: it answers at once, remembers what it was told, and shows their texts."""

from __future__ import annotations

from typing import Any

from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.protocol.administration import STATES

WALL = 1_790_000_000.0
COUNTS = ("enqueued", "succeeded", "failed", "dead", "cancelled", "expired", "lost")
MEASURED = tuple(f"{what}_{part}_s" for what in ("wait", "run") for part in ("p50", "p95", "p99"))
CHANGING = {"PAUSE", "RESUME", "DRAIN", "LIMIT", "REQUEUE", "PURGE", "CANCEL", "RERUN", "SCHEDULE", "DRAIN_MANAGER"}


class FakeAdmin(Admin):
    """An `Admin` with answers of its own.

    Attributes:
        text: What stands in every text that a peer could have written.
        told: The questions that change something, and their params.
        asked: The others.
        gone: Nobody is there.
        jobs_total: How many jobs there are.
        arguments: Of every job.
    """

    def __init__(self, text: str = "mail") -> None:
        self.text = text
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.gone = False
        self.jobs_total = 3
        self.arguments = {"args": [1, text], "kwargs": {"user_id": 42, "db_password": "hunter2", text: text}}

    def close(self) -> None:
        pass

    def ask(self, command: str, **params: Any) -> Any:
        if self.gone:
            raise BrokerUnavailable("no Router answers")
        if command in CHANGING:
            self.told.append((command, params))
        else:
            self.asked.append(command)
        return getattr(self, f"on_{command.lower()}")(**params)

    # ---- jobs ------------------------------------------------------------------------------------------

    def row(self, id: str, state: str) -> dict[str, Any]:
        ended = state in STATES[3:]
        return {
            "id": id,
            "state": state,
            "queue": self.text,
            "name": self.text,
            "priority": 0,
            "attempt": 1,
            "failures": 1,
            "crashes": 0,
            "due": WALL + 60 if state == "delayed" else None,
            "created": WALL - 100,
            "started": WALL - 50 if state == "running" else None,
            "finished": WALL - 10 if ended else None,
            "run_s": 1.5 if ended else None,
            "worker": self.text,
        }

    def on_jobs(self, states: Any = STATES, limit: int = 500, before: int = 0, **params: Any) -> dict[str, Any]:
        self.selected = {"states": states, "before": before, **params}
        few = range(min(limit, self.jobs_total))
        error = {"error": f"builtins.ValueError: {self.text}", "payload_bytes": 12}
        rows = [self.row(f"{number:032x}", states[number % len(states)]) | error for number in few]
        return {"jobs": rows, "next": 77 if self.jobs_total > limit else None}

    def on_count(self, **params: Any) -> dict[str, Any]:
        return {"jobs": self.jobs_total, "newest": 99, "next": None}

    def on_job(self, id: str) -> dict[str, Any] | None:
        if id == "none":
            return None
        failure = {"type": self.text, "message": self.text, "traceback": f'File "{self.text}"'}
        return self.row(id, id if id in STATES else "dead") | {
            "unique": self.text,
            "progress": self.text,
            "failure": failure,
            "options": {"retry_on": [self.text]},
            "arguments": self.arguments,
            "value": {"access_token": "hunter2", "text": self.text},
            "kept_until": WALL + 1000,
            "attempts": [{"attempt": 1, "started": None, "ended": WALL - 30, "worker": self.text, "error": self.text}],
        }

    def on_logs(self, id: str, after: int) -> dict[str, Any]:
        line = {"n": 1, "at": WALL - 20, "level": self.text, "attempt": 1, "text": self.text}
        return {"lines": [line], "next": 2, "missed": 0}

    def on_why(self, id: str) -> dict[str, Any] | None:
        return {"id": id, "state": "waiting", "reason": "paused", "text": self.text, "details": {}}

    def on_requeue(self, **params: Any) -> dict[str, Any]:
        return {"requeued": self.jobs_total, "next": None}

    def on_cancel(self, **params: Any) -> dict[str, Any]:
        return {"cancelled": self.jobs_total, "told": {}, "next": None}

    def on_purge(self, **params: Any) -> dict[str, Any]:
        return {"purged": self.jobs_total, "next": None}

    def on_rerun(self, id: str, job: str, arguments: Any) -> dict[str, Any] | None:
        return {"id": job}

    # ---- queues, workers, schedules ----------------------------------------------------------------------

    def on_queues(self, after: str = "", queue: str = "") -> dict[str, Any]:
        if queue not in ("", self.text):
            return {}
        row = {"waiting": 312, "delayed": 4, "running": 2, "processed": 9, "managers": 0, "free_slots": 1}
        return {self.text: row | {"oldest_s": 75.0, "paused": True, "draining": True, "jobs_max": 1000}}

    def on_pause(self, queue: str, **params: Any) -> dict[str, Any]:
        return {}

    on_resume = on_drain = on_limit = on_pause

    def on_workers(self) -> dict[str, Any]:
        worker = {
            "name": self.text,
            "queues": [[10, self.text]],
            "available_slots": 1,
            "wire": "2.0",
            "running": 1,
            "finished": 1234,
            "silent_s": 0.2,
            "skew_s": 30.0,
            "draining": False,
            "about": {"host": self.text, "pid": 4711, "version": self.text},
        }
        return {"connected_workers": {"peer": worker}}

    def on_drain_manager(self, manager: str) -> dict[str, int]:
        return {"peer": 2} if manager == self.text else {}

    def on_schedulers(self) -> dict[str, Any]:
        return {"connected_schedulers": {"peer": {"hb": 1.0, "name": self.text, "wire": "2.0", "schedules": 1}}}

    def on_schedules(self, after: str, id: str) -> dict[str, Any]:
        row = {
            "id": self.text,
            "name": self.text,
            "queue": self.text,
            "rule": {"cron": "0 9 * * 1-5", "tz": "Europe/Prague"},
            "owner": self.text,
            "paused": False,
            "overdue": True,
            "missed": 2,
            "assigned": True,
            "next": WALL + 50,
            "anchor": WALL - 1e6,
            "last": WALL - 1000,
            "runs": 4,
            "runs_left": None,
            "last_run": {"id": "1f", "at": WALL - 1000, "state": "dead"},
        }
        return {"schedules": [row], "next": None}

    def on_schedule(self, id: str, act: str, job: str) -> dict[str, Any] | None:
        return None if id == "none" else {}

    # ---- the whole -----------------------------------------------------------------------------------------

    def on_status(self) -> dict[str, Any]:
        return {
            "uptime_s": 93.0,
            "draining": False,
            "expected_managers": [self.text],
            "managers": 1,
            "schedulers": 1,
            "jobs": {"waiting": 312, "running": 2, "delayed": 4, "kept": 9},
            "queues": {self.text: {"paused": True}},
            "schedules": {"total": 1, "overdue": 1, "overdue_first": [self.text]},
            "counts": {"accepted": len(self.told)},
            "refusals": {"malformed": 1},
            "version": self.text,
            "wall": WALL,
            "store": {
                "dead": 7,
                "results": 2,
                "bytes": 4096,
                "url": self.text,
                "schema": 3,
                "durability": "full",
                "room": True,
                "free_bytes": 1 << 40,
            },
            "problems": 1,
        }

    def on_problems(self) -> list[dict[str, Any]]:
        return [{"key": "no_worker", "level": "critical", "text": self.text, "about": {"queue": self.text}}]

    def on_history(self, since: float, step_s: int, **params: Any) -> dict[str, Any]:
        counts = {name: [number % 7 for number in range(15)] for name in COUNTS}
        past = counts | {name: [None] * 15 for name in (*MEASURED, "waiting")}
        return {"step_s": step_s, "since": int(since), "until": since + 15 * step_s, **past, "next": None}

    def on_types(self, **params: Any) -> dict[str, Any]:
        row = {"name": self.text, "queues": [self.text], "runs": 10}
        return {"types": [row | dict.fromkeys(COUNTS, 1) | dict.fromkeys(MEASURED, 0.012)], "next": None}

    def on_failures(self, since: float | None) -> list[dict[str, Any]]:
        row = dict.fromkeys(("exception", "place", "name", "message"), self.text)
        return [row | {"count": 3, "first": WALL - 900, "last": WALL - 5, "sample": "1f"}]
