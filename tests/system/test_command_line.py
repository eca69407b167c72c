"""The command line of an operator against one real system: what each verb prints, where, and its exit code."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.shell_completion import BashComplete
from system_jobs import complain, double, hold, recount

import eventmq
from eventmq.cli import follow, top
from eventmq.cli.ending import FAILED, INTERRUPTED, NOT_FOUND, OK, REFUSED, TIMED_OUT, UNREACHABLE, USAGE, end
from eventmq.cli.main import eventmq as command
from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable

from .processes import System, free_ports, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A Router, a job manager and a scheduler for all tests of this file."""
    system = System(tmp_path_factory.mktemp("system"))
    system.start_router()
    system.start_manager()
    system.start_scheduler()
    yield system
    system.close()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Line:
    """A terminal, or no terminal, at the system."""

    def __init__(self, system: System, capsys: pytest.CaptureFixture[str]) -> None:
        self.system = system
        self._capsys = capsys

    def run(self, *words: str) -> Ran:
        self._capsys.readouterr()
        code = end("eventmq", command, list(words))
        return Ran(code, *self._capsys.readouterr())

    def json(self, *words: str) -> object:
        ran = self.run(*words, "-o", "json")
        assert (ran.code, ran.err) == (OK, "")
        return json.loads(ran.out)


@pytest.fixture
def line(shared: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    for name, address in zip(("FRONTEND", "BACKEND", "ADMINISTRATIVE"), shared.addresses, strict=True):
        monkeypatch.setenv(f"EVENTMQ_{name}_ADDR", address)
    monkeypatch.setenv("EMQ_BROKER_ADDR", shared.frontend)
    eventmq.configure(broker_addr=shared.frontend, enqueue_timeout=20)
    yield Line(shared, capsys)
    eventmq.configure()


# ---- handing in, and what came of it ------------------------------------------------------------------------


def test_a_job_is_handed_in_and_its_value_shown(line: Line) -> None:
    ran = line.run("enqueue", "system_jobs.double", "21", "--wait")
    assert (ran.code, ran.out, ran.err) == (OK, "42\n", "")
    ran = line.run("enqueue", "system_jobs.double", "--arg", "number=4", "--id", "four", "-o", "json")
    assert json.loads(ran.out) == {"id": "four", "created": True}
    assert line.run("result", "four", "--wait").out == "8\n"
    assert line.json("result", "four") == {"id": "four", "value": 8}
    assert line.run("result", "four", "-o", "id").out == "four\n"


def test_options_of_a_job_are_flags(line: Line) -> None:
    later = line.run("enqueue", "system_jobs.double", "1", "--queue", "q", "--in", "1h", "--priority", "-5").out.strip()
    told = line.json("job", "show", later)
    assert isinstance(told, dict)
    assert (told["state"], told["queue"], told["priority"]) == ("delayed", "q", -5)
    due = datetime.fromisoformat(told["due"]).timestamp()
    assert 3500 < due - time.time() < 3700
    assert line.run("job", "cancel", later).code == OK
    at = line.run("enqueue", "system_jobs.double", "1", "--at", "2036-12-24T18:00+01:00").out.strip()
    told = line.json("job", "show", at)
    assert isinstance(told, dict)
    assert told["due"] == "2036-12-24T17:00:00.000Z"
    assert line.run("result", at).code == TIMED_OUT
    assert line.run("job", "cancel", at).code == OK
    assert line.run("result", at).code == FAILED


def test_how_a_job_failed_is_told_on_stderr(line: Line) -> None:
    failed = complain.delay(7)
    ran = line.run("result", failed, "--wait")
    assert (ran.code, ran.out) == (FAILED, "")
    assert "raise ValueError" in ran.err
    assert ran.err.splitlines()[-1] == "eventmq: builtins.ValueError: xxxxxxx"
    assert line.run("result", "nobody").code == NOT_FOUND


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("enqueue no-name", USAGE, "names no job"),
        ("enqueue a.b --arg x", USAGE, "--arg is 'x', expected name=JSON"),
        ("enqueue a.b --at noon", USAGE, "--at is 'noon', expected a time as 2026"),
        ("enqueue a.b --in soon", USAGE, "expected a duration"),
        ("enqueue system_jobs.double 2 --id taken", REFUSED, "belongs to another job"),
        ("result x --wait --within soon", USAGE, "soon"),
        ("job show nobody", NOT_FOUND, "there is no job nobody"),
        ("logs nobody", NOT_FOUND, "there is no job nobody"),
        ("queue show nobody", NOT_FOUND, "there is no queue 'nobody'"),
        ("manager show nobody", NOT_FOUND, "no job manager named 'nobody'"),
        ("manager drain nobody", NOT_FOUND, "no job manager named 'nobody'"),
        ("schedule next nobody", NOT_FOUND, "there is no schedule nobody"),
    ],
)
def test_exit_codes(line: Line, words: str, code: int, said: str) -> None:
    if "taken" in words:
        double.options(id="taken").delay(1)
    ran = line.run(*words.split())
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "Traceback" not in ran.err


# ---- jobs, one or all that fit ------------------------------------------------------------------------------


def test_all_that_fit_are_counted_and_acted_on(line: Line) -> None:
    handles = complain.options(queue="default").map([(n,) for n in range(20, 25)])
    until(lambda: all(handle.status == "dead" for handle in handles), "all are dead")
    query = ["state:dead", f"error:{'x' * 20}", "name:system_jobs.complain", "since:1h"]
    assert len(line.run("job", "list", *query, "-o", "id").out.splitlines()) == 5
    assert line.run("job", "list", *query, "arg.0:22", "-o", "id").out == f"{handles[2]}\n"
    assert line.run("job", "list", handles[1], "-o", "id").out == f"{handles[1]}\n"

    ran = line.run("job", "retry", *query)
    assert ran.code == USAGE
    assert "nobody to ask; add --yes, or --dry-run" in ran.err
    asked = line.run("job", "requeue", *query, "--dry-run")
    assert asked.out.startswith("5 jobs: state:dead name:system_jobs.complain error:xxxxx")
    assert [handle.info()["attempt"] for handle in handles] == [1] * 5
    assert line.run("job", "retry", *query, "arg.0:23", "--yes").out == "requeued 1 job\n"
    until(lambda: handles[3].info()["attempt"] == 2 and handles[3].status == "dead", "it is dead again")
    assert line.json("job", "delete", handles[0], handles[3]) == {"purged": 2}
    assert line.run("job", "purge", *query, "--yes").out == "purged 3 jobs\n"


def test_how_far_an_act_is_shows_at_a_terminal(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    double.options(queue="nobody").map([(n,) for n in range(120)])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ran = line.run("job", "cancel", "queue:nobody", "--yes")
    assert ran.out == "cancelled 120 jobs\n"
    steps = [int(text) for text in re.findall(r"cancelled (\d+) of 120 jobs\r", ran.err)]
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert steps[-1] == 120


def test_jobs_that_wait_are_called_off_by_a_query(line: Line) -> None:
    double.options(queue="nobody").map([(n,) for n in range(3)])
    later = double.options(queue="nobody", countdown=600).delay(1)
    assert line.run("job", "cancel", "queue:nobody", "arg.0:2", "--yes").out == "cancelled 1 job\n"
    assert line.run("queue", "purge", "nobody", "--dry-run").out == "3 jobs: state:waiting,delayed queue:nobody\n"
    assert line.run("queue", "purge", "nobody", "--yes").out == "cancelled 3 jobs\n"
    assert later.status == "cancelled"


def test_what_comes_after_the_count_is_not_meant(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = double.options(queue="nobody").delay(1)
    late: list[eventmq.JobHandle[int]] = []
    asked: list[str] = []

    def confirm(text: str, err: bool) -> bool:
        asked.append(text)
        late.append(double.options(queue="nobody").delay(2))
        return True

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    assert line.run("job", "cancel", "queue:nobody").out == "cancelled 1 job\n"
    assert asked == ["Cancel 1 job: state:waiting,delayed queue:nobody?"]
    assert (counted.status, late[0].status) == ("cancelled", "waiting")
    late[0].cancel()


def test_a_job_is_handed_in_again_with_other_arguments(line: Line) -> None:
    first = double.options(timeout=77, unique="one", priority=3).delay(4)
    assert first.result(20) == 8
    again = line.run("job", "again", first).out.strip()
    assert again != first
    assert line.run("result", again, "--wait").out == "8\n"
    other = line.run("job", "again", first, "--args", "[6]").out.strip()
    assert line.run("result", other, "--wait").out == "12\n"
    told = line.json("job", "show", other)
    assert isinstance(told, dict)
    assert (told["options"], told["priority"], told["unique"]) == ({"timeout_s": 77.0}, 3, None)
    assert line.run("job", "again", "nobody").code == NOT_FOUND
    assert line.run("job", "again", first, "--args", "{}").code == USAGE


# ---- forms ----------------------------------------------------------------------------------------------------


def test_forms_of_output(line: Line) -> None:
    until(lambda: "default" in line.json("queue", "list"), "the queue is known")  # type: ignore[operator]
    for verb, name in (("queue", "default"), ("manager", "manager")):
        assert name in line.run(verb, "list", "-o", "id").out.splitlines()
        things = [json.loads(text) for text in line.run(verb, "list", "-o", "jsonl").out.splitlines()]
        assert name in [each["name"] for each in things]
        head, *rows = line.run(verb, "list").out.splitlines()
        assert all(len(row.split("\t")) == len(head.split("\t")) for row in rows)
        assert line.run(verb, "show", name).out.startswith("what\tvalue\n")
    assert line.json("queues") == line.json("queue", "list")
    assert [each["name"] for each in line.json("workers")] == ["manager"]  # type: ignore[attr-defined]
    status = line.json("status")
    assert isinstance(status, dict)
    assert abs(status["wall"] - time.time()) < 60


def test_at_a_terminal_times_are_relative_and_colours_can_be_off(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = double.delay(3)
    assert handle.result(20) == 6
    created = dict(row.split("\t") for row in line.run("job", "show", handle).out.splitlines())["created"]
    assert abs(datetime.fromisoformat(created).timestamp() - time.time()) < 60
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    shown = line.run("job", "show", handle).out
    assert re.search(r"created +\d+\.\d s ago", shown)
    assert "\x1b[1mJob\x1b[0m" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in line.run("job", "show", handle).out
    monkeypatch.setenv("COLUMNS", "60")
    listed = line.run("job", "list", "state:dead,succeeded").out.splitlines()
    assert max(map(len, listed)) == 60
    assert any(row.startswith(handle) and row.endswith("…") for row in listed)


def interrupted(
    monkeypatch: pytest.MonkeyPatch, sleep: int, else_do: Callable[[], object] = lambda: None
) -> list[float]:
    """Ctrl-C comes in this sleep, the first being 1; the others take no time. How long each was to be."""
    slept: list[float] = []

    def fall_asleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == sleep:
            raise KeyboardInterrupt
        else_do()

    monkeypatch.setattr(time, "sleep", fall_asleep)
    return slept


def test_watch_shows_again_until_it_is_interrupted(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = interrupted(monkeypatch, 3)
    ran = line.run("queue", "list", "--watch", "7", "-o", "id")
    assert ran.code == INTERRUPTED
    assert ran.out.splitlines().count("default") == 3
    assert slept == [7.0, 7.0, 7.0]


def test_a_reader_that_leaves_is_no_error(line: Line, tmp_path: Path) -> None:
    double.map([(n,) for n in range(3)])
    program = [sys.executable, "-m", "eventmq", "profile", "--seconds", "0.3"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == OK


# ---- logs -----------------------------------------------------------------------------------------------------


def test_the_log_of_a_job_is_shown_and_followed_to_its_end(line: Line, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    handle = recount.delay(str(gate), 3)
    until(lambda: "line 2 of 1" in line.run("logs", handle).out, "its first lines")
    threading.Timer(1.5 * follow.ASK_AGAIN_S, gate.touch).start()
    ran = line.run("logs", "-f", handle)
    assert ran.code == OK
    assert [row.split("\t")[1:] for row in ran.out.splitlines()] == [
        *(["INFO", "#1", f"line {n} of 1"] for n in range(3)),
        ["WARNING", "#1", "the end"],
    ]
    assert ran.err.endswith("is succeeded\n")
    lines = [json.loads(text) for text in line.run("logs", handle, "--json").out.splitlines()]
    assert [each["text"] for each in lines][-1] == "the end"
    assert datetime.fromisoformat(lines[0]["at"]).tzinfo == UTC
    silent = double.delay(1)
    silent.result(20)
    ran = line.run("logs", silent)
    assert (ran.code, ran.out) == (OK, "")
    assert "no lines of it are kept" in ran.err


def test_events_are_shown_as_they_happen(line: Line, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    threading.Timer(0.6, lambda: (recount.options(id="watched").delay(str(gate), 1), gate.touch())).start()
    ran = line.run("events", "--seconds", "1.4", "--queue", "default", "-o", "jsonl")
    assert ran.code == OK
    told = [json.loads(text) for text in ran.out.splitlines()]
    seen = [each["event"] for each in told if each["id"] == "watched"]
    assert seen == ["enqueued", "started", "succeeded"]
    assert all(datetime.fromisoformat(each["at"]).tzinfo == UTC for each in told)


def test_events_are_followed_and_chosen(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, 2, lambda: double.options(id="seen").delay(1).result(20))
    ran = line.run("events", "-f", "--event", "succeeded")
    assert ran.code == INTERRUPTED
    (row,) = [row.split("\t") for row in ran.out.splitlines()]
    assert row[1:6] == ["succeeded", "seen", "default", "system_jobs.double", "manager"]


# ---- how it goes -----------------------------------------------------------------------------------------------


def test_why_a_job_is_where_it_is(line: Line) -> None:
    later = double.options(countdown=600).delay(1)
    ran = line.run("why", later)
    assert ran.code == OK
    assert ran.out.count("\n") == 1
    told = line.json("job", "why", later)
    assert isinstance(told, dict)
    assert (told["id"], told["state"], told["text"] + "\n") == (later, "delayed", ran.out)
    later.cancel()
    assert line.run("why", "nobody").code == NOT_FOUND


def test_a_check_tells_in_one_sentence(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    until(lambda: line.run("check", "--managers", "1").code == OK, "all is well")
    assert re.fullmatch(r"OK: \d+ jobs? waiting, \d+ running, 1 job manager\n", line.run("check").out)
    held = double.options(queue="nobody").delay(1)
    ran = line.run("check", "--queue", "nobody")
    assert (ran.code, ran.out) == (2, "CRITICAL: queue 'nobody' has 1 waiting job and no worker\n")
    ran = line.run("check", "--queue", "nobody", "--ignore", "no_worker", "--waiting", "1,2", "-o", "json")
    assert ran.code == 1
    assert json.loads(ran.out) == {"level": "WARNING", "text": "queue 'nobody' has 1 waiting job"}
    assert line.run("check", "--queue", "default").code == OK
    held.cancel()
    assert "expected one or two" in line.run("check", "--waiting", "many").err

    (free,) = free_ports(1)
    ran = line.run("check", "-a", f"tcp://127.0.0.1:{free}", "--timeout", "0.1")
    assert ran.code == 2
    assert ran.out.startswith("CRITICAL: no Router listens on")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ran = line.run("check", "-a", f"tcp://127.0.0.1:{mute.getsockname()[1]}", "--timeout", "0.1")
    assert ran.code == 3
    assert ran.out.startswith("UNKNOWN: ")


def test_top_shows_what_runs(line: Line, tmp_path: Path) -> None:
    gate, journal = tmp_path / "gate", line.system.journal()
    running = hold.delay(str(journal), str(gate))
    journal.begun(running)
    shown = line.run("top", "--once").out
    gate.touch()
    assert re.search(rf"{running} +\d+\.\d s +default", shown)
    assert re.search(r"^manager ", shown, re.MULTILINE)
    assert re.search(r"^default +\d", shown, re.MULTILINE)


def test_top_is_live_until_it_is_interrupted(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = interrupted(monkeypatch, 4)

    def away(admin: Admin) -> top.Look:
        if len(slept) == 2:
            raise BrokerUnavailable("the Router is away.")
        return look(admin)

    look = top.look
    monkeypatch.setattr(top, "look", away)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    ran = line.run("top", "--every", "3")
    assert ran.code == OK
    assert slept == [top.FIRST_S, 3.0, 3.0, 3.0]
    assert "the Router is away. Trying again." in ran.out


# ---- doctor ---------------------------------------------------------------------------------------------------


def findings(ran: Ran) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for each in json.loads(ran.out):
        found.setdefault(each["what"], []).append(each)
    return found


def test_a_doctor_finds_a_system_well(line: Line) -> None:
    ran = line.run("doctor", "-o", "json")
    assert ran.code == OK, ran.out
    found = findings(ran)
    assert {"versions", "limits", "Router", "clock", "store", "disk", "peers"} <= found.keys()
    assert f"administrative_addr = '{line.system.administrative}', from EVENTMQ_ADMINISTRATIVE_ADDR" in ran.out
    assert [each["text"] for each in found["peers"]] == ["1 job manager, 1 scheduler"]
    assert "what to do" in line.run("doctor").out.splitlines()[0]


def test_a_doctor_finds_what_is_wrong(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.conf"
    wrong.write_text("[jobmanager]\nconcurrent_jobs = none\n")
    ran = line.run("doctor", "-C", str(wrong), "-o", "json")
    assert ran.code == FAILED
    assert [each["level"] for each in findings(ran)["settings of jobmanager"]] == ["error"]

    real = time.time
    monkeypatch.setattr("eventmq.monitoring.findings.time.time", lambda: real() - 90)
    assert findings(line.run("doctor", "-o", "json"))["clock"][0]["level"] == "warning"


def test_a_doctor_without_a_router_says_what_it_can(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from eventmq.cli.system import scratch_addresses

    for name, address in scratch_addresses().items():
        monkeypatch.setenv(f"EVENTMQ_{name.upper()}", address)
    ran = line.run("doctor", "--timeout", "0.1", "-o", "json")
    assert ran.code == UNREACHABLE
    found = findings(ran)
    assert found["Router"][0]["level"] == "error"
    assert len(found["ports"]) == 3


# ---- completion -----------------------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word."""
    *before, incomplete = words
    found = BashComplete(command, {}, "eventmq", "_EVENTMQ_COMPLETE").get_completions(before, incomplete)
    return [each.value for each in found]


def test_words_and_names_are_completed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("que") == ["queue", "queues"]
    assert completed("queue", "pa") == ["pause"]
    until(lambda: completed("queue", "pause", "d") == ["default"], "the name of the queue")
    assert completed("manager", "drain", "") == ["manager"]
    assert "dead" in completed("job", "list", "--state", "d")
    assert completed("job", "list", "st") == ["state:"]
    assert completed("job", "list", "state:dead,l") == ["state:dead,lost"]
    assert completed("job", "requeue", "queue:de") == ["queue:default"]
    assert completed("job", "list", "error:x") == []
    assert completed("job", "list", "state", ":", "de") == ["delayed", "dead"], "as bash splits it"
    assert ":dead" in completed("job", "list", "queue:x", "state", ":")
    monkeypatch.setenv("EVENTMQ_ADMINISTRATIVE_ADDR", "tcp://127.0.0.1:1")
    assert completed("queue", "pause", "d") == []
    monkeypatch.setenv("EVENTMQ_ADMINISTRATIVE_ADDR", "nonsense")
    assert completed("queue", "pause", "d") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(line: Line, shell: str) -> None:
    ran = line.run("completion", shell)
    assert ran.code == OK
    assert "_EVENTMQ_COMPLETE" in ran.out
