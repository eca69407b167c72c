"""The command line: exit codes, one sentence for each mistake, and whole systems that start and end in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psutil
import pytest

from eventmq.cli import demo as demonstration
from eventmq.cli import system
from eventmq.cli.children import manner
from eventmq.cli.ending import FAILED, OK, TIMED_OUT, UNREACHABLE, USAGE, end
from eventmq.cli.main import cli, emq_cli, emq_jobmanager, emq_router, eventmq, jobmanager, main, router
from eventmq.cli.tables import Table, Told, json_of, span, tell

PATIENCE_S = 30.0

TASKS = """
import time
from eventmq import job

@job
def add(a: int, b: int) -> int:
    return a + b

@job
def sleep(seconds: float) -> None:
    time.sleep(seconds)
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the developer has set, tests have not; and the store of these tests is not theirs."""
    for name in list(os.environ):
        if name.startswith(("EVENTMQ_", "EMQ_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.01)


class Command:
    """A command in a process of its own, its output in files."""

    def __init__(self, folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eventmq", *arguments],
                cwd=folder,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=environ,
            )
        self.family = {psutil.Process(self.process.pid)}

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def says(self, text: str) -> None:
        """Waits until it has printed something."""
        wait_for(lambda: text in self.out + self.err or self.process.poll() is not None, f"{text!r} printed")
        assert text in self.out + self.err, self.out + self.err
        self.meet_family()

    def meet_family(self) -> None:
        self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def child(self, verb: str) -> psutil.Process:
        return next(one for one in self.family if one.is_running() and verb in one.cmdline())

    def end(self, *signals: signal.Signals) -> int:
        """Sends signals, waits for the end, and makes sure that nobody of the family is left."""
        for number in signals:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        wait_for(lambda: not any(one.is_running() for one in self.family), "the end of all children")
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.meet_family()
        for one in self.family:
            if one.is_running():
                one.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands; kills what is left of them in the end."""
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        folder = tmp_path / f"command{len(started)}"
        folder.mkdir()
        (folder / "tasks.py").write_text(TASKS)
        (folder / "broken.py").write_text("import there_is_no_such_module\n")
        started.append(Command(folder, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.kill()


def run(*arguments: str) -> int:
    return end("eventmq", eventmq, list(arguments))


# ---- help and usage --------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, eventmq.cli.main; print({'zmq', 'rich', 'asyncio', 'sqlite3', 'msgspec'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def verbs(command: click.Command = eventmq, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb there is, with the words that name it."""
    command = getattr(command, "real", command)
    yield words, command
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from verbs(one, *words, name)


each_verb = pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0]) or "eventmq") for each in verbs()]
)


@each_verb
def test_every_verb_has_help_with_its_exit_codes(
    words: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--help") == OK
    codes = "2 CRITICAL, 3 UNKNOWN" if words == ("check",) else "69 no Router there"
    assert codes in " ".join(capsys.readouterr().out.split())


@each_verb
def test_every_verb_has_examples_and_they_are_right(words: tuple[str, ...], command: click.Command) -> None:
    """Each line parses: flags, choices, numbers of arguments. Nothing is run. The verb itself is among them."""
    examples = re.findall(r"^ *(eventmq .*)$", command.help or "", re.MULTILINE)
    assert examples or isinstance(command, click.Group)
    known, shown = dict(verbs()), []
    for example in examples:
        _, *typed = shlex.split(re.split(r" {2,}", example)[0])
        named = max((each for each in known if tuple(typed[: len(each)]) == each), key=len)
        known[named].make_context(example, typed[len(named) :])
        shown.append(known[named])
    assert command in shown or isinstance(command, click.Group)


def test_every_verb_is_in_the_manual() -> None:
    text = (Path(__file__).parent.parent / "docs/operations.md").read_text()
    rows = [set(re.findall(r"[\w-]+", row.split("|")[1])) for row in text.splitlines() if row.startswith("| `eventmq ")]
    said = [set(re.findall(r"[\w-]+", line)) for line in re.findall(r"`(eventmq [^`]*)`", text)]
    for words, _ in verbs():
        assert any({"eventmq", *words} <= row for row in rows + said), f"eventmq {' '.join(words)}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == OK
    assert re.fullmatch(r"eventmq \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (router, {"-C", "--config"}),
        (jobmanager, {"-C", "--config", "-B", "--broker-addr", "-Q", "--queues", "-J", "--jobs", "-n", "--name"}),
        (cli, {"-C", "--config", "-a", "--addr"}),
    ],
)
def test_flags_of_2020(command: object, flags: set[str]) -> None:
    known = {word for parameter in command.params for word in parameter.opts}  # type: ignore[attr-defined]
    assert flags <= known


@pytest.mark.parametrize("entry", [main, emq_router, emq_jobmanager, emq_cli])
def test_entry_points(
    entry: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == OK
    assert "Usage: e" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rooter"], "Did you mean 'router'"),
        (["router", "--durability", "paranoid"], "durability expects one of full, process, none"),
        (["router", "--backend-addr", "tcp://*:1"], "open to other machines"),
        (["router", "-C", "absent.conf"], "cannot read the settings file absent.conf"),
        (["jobmanager", "-J", "none"], "concurrent_jobs expects a whole number"),
        (["up", "--free-ports", "--frontend-addr", "tcp://127.0.0.1:1"], "exclude each other"),
        (["up", "tasks.py"], "(tasks, not tasks.py)"),
        (["status", "-a", "nowhere"], "administrative_addr expects an address"),
        (["job", "list", "--state", "ded"], "'ded' is not one of 'waiting', 'delayed'"),
        (["job", "requeue", "--state", "succeeded"], "'succeeded' is not one of 'dead', 'lost', 'expired'"),
        (["job", "requeue"], "all jobs with state:dead, and there is nobody to ask; add --yes, or --dry-run"),
        (["job", "purge", "--queue", "email"], "queue:email, and there is nobody to ask"),
        (["queue", "purge", "email"], "state:waiting,delayed queue:email, and there is nobody to ask; add --yes"),
        (["job", "cancel"], "say which jobs: their ids, or words such as queue:email"),
        (["job", "list", "state:ded"], "no job is ever 'ded'"),
        (["job", "list", "sate:dead"], "there is no field 'sate'"),
        (["job", "requeue", "error:x", "--error", "y", "--yes"], "error is given twice"),
        (["status", "--timeout", "-1"], "-1.0 is not in the range x>=0"),
        (["queue", "limit", "email", "many"], "a limit is a whole number from 0"),
        (["queue", "pause", "-a", "nowhere", "email"], "administrative_addr expects an address"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == USAGE
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not told.out


def test_an_unknown_variable_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVENTMQ_STOER", "memory:")
    assert run("router") == USAGE
    assert "did you mean EVENTMQ_STORE?" in capsys.readouterr().err


# ---- a Router that is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["status", "workers", "queues", "job list", "job requeue --yes", "queue pause email"])
def test_no_router_ends_with_69(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = system.scratch_addresses()["administrative_addr"]
    assert run(*verb.split(), "-a", nobody, "--timeout", "0.1") == UNREACHABLE
    told = capsys.readouterr()
    assert f"no Router listens on {nobody}" in told.err
    assert not told.out


def test_a_router_that_does_not_answer_ends_with_75(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert run("status", "-a", f"tcp://127.0.0.1:{mute.getsockname()[1]}", "--timeout", "0.1") == TIMED_OUT
    assert "no answer within 0.1 s" in capsys.readouterr().err


def flags_of(addresses: dict[str, str]) -> list[str]:
    return [word for name, text in addresses.items() for word in (f"--{name.replace('_', '-')}", text)]


def test_a_port_in_use_and_a_locked_store_are_sentences(start: Callable[..., Command], tmp_path: Path) -> None:
    ours, theirs = system.scratch_addresses(), system.scratch_addresses()
    store = ["--store", f"sqlite:///{tmp_path / 'jobs.db'}"]
    first = start("router", *flags_of(ours), *store)
    first.says("listening")
    for flags, said in (
        ([*flags_of(ours), "--store", "memory:"], "another process listens there already"),
        ([*flags_of(theirs), *store], "jobs.db"),
    ):
        second = start("router", *flags)
        assert second.process.wait(PATIENCE_S) == FAILED
        assert second.err.splitlines()[-1].startswith("eventmq: ")
        assert said in second.err.splitlines()[-1]
        assert "Traceback" not in second.err
    assert first.end(signal.SIGTERM) == OK


def test_the_first_router_makes_the_folder_of_the_default_store(start: Callable[..., Command], tmp_path: Path) -> None:
    first = start("router", *flags_of(system.scratch_addresses()))
    first.says("listening")
    assert (tmp_path / "state" / "eventmq").stat().st_mode & 0o777 == 0o700
    assert first.end(signal.SIGTERM) == OK


# ---- a system in one terminal --------------------------------------------------------------------------------


def up(start: Callable[..., Command], *arguments: str) -> tuple[Command, dict[str, str]]:
    """A system that is up, and its addresses."""
    command = start("up", "--free-ports", "--store", "memory:", "-J", "1", *(arguments or ("tasks",)))
    command.says("export EMQ_BROKER_ADDR")
    command.meet_family()
    return command, dict(re.findall(r"^  (clients|operators|dashboard) +(\S+)$", command.out, re.MULTILINE))


def enqueue(folder: Path, addresses: dict[str, str], call: str) -> str:
    """What user code prints about a job."""
    environ = os.environ | {"EMQ_BROKER_ADDR": addresses["clients"]}
    code = f"import tasks; print({call})"
    return subprocess.check_output([sys.executable, "-c", code], cwd=folder, env=environ, text=True, timeout=30).strip()


def test_up_runs_jobs_answers_questions_and_ends_in_order(
    start: Callable[..., Command], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, addresses = up(start)
    assert enqueue(command.folder, addresses, "tasks.add.delay(2, 3).result(timeout=20)") == "5"
    admin = addresses["operators"]
    capsys.readouterr()

    answers = {}
    for verb in ("status", "workers", "queues"):
        assert run(verb, "-a", admin, "--json") == OK
        answers[verb] = json.loads(capsys.readouterr().out)
    assert answers["status"]["counts"]["succeeded"] == 1
    assert [each["finished"] for each in answers["workers"]] == [1]
    assert answers["queues"]["default"]["waiting"] == 0
    with urllib.request.urlopen(addresses["dashboard"] + "queues.json", timeout=20) as answer:
        assert [each["name"] for each in json.load(answer)["queues"]] == ["default"]

    assert run("queues", "-a", admin) == OK
    plain = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in plain] == ["queue", "default"]

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("workers", "-a", admin) == OK
    assert "Job managers" in capsys.readouterr().out
    monkeypatch.undo()

    assert command.end(signal.SIGINT) == OK
    assert command.err.index("stopping the job manager") < command.err.index("stopping the Router")


def test_emq_cli_with_verbs_and_as_a_shell(
    start: Callable[..., Command], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, addresses = up(start)
    admin = ["-a", addresses["operators"]]
    for verb, key in (("show_workers", "connected_workers"), ("show_schedulers", "connected_schedulers")):
        assert end("emq-cli", cli, [*admin, verb, "--json"]) == OK
        assert key in json.loads(capsys.readouterr().out)

    lines = "status\n\ndisconnect\nstatus\nconnect\nshow_workers\nconnect nowhere\nfly away\nhelp\nquit\nnot reached\n"
    (command.folder / "lines").write_text(lines)
    with (command.folder / "lines").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert end("emq-cli", cli, admin) == OK
    said = capsys.readouterr().out
    assert said.count("job managers\t1") == 1
    for sentence in ("Not connected", "connect expects an address", "There is no command fly", "shutdown"):
        assert sentence in said
    assert "not reached" not in said

    assert end("emq-cli", cli, [*admin, "shutdown"]) == OK
    assert command.process.wait(PATIENCE_S) == FAILED
    assert "the Router ended" in command.err


def test_up_ends_with_1_and_says_so_when_a_child_dies(start: Callable[..., Command]) -> None:
    command, _ = up(start)
    command.child("jobmanager").kill()
    assert command.end() == FAILED
    assert command.err.splitlines()[-1] == "eventmq: the job manager ended by SIGKILL"


def test_up_waits_for_what_runs_but_a_second_signal_ends_at_once(start: Callable[..., Command]) -> None:
    command, addresses = up(start)
    enqueue(command.folder, addresses, "tasks.sleep.delay(600)")
    wait_for(lambda: running(addresses) == 1, "the job to run")
    began = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    command.says("stopping the job manager")
    assert command.process.poll() is None
    assert command.end(signal.SIGTERM) == OK
    assert time.monotonic() - began < 10


def running(addresses: dict[str, str]) -> int:
    from eventmq.client.admin import Admin

    with Admin(addresses["operators"]) as admin:
        return int(admin.ask("STATUS")["jobs"]["running"])


@pytest.mark.parametrize(
    ("module", "said"), [("nosuch", "there is no module nosuch"), ("broken", "there_is_no_such_module")]
)
def test_up_with_a_module_that_cannot_be_imported(start: Callable[..., Command], module: str, said: str) -> None:
    command = start("up", "--free-ports", "--store", "memory:", "-J", "1", module)
    assert command.process.wait(PATIENCE_S) == FAILED
    assert said in command.err
    assert command.err.splitlines()[-1].startswith("eventmq: ")


def test_up_on_a_port_in_use_starts_nothing(start: Callable[..., Command]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = start("up", "tasks", "--frontend-addr", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        assert command.process.wait(PATIENCE_S) == FAILED
    assert "is in use" in command.err
    assert len(command.err.splitlines()) == 1


# ---- the demo --------------------------------------------------------------------------------------------------


def some_files() -> list[str]:
    return [file for file in demonstration.standard_library() if "/json/" in file or "/test_email/" in file]


def test_the_demo_adds_up_with_a_worker_killed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = some_files()
    (tmp_path / "unparsable.py").write_text("def (:\n")
    files.insert(0, str(tmp_path / "unparsable.py"))
    before = set(psutil.Process().children(recursive=True))
    assert demonstration.demo(2, files) == OK, capfd.readouterr()
    said = capfd.readouterr().out
    assert re.search(rf"files +{len(files)} +{len(files)}\n", said)
    assert re.search(r"unparsable +1 +1\n", said)
    assert "killed with SIGKILL" in said
    assert "jobs redelivered: 1; jobs lost: 0" in said
    assert set(psutil.Process().children(recursive=True)) <= before


def test_the_demo_fails_when_the_counts_differ(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = demonstration.Totals(3, 100, 10, 1, 0)
    for run, code in (
        (demonstration.Run(ours, 1.0, 4711, 1), OK),
        (demonstration.Run(ours._replace(lines=99), 1.0, 4711, 1), FAILED),
        (demonstration.Run(ours, 1.0, 4711, 0), FAILED),
    ):
        monkeypatch.setattr(demonstration, "_through_the_system", lambda *_, run=run: run)
        monkeypatch.setattr(demonstration, "_counted_here", lambda files: [[50, 5, 1, 0], [50, 5, 0, 0], [0, 0, 0, 0]])
        assert demonstration.demo(1, ["a", "b", "c"]) == code
    assert "DIFFERENT" in capsys.readouterr().out


def test_ctrl_c_ends_the_demo_and_leaves_nothing(
    start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    command_folder = Path(os.environ["HOME"], "scratch")
    command_folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(command_folder))
    command = start("demo", "-J", "1")
    command.says("are up")
    assert command.end(signal.SIGINT) == 130
    assert not list(command_folder.iterdir())
    assert "Traceback" not in command.err


# ---- words -----------------------------------------------------------------------------------------------------


def test_lines_are_printed_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    def things() -> Iterator[dict[str, str]]:
        yield {"id": "a"}
        yield {"id": "b"}
        raise KeyboardInterrupt

    for form, expected in (("jsonl", '{"id": "a"}\n{"id": "b"}\n'), ("id", "a\nb\n"), ("json", "")):
        with pytest.raises(KeyboardInterrupt):
            tell(Told(things()), form)
        assert capsys.readouterr().out == expected


def test_what_a_peer_sent_makes_no_cell_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\tb\nc\x1b[2J"
    for form in ("table", "id"):
        tell(Told([{"id": name}], Table("Jobs", ("id",), [(name,)])), form)
        assert "a?b?c?[2J\n" in capsys.readouterr().out


def test_times_are_dated_and_what_users_made_is_left_alone() -> None:
    mine = {"at": 1.5, "name": "\x9b2J\u202e"}
    document = {"created": 1.5, "started": None, "n": 2.5, "arguments": {"args": [mine]}, "value": mine}
    told = json.loads(json_of(document))
    assert told["created"] == "1970-01-01T00:00:01.500Z"
    assert (told["started"], told["n"]) == (None, 2.5)
    assert told["arguments"]["args"] == [mine]
    assert told["value"] == mine
    assert json_of(mine, name="value") == r'{"at": 1.5, "name": "\u009b2J\u202e"}'


def test_words() -> None:
    assert [span(s) for s in (0.05, 59.9, 185, 3600, 187_200)] == ["0.1 s", "59.9 s", "3 m 5 s", "1 h", "2 d 4 h"]
    assert [manner(c) for c in (1, -9, -63)] == ["with exit code 1", "by SIGKILL", "by signal 63"]
