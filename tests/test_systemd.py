"""What systemd is told, through a real datagram socket: ready, alive, how it is, and that its end takes a while."""

from __future__ import annotations

import configparser
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventmq.cli.main import eventmq
from eventmq.limits import LIVE_S
from eventmq.net.systemd import Service
from eventmq.router import Router
from eventmq.settings import table

UNITS = Path(__file__).parent.parent / "contrib/systemd"


@pytest.fixture(params=["file", "abstract"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """systemd's end, and what it calls that."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    name = str(tmp_path / "s") if request.param == "file" else f"@eventmq-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind("\0" + name[1:] if name.startswith("@") else name)
        wire.setblocking(False)
        yield wire, name


def told(wire: socket.socket) -> list[list[str]]:
    found = []
    while True:
        try:
            found.append(wire.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


def test_a_service_from_ready_to_its_end(wire: tuple[socket.socket, str]) -> None:
    end, name = wire
    service = Service({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())})
    service.turned(9.0, lambda: "too early")
    assert told(end) == []
    service.ready(10.0)
    service.ready(10.1)
    assert told(end) == [["READY=1"]]
    service.turned(10.0, lambda: "3 jobs wait")
    assert told(end) == [["WATCHDOG=1", "STATUS=3 jobs wait"]]
    assert service.next == 12.0, "at half of the watchdog's time"
    service.turned(11.9, lambda: "not yet")
    assert told(end) == []
    service.turned(12.0, lambda: "none")
    service.turned(12.1, lambda: "the rest", leaving=True)
    assert told(end) == [
        ["WATCHDOG=1", "STATUS=none"],
        ["WATCHDOG=1", "STATUS=the rest", "STOPPING=1", "EXTEND_TIMEOUT_USEC=7000000"],
    ]
    service.turned(13.0, lambda: "the rest", leaving=True)
    service.turned(14.1, lambda: "the rest", leaving=True)
    assert len(told(end)) == 1


def test_without_a_watchdog_or_with_that_of_another_process_it_tells_how_it_is(wire: tuple[socket.socket, str]) -> None:
    end, name = wire
    for environ in ({}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}):
        service = Service({"NOTIFY_SOCKET": name, **environ})
        service.ready(0.0)
        service.turned(0.0, lambda: "well")
        assert service.next == 5.0
        assert told(end)[-1] == ["WATCHDOG=1", "STATUS=well"]


def test_an_idle_router_turns_in_time_for_its_watchdog() -> None:
    router = Router()
    assert router.next_deadline() > router.now + 1
    router.service.next = router.now + 0.2
    assert router.next_deadline() == router.now + 0.2


def test_outside_of_a_service_nothing_happens() -> None:
    service = Service({"WATCHDOG_USEC": "1000"})
    service.ready(0.0)
    service.turned(1e9, lambda: pytest.fail("asked for a status that nobody reads"), leaving=True)


def test_a_socket_that_is_not_there_ends_nobody(caplog: pytest.LogCaptureFixture) -> None:
    Service({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready(0.0)
    assert "systemd cannot be told" in caplog.text


@pytest.mark.parametrize("unit", sorted(UNITS.iterdir()), ids=lambda unit: unit.name)
def test_the_units_start_what_there_is_and_are_told_that_it_is_ready(unit: Path) -> None:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(unit)
    service = parsed["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > LIVE_S
    program, verb, *flags = service["ExecStart"].split()
    assert Path(program).name == "eventmq"
    known = {name for parameter in eventmq.commands[verb].params for name in parameter.opts}
    assert {flag for flag in flags if flag.startswith("-")} <= known
    named = {variable.removeprefix("EVENTMQ_").lower() for variable in re.findall(r"EVENTMQ_\w+", unit.read_text())}
    assert named <= {row.name for row in table()}
    assert unit.name in (UNITS.parent.parent / "docs/operations.md").read_text()
