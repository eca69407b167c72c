"""The processes of one test: started on free ports in a scratch folder, watched by what they write, all ended.

A `Site` is one place with one set of addresses. It knows the commands and settings of both releases, and nothing of
what a test wants to see.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import zmq
from ports import free_ports

JOBS = Path(__file__).parent / "jobs"

WITHIN_S = 20.0
"""Deadline of every wait. A released manager looks for finished jobs once a second; nothing takes longer."""

VERSION = b"eMQP/1.0"

RELEASED_LIVENESS = {
    "EVENTMQ_HEARTBEAT_INTERVAL": "1",
    "EVENTMQ_HEARTBEAT_TIMEOUT": "1",
    "EVENTMQ_HEARTBEAT_LIVENESS": "3",
}
"""A released peer gives the Router up after 3 x 1 s of silence, instead of 3 x 5 s."""

RELEASED_REDIS = {"EVENTMQ_REDIS_CLIENT_CLASS": "peer_redis.Forgetful"}


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """Waits until `condition()` is true and returns its value; fails with `what` at the deadline."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
    return value


class Process:
    """One process, leader of its own group, its output in a file."""

    def __init__(self, command: list[str | Path], environ: dict[str, str], output: Path) -> None:
        self.output = output
        with open(output, "ab") as file:
            self.popen = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def written(self) -> str:
        """What it has written so far."""
        return self.output.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """SIGKILL to it alone; what it started finds out by itself."""
        self.popen.kill()
        self.popen.wait(WITHIN_S)

    def sweep(self) -> None:
        """SIGKILL to it and to all that it started."""
        family = psutil.Process(self.popen.pid).children(recursive=True) if self.alive else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait(WITHIN_S)

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, when it has ended by itself."""
        try:
            return self.popen.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {WITHIN_S:g} s:\n{self.written[-3000:]}") from None


class Peer:
    """A DEALER that speaks eMQP/1.0 frame by frame. Its identity is text: another one ends the released Router."""

    def __init__(self, address: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IDENTITY, str(uuid.uuid4()).encode())
        self.socket.connect(address)

    def send(self, command: str, *frames: str) -> str:
        """Sends one message; its id."""
        id = str(uuid.uuid4())
        self.socket.send_multipart([b"", VERSION, command.encode(), id.encode(), *(f.encode() for f in frames)])
        return id

    def request(self, function: str, *args: Any, headers: str = "", queue: str = "default", **call: Any) -> str:
        """Sends a REQUEST for `peer_jobs.<function>`, or `peer_jobs:<Class>.<function>` with `path` given; its id."""
        call = {"kwargs": {}, "class_args": [], "class_kwargs": {}, "path": "peer_jobs", **call}
        return self.send("REQUEST", queue, headers, json.dumps(["run", {**call, "callable": function, "args": args}]))

    def receive(self, within_s: float = WITHIN_S) -> list[str]:
        """The next message from its command on."""
        assert self.socket.poll(int(within_s * 1000)), f"no message within {within_s:g} s"
        empty, version, *frames = self.socket.recv_multipart()
        assert (empty, version) == (b"", VERSION)
        return [frame.decode() for frame in frames]

    def results(self, count: int) -> dict[str, Any]:
        """`count` results by job id; receipts on the way are read over."""
        values: dict[str, Any] = {}
        while len(values) < count:
            command, _, *frames = self.receive()
            assert command == "REPLY", command
            if len(frames) == 2:
                values[frames[1]] = json.loads(frames[0])["value"]
        return values

    def close(self) -> None:
        self.socket.close()


class Site:
    """Addresses, a scratch folder, and the processes that were started here.

    Args:
        folder: Scratch.
        released: The folder of the released commands.
    """

    def __init__(self, folder: Path, released: Path) -> None:
        self.folder = folder
        self.released = released
        self.frontend, self.backend, self.administrative = (f"tcp://127.0.0.1:{port}" for port in free_ports(3))
        self.marks_file = folder / "marks"
        self.go_file = folder / "go"
        self.processes: list[Process] = []
        self.peers: list[Peer] = []

    # ---- our release -------------------------------------------------------------------------------

    def router(self, **settings: str) -> Process:
        """Our Router, when it answers. It keeps its jobs over a restart."""
        settings = {"EVENTMQ_STORE": f"sqlite:///{self.folder / 'router.db'}", **self.bound, **settings}
        return self._listening(self._ours("router", settings))

    def manager(self, *flags: str, **settings: str) -> Process:
        """Our job manager."""
        return self._ours("jobmanager", {"EVENTMQ_WORKER_ADDR": self.backend, **settings}, *flags)

    def scheduler(self, **settings: str) -> Process:
        """Our scheduler."""
        return self._ours("scheduler", {"EVENTMQ_SCHEDULER_ADDR": self.frontend, **settings})

    def client(self, code: str) -> str:
        """What a script for our client wrote."""
        return self._script(Path(sys.executable), code)

    def _ours(self, verb: str, settings: dict[str, str], *flags: str) -> Process:
        return self._start(verb, [sys.executable, "-m", "eventmq", verb, *flags], settings)

    # ---- the release of 2020 -----------------------------------------------------------------------

    def released_router(self) -> Process:
        """Its Router, when it answers."""
        return self._listening(self._released("emq-router", self.bound))

    def released_manager(self, slots: int, *flags: str, **settings: str) -> Process:
        """Its job manager. Note that `-Q` makes it announce no queue at all."""
        return self._released("emq-jobmanager", settings, "-B", self.backend, "-J", str(slots), *flags)

    def released_scheduler(self, **settings: str) -> Process:
        """Its scheduler."""
        settings = {"EVENTMQ_SCHEDULER_ADDR": self.frontend, **RELEASED_REDIS, **settings}
        return self._released("emq-scheduler", settings)

    def released_client(self, code: str) -> str:
        """What a script for its client wrote; `messages` and a connected `sender` are there."""
        prelude = (
            "from eventmq.client import messages\n"
            "from eventmq.sender import Sender\n"
            f"sender = Sender(); sender.connect({self.frontend!r})\n"
        )
        return self._script(self.released / "python", prelude + code)

    def released_cli(self, *commands: str) -> str:
        """What its emq-cli wrote, given commands on its standard input."""
        return self._output([self.released / "emq-cli", "-a", self.administrative], "\n".join((*commands, "quit", "")))

    def _released(self, command: str, settings: dict[str, str], *flags: str) -> Process:
        return self._start(command, [self.released / command, *flags], settings)

    # ---- what can be seen --------------------------------------------------------------------------

    def ask(self, command: str) -> Any:
        """The Router's answer to an administrative question, or None: either release, in eMQP/1.0."""
        peer = Peer(self.administrative)
        try:
            peer.send(command)
            return json.loads(peer.receive(0.5)[2]) if peer.socket.poll(500) else None
        finally:
            peer.close()

    def free_slots(self) -> dict[str, int]:
        """Free slots by connected job manager."""
        workers = (self.ask("ROUTER_SHOW_WORKERS") or {"connected_workers": {}})["connected_workers"]
        return {id: worker["available_slots"] for id, worker in workers.items()}

    def has_free_slots(self, count: int) -> None:
        """Waits until there are so many, over all job managers."""
        until(lambda: sum(self.free_slots().values()) == count, f"{count} free slots")

    def marks(self) -> Counter[str]:
        """What ran, and how often."""
        text = self.marks_file.read_text() if self.marks_file.exists() else ""
        return Counter(line.rpartition(" ")[0] for line in text.splitlines())

    def go(self) -> None:
        """Lets every `hold` end."""
        self.go_file.touch()

    def peer(self, address: str | None = None) -> Peer:
        """A client that speaks eMQP/1.0."""
        self.peers.append(Peer(address or self.frontend))
        return self.peers[-1]

    # ---- processes ---------------------------------------------------------------------------------

    @property
    def bound(self) -> dict[str, str]:
        """Where a Router listens: both releases have the same names for it."""
        return {
            "EVENTMQ_FRONTEND_ADDR": self.frontend,
            "EVENTMQ_BACKEND_ADDR": self.backend,
            "EVENTMQ_ADMINISTRATIVE_ADDR": self.administrative,
        }

    def _environ(self, settings: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVENTMQ_", "EMQ_"))}
        marks = {"PEER_MARKS": str(self.marks_file), "PEER_GO": str(self.go_file)}
        return {**kept, "PYTHONPATH": str(JOBS), "PYTHONUNBUFFERED": "1", **marks, **settings}

    def _start(self, name: str, command: list[str | Path], settings: dict[str, str]) -> Process:
        output = self.folder / f"{len(self.processes)}-{name}.log"
        self.processes.append(Process(command, self._environ(settings), output))
        return self.processes[-1]

    def _listening(self, router: Process) -> Process:
        until(lambda: self.ask("STATUS") or not router.alive, "the Router answers")
        assert router.alive, router.written
        return router

    def _script(self, python: Path, code: str) -> str:
        return self._output([python, "-c", code], "")

    def _output(self, command: list[str | Path], text: str) -> str:
        environ = self._environ({"EMQ_BROKER_ADDR": self.frontend})
        done = subprocess.run(command, env=environ, input=text, capture_output=True, text=True, timeout=WITHIN_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        for process in self.processes:
            process.sweep()
