"""What operators do through the command line and the admin client, with a real Router, job managers and clients."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from system_jobs import complain, double, hold, nap, note

from eventmq.cli import job as job_verbs
from eventmq.cli.ending import FAILED, NOT_FOUND, OK, end
from eventmq.cli.main import eventmq as command
from eventmq.cli.top import between
from eventmq.client.admin import Admin
from eventmq.errors import EventMQError, JobCancelled, JobRefused, NotFound, QueueFull
from eventmq.protocol.administration import Selection

from .processes import System, until


@pytest.fixture
def admin(system: System) -> Iterator[Admin]:
    system.start_router()
    with Admin(system.administrative) as admin:
        yield admin


def run(system: System, capsys: pytest.CaptureFixture[str], *words: str, code: int = OK) -> str:
    """What a verb prints on stdout."""
    capsys.readouterr()
    assert end("eventmq", command, [*words, "-a", system.administrative]) == code
    return capsys.readouterr().out


def test_dead_jobs_are_listed_shown_requeued_and_purged(
    system: System, admin: Admin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system.start_manager()
    handles = complain.map([(n,) for n in range(1, 701)])
    until(lambda: system.count("dead") == 700, "all are dead")
    job = handles[6]

    listed = run(system, capsys, "job", "list", "--state", "dead", "--limit", "600").splitlines()
    assert listed[0].split("\t") == ["id", "state", "queue", "name", "attempt", "since", "error"]
    assert len(listed) == 601
    assert listed[1].split("\t")[:4] == [handles[-1], "dead", "default", "system_jobs.complain"]
    found = json.loads(run(system, capsys, "job", "list", "--error", "x" * 7, "--queue", "default", "--json"))
    assert [each["id"] for each in found[:2]] == [handles[-1], handles[-2]]
    assert len(found) == 50
    assert json.loads(run(system, capsys, "job", "list", "--name", "no.such", "--json")) == []

    told = json.loads(run(system, capsys, "job", "show", job, "--json"))
    assert told["arguments"] == {"args": [7], "kwargs": {}}
    assert "raise ValueError" in told["failure"]["traceback"]
    shown = run(system, capsys, "job", "show", job)
    assert 'arguments\t{"args": [7], "kwargs": {}}' in shown
    assert "failure message\txxxxxxx\n" in shown
    assert "raise ValueError" in shown
    assert run(system, capsys, "job", "show", "nobody", code=NOT_FOUND) == ""

    assert run(system, capsys, "job", "requeue", job) == "requeued 1 job\n"
    until(lambda: system.count("dead") == 701, "it is dead again")
    assert job.info()["attempt"] == 2

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    asked: list[str] = []
    monkeypatch.setattr(job_verbs.click, "confirm", lambda text, err: asked.append(text) or len(asked) > 1)
    assert run(system, capsys, "job", "purge", "--queue", "default", code=FAILED) == "Nothing was changed.\n"
    assert run(system, capsys, "job", "requeue", "--error", "xxx", "--json") == '{\n  "requeued": 698\n}\n'
    assert asked == [
        "Forget 700 jobs: state:dead queue:default?",
        "Requeue 698 jobs: state:dead error:xxx?",
    ]
    until(lambda: system.count("dead") == 701 + 698, "they are dead again")
    monkeypatch.undo()

    assert run(system, capsys, "job", "purge", *handles[:2]) == "purged 2 jobs\n"
    some = (handles[0], handles[2], "nobody")
    assert run(system, capsys, "job", "purge", *some, code=FAILED).startswith("purged 1 job; not 2, unknown")
    assert run(system, capsys, "job", "requeue", "nobody", code=FAILED).startswith("requeued 0 jobs; not 1, unknown")
    assert "is an id; name:no.job selects" in run(system, capsys, "job", "requeue", "no.job", code=FAILED)
    assert run(system, capsys, "job", "purge", "--yes") == "purged 697 jobs\n"
    assert list(admin.jobs(Selection())) == []
    with pytest.raises(NotFound):
        admin.job(job)


def test_a_queue_is_paused_over_a_restart_drained_bound_and_purged(
    system: System, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = system.start_manager(workers=1)
    journal, gate = system.journal(), system.folder / "gate"
    running = hold.delay(str(journal), str(gate))
    journal.begun(running)
    assert run(system, capsys, "queue", "pause", "default").startswith(
        "default is paused: 0 jobs waiting, 0 delayed, 1"
    )
    waiting = note.delay(str(journal))
    later = note.options(countdown=600).delay(str(journal))
    system.processes[0].terminate()
    system.start_router()
    gate.touch()
    assert running.result(20) == 1, "what runs goes on"
    until(lambda: system.slots("manager") >= 1, "the manager is back and free")
    assert waiting.status == "waiting"
    assert "\tpaused" in run(system, capsys, "queue", "list")
    assert "queue default\tpaused" in run(system, capsys, "status")
    run(system, capsys, "queue", "drain", "default")
    with pytest.raises(JobRefused, match="queue_draining"):
        note.delay(str(journal))
    assert " is open: " in run(system, capsys, "queue", "resume", "default")
    assert waiting.result(20) == 1
    assert json.loads(run(system, capsys, "queue", "limit", "default", "1", "--json"))["jobs_max"] == 1
    with pytest.raises(QueueFull, match="1 jobs wait in queue 'default'"):
        note.delay(str(journal))
    assert "bound to 1 waiting" in run(system, capsys, "queue", "list")
    assert run(system, capsys, "queue", "purge", "default", "--yes") == "cancelled 1 job\n"
    with pytest.raises(JobCancelled):
        later.result(5)
    assert " is open: " in run(system, capsys, "queue", "limit", "default", "default")
    assert manager.running


def test_jobs_are_called_off_by_id(system: System, admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    handle = double.delay(1)
    assert run(system, capsys, "job", "cancel", handle).splitlines()[1] == f"{handle}\tcancelled"
    assert "nobody\tunknown" in run(system, capsys, "job", "cancel", "nobody", handle, code=NOT_FOUND)


def test_the_client_goes_through_more_ids_than_one_question_has(system: System, admin: Admin) -> None:
    handles = double.map([(n,) for n in range(1200)])
    assert set(admin.cancel_named([*handles]).values()) == {"cancelled"}
    assert admin.cancel_named([handles[0], "nobody"]) == {handles[0]: "cancelled", "nobody": "unknown"}
    assert len(list(admin.jobs(Selection(ids=[*handles])))) == 1200
    steps: list[int] = []
    assert admin.purge(Selection(ids=[*handles[:1000]]), steps.append) == 1000
    assert len(steps) > 6
    jobs, newest = admin.count(Selection(states=["cancelled"], arguments={"0": "1100"}), steps.append)
    assert (jobs, steps[-1]) == (1, 1)
    later = double.delay(1)
    assert admin.cancel(Selection(states=["waiting"])) == 1
    assert admin.purge(Selection(states=["cancelled"], before=newest), jobs_max=150) == 150
    assert admin.purge(Selection(states=["cancelled"], before=newest)) == 50
    assert [job["id"] for job in admin.jobs(Selection())] == [later]
    with pytest.raises(EventMQError, match="no job is ever 'ded'"):
        admin.page(Selection(states=["ded"]))


def test_ten_clients_wait_for_room_and_all_get_it(system: System, admin: Admin) -> None:
    """Ten threads hand in five jobs each, of which three may wait; two workers make room."""
    admin.limit("default", 3)
    system.start_manager(workers=2)
    journal = system.journal()
    longest: list[int] = []
    errors: list[Exception] = []

    def hand_in() -> None:
        try:
            for _ in range(5):
                nap.options(block_for="60s").delay(str(journal), 0.01)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=hand_in) for _ in range(10)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        longest.append(admin.queues()["default"]["waiting"])
        time.sleep(0.01)
    assert errors == []
    until(lambda: system.count("succeeded") == 50, "all have run")
    assert max(longest) <= 3
    assert set(journal.counts().values()) == {1}


def test_a_client_that_waits_for_room_gives_up_in_time(system: System, admin: Admin) -> None:
    admin.limit("default", 0)
    began = time.monotonic()
    with pytest.raises(QueueFull):
        note.options(block_for=0.4).map([("x",)] * 3)
    assert 0.4 <= time.monotonic() - began < 5
    admin.limit("default", None)
    assert len(note.options(block_for=0.4).map([("x",)] * 3)) == 3


def test_where_the_time_of_the_loop_goes_is_told(
    system: System, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every moment belongs to a step, and waiting is none of the work."""
    system.start_manager()
    double.map([(n,) for n in range(100)]).results()
    before = admin.ask("STATUS")
    began = threading.Event()

    def work() -> None:
        began.set()
        double.map([(n,) for n in range(2000)]).results()

    worker = threading.Thread(target=work)
    worker.start()
    began.wait()
    told = json.loads(run(system, capsys, "profile", "--seconds", "0.2", "--json"))
    worker.join()
    assert set(told["steps"]) == {"wait", "receive", "decide", "commit", "answer", "send", "upkeep"}
    assert sum(step["share"] for step in told["steps"].values()) == pytest.approx(1)
    assert all(step["us_per_turn"] > 0 for step in told["steps"].values())
    whole = between(before, admin.ask("STATUS"))
    assert (whole["accepted"], whole["handed_out"], whole["ended"]) == (2000, 2000, 2000)
    assert sum(step["us_per_job"] for step in whole["steps"].values()) * 2000 == pytest.approx(
        1e6 * whole["seconds"], rel=0.2
    )
    table = run(system, capsys, "profile", "--seconds", "0.01").splitlines()
    assert [line.split("\t")[0] for line in table[:-1]] == ["step", *told["steps"]]
    assert " busy in 0.0 s: " in table[-1]
