"""The README's five minutes, typed as they stand: only the ports and the store are this test's own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from eventmq.cli.main import eventmq
from eventmq.cli.system import scratch_addresses, web_address

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTION = README[README.index("## Five minutes") : README.index("## Promises")]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
SHELL = [text.strip() for language, text in BLOCKS if language == "sh"]
PYTHON = [text for language, text in BLOCKS if language == "python"]

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A folder with the README's `tasks.py`, and an environment in which the default ports are free ones."""
    (tmp_path / "tasks.py").write_text(PYTHON[0])
    addresses = scratch_addresses() | web_address("http://127.0.0.1:*")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("EVENTMQ_", "EMQ_"))}
    ours = {f"EVENTMQ_{name.upper()}": at for name, at in addresses.items()}
    ours["EVENTMQ_WORKER_ADDR"] = addresses["backend_addr"]
    ours["EVENTMQ_SCHEDULER_ADDR"] = addresses["frontend_addr"]
    ours["EVENTMQ_STORE"] = f"sqlite:///{tmp_path}/jobs.db"
    return kept | ours | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}


@pytest.fixture
def start(tmp_path: Path, environ: dict[str, str]) -> Iterator[Start]:
    """Starts a command of the README as a terminal of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command.split(), cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in reversed(started):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def typed(block: str, folder: Path, environ: dict[str, str]) -> str:
    """What a block prints; repeated while the processes of the other terminals are still starting."""
    block = block.replace("tcp://127.0.0.1:47291", environ["EVENTMQ_FRONTEND_ADDR"])
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(
            ["sh", "-ec", block], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


def test_everything_in_one_terminal(tmp_path: Path, environ: dict[str, str], start: Start) -> None:
    start(SHELL[0])
    printed = typed(SHELL[1], tmp_path, environ)
    assert printed.startswith("5\n")
    assert "jobs kept" in printed


def test_the_names_of_the_2020_release(tmp_path: Path, environ: dict[str, str], start: Start) -> None:
    router, manager, scheduler, status = SHELL[2:]
    start(router)
    start(manager)
    start(scheduler)
    assert typed(SHELL[1], tmp_path, environ).startswith("5\n")
    assert "job managers" in typed(status, tmp_path, environ)


def test_every_command_of_an_operator_parses() -> None:
    (block,) = [text for language, text in BLOCKS if language == "console"]
    for line in block.splitlines():
        command, words = eventmq, shlex.split(line.removeprefix("$ "), comments=True)[1:]
        while isinstance(command, click.Group):
            found = command.commands[words.pop(0)]
            command = getattr(found, "real", found)
        command.make_context(line, words)


def test_the_longer_example_is_right(tmp_path: Path) -> None:
    """Run without a Router, where jobs run in place: names, options and calls exist, and mypy has no complaint."""
    (tmp_path / "more.py").write_text(PYTHON[1].replace("-> str: ...", '-> str:\n    return "sent"'))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "more.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_the_schedules_are_right(tmp_path: Path, environ: dict[str, str], start: Start) -> None:
    (tmp_path / "more.py").write_text(PYTHON[2])
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "more.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    start(SHELL[2])
    ours = environ | {"EMQ_BROKER_ADDR": environ["EVENTMQ_FRONTEND_ADDR"]}
    subprocess.run([sys.executable, "more.py"], cwd=tmp_path, env=ours, check=True)
