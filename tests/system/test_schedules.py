"""Schedules with real processes: schedulers that die, sleep and come back, deploys, and what operators do."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from system_jobs import note

from eventmq import schedule, unschedule
from eventmq.cli.ending import NOT_FOUND, OK, USAGE, end
from eventmq.cli.main import eventmq as command
from eventmq.client.admin import Admin

from .processes import RUN, Journal, System, until

INTERVAL_S = 0.25


def dues(journal: Journal) -> list[float]:
    """The due times that ran, in order; each once."""
    ids = journal.counts()
    assert {id: count for id, count in ids.items() if count > 1} == {}, "some ran twice"
    return sorted(int(id[:12], 16) / 1000 for id in ids)


def without_a_gap(journals: list[Journal], until_s: float) -> None:
    """From its first run to this wall time each schedule ran at each of its times, once."""
    for journal in journals:
        until(lambda journal=journal: dues(journal)[-1:] and dues(journal)[-1] >= until_s, "the last runs are in")
        found = dues(journal)
        steps = Counter(round((b - a) / INTERVAL_S) for a, b in pairwise(found))
        assert set(steps) == {1}, f"{steps}: some times are missing"


def scheduled(system: System, count: int = 4) -> list[Journal]:
    journals = [system.journal() for _ in range(count)]
    for journal in journals:
        schedule(note, interval_secs=INTERVAL_S, args=(str(journal),))
    until(lambda: all(dues(journal) for journal in journals), "each has run")
    return journals


def test_kill_of_the_active_one_of_two_schedulers_loses_and_doubles_nothing(system: System) -> None:
    system.start_router()
    system.start_manager()
    active = system.start_scheduler("first")
    journals = scheduled(system)
    system.start_scheduler("second")
    assert system.schedulers() == {"first": 4, "second": 0}
    active.kill()
    until(lambda: system.schedulers() == {"second": 4}, "the other one has taken over")
    without_a_gap(journals, time.time() + 1)


def test_one_that_stops_and_wakes_up_and_one_that_is_told_to_leave(system: System) -> None:
    system.start_router(EVENTMQ_HEARTBEAT_TIMEOUT="1.5")
    system.start_manager()
    first = system.start_scheduler("first")
    journals = scheduled(system)
    second = system.start_scheduler("second")
    first.signal(signal.SIGSTOP)
    until(lambda: system.schedulers() == {"second": 4}, "the other one has taken over")
    first.signal(signal.SIGCONT)
    until(lambda: system.schedulers() == {"first": 0, "second": 4}, "it is back, with nothing to do")
    assert second.terminate() == 0
    until(lambda: system.schedulers() == {"first": 4}, "and takes over what the other one leaves")
    without_a_gap(journals, time.time() + 0.5)
    assert system.count("stale_ticks") == 0, "it had nothing to say when it woke up: its session was over"


def test_a_router_that_is_killed_knows_how_far_each_schedule_was(system: System) -> None:
    router = system.start_router()
    system.start_manager()
    system.start_scheduler()
    journals = scheduled(system)
    for _ in range(2):
        router.kill()
        router = system.start_router()
    until(lambda: system.schedulers() == {"scheduler": 4}, "the scheduler is back")
    without_a_gap(journals, time.time() + 0.5)


# ---- deploys -----------------------------------------------------------------------------------------------


def deploy(system: System, folder: Path, name: str, code: str) -> None:
    """A manager with this version of the module `shop`."""
    place = folder / name
    place.mkdir()
    (place / "shop.py").write_text(f"from eventmq import Cron, Every, job\n{code}")
    settings = {
        "EVENTMQ_NAME": name,
        "EVENTMQ_CONCURRENT_JOBS": "1",
        "EVENTMQ_QUEUES": "shop",
        "PYTHONPATH": str(place),
    }
    ask = system.environ(settings)
    system.start(name, [sys.executable, "-c", RUN.format("main"), "jobmanager", "shop"], ask)
    until(lambda: system.slots(name) >= 1, f"{name} is ready")


def test_what_stands_beside_jobs_is_added_changed_and_removed_by_deploys(system: System, tmp_path: Path) -> None:
    router = system.start_router()

    def shown() -> dict[str, float]:
        return {each["id"]: each["rule"]["interval_s"] for each in admin.schedules()}

    with Admin(system.administrative) as admin:
        schedule("shop.by_hand", interval_secs=3600, name="made at run time")
        deploy(
            system, tmp_path, "old", "@job(schedule=Every(60))\ndef a(): ...\n@job(schedule=Every(60))\ndef b(): ...\n"
        )
        assert shown() == {"made at run time": 3600, "shop.a": 60, "shop.b": 60}
        deploy(
            system, tmp_path, "new", "@job(schedule=Every(5))\ndef a(): ...\n@job(schedule=Every(1))\ndef c(): ...\n"
        )
        new = {"made at run time": 3600, "shop.a": 5, "shop.c": 1}
        assert shown() == new
        router.kill()
        system.start_router()
        until(lambda: min(system.slots("old"), system.slots("new")) >= 1, "old and new are back, in any order")
        assert shown() == new, "what the old one declares does not come back with it"
        assert {each["id"]: each["owner"] for each in admin.schedules()}["shop.c"] == "shop"


def test_a_declared_schedule_runs(system: System, tmp_path: Path) -> None:
    system.start_router()
    system.start_scheduler()
    mark = tmp_path / "mark"
    code = f"@job(schedule=Every(0.2), queue='shop')\nasync def tick():\n    open({str(mark)!r}, 'a').write('x')\n"
    deploy(system, tmp_path, "manager", code)
    until(lambda: mark.exists() and len(mark.read_text()) >= 3, "it has run three times")


# ---- operators ---------------------------------------------------------------------------------------------


def run(system: System, capsys: pytest.CaptureFixture[str], *words: str, code: int = OK, at: str = "-a") -> str:
    """What a verb prints on stdout."""
    capsys.readouterr()
    address = system.administrative if at == "-a" else system.frontend
    assert end("eventmq", command, [*words, at, address]) == code
    return capsys.readouterr().out


def test_operators(system: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    system.start_router()
    journal = system.journal()
    expression = ["--cron", "0 9 * * 1-5", "--tz", "Europe/Prague", "--name", "daily"]
    call = ["schedule", "add", "system_jobs.note", "--args", json.dumps([str(journal)])]
    assert run(system, capsys, *call, *expression, at="-B") == "daily\n"
    monkeypatch.setenv("EMQ_BROKER_ADDR", system.frontend)
    capsys.readouterr()
    assert end("eventmq", command, ["schedule", "add", "no.such", "--every", "1d"]) == OK

    listed = [line.split("\t") for line in run(system, capsys, "schedules").splitlines()]
    assert listed[0] == ["id", "when", "calls", "next", "last run", "outcome", "state"]
    daily = next(line for line in listed if line[0] == "daily")
    assert daily[1:3] == ["at 09:00 on Monday through Friday (Europe/Prague)", "system_jobs.note"]
    assert daily[3].endswith(":00:00.000Z")
    assert daily[4:] == ["never", "", "no scheduler"]
    told = json.loads(run(system, capsys, "schedule", "list", "--json"))
    assert len(told) == 2

    coming = run(system, capsys, "schedule", "next", "daily", "3").splitlines()
    assert len(coming) == 3
    assert all(" 09:00:00+0" in line for line in coming)
    assert json.loads(run(system, capsys, "schedule", "next", "daily", "3", "--json")) == coming

    system.start_manager()
    run(system, capsys, "schedule", "run-now", "daily")
    until(lambda: len(journal.runs()) == 1, "it ran")
    until(lambda: system.count("succeeded") == 1, "and has succeeded")
    (daily,) = [each for each in json.loads(run(system, capsys, "schedules", "--json")) if each["id"] == "daily"]
    assert daily["last_run"]["state"] == "succeeded"
    assert daily["words"] == "at 09:00 on Monday through Friday (Europe/Prague)"

    run(system, capsys, "schedule", "pause", "daily")
    assert "daily" in (paused := run(system, capsys, "schedules"))
    assert "\tpaused" in paused
    run(system, capsys, "schedule", "resume", "daily")
    run(system, capsys, "schedule", "remove", "daily")
    assert "daily" not in run(system, capsys, "schedules")
    for act in ("pause", "remove"):
        run(system, capsys, "schedule", act, "daily", code=NOT_FOUND)
    status = run(system, capsys, "status")
    assert "schedules total\t1" in status
    assert "schedules unassigned\t1" in status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cron", "0 0 31 4 *"], "never due"),
        (["--cron", "* * * * *", "--tz", "Mars"], "no time zone 'Mars'"),
        (["--cron", "* * * * *", "--every", "5m"], "got both interval_secs and cron"),
        ([], "got none of them"),
        (["--every", "5m", "--args", "{}"], "--args is '{}', expected a JSON list"),
    ],
)
def test_mistakes_are_of_usage_and_told_without_a_router(
    system: System, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert end("eventmq", command, ["schedule", "add", "a.b", *words, "-B", system.frontend]) == USAGE
    assert said in capsys.readouterr().err


def test_unscheduled(system: System) -> None:
    system.start_router()
    system.start_manager()
    system.start_scheduler()
    (journal,) = scheduled(system, 1)
    assert unschedule(note, args=(str(journal),))
    assert system.ask("STATUS")["schedules"]["total"] == 0
    until(lambda: system.schedulers() == {"scheduler": 0}, "the scheduler has heard of it")
