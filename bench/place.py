"""Where one run takes place: a scratch folder, the processes started in it, and what stands behind the system.

Every process carries the folder's path in its environment, so that whatever is left over can be found and ended by
that, and nothing else is touched.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent

MARK = "BENCH_PLACE"
"""Environment variable of every process of a run: its folder."""

START_S = 20.0
STOP_S = 5.0
"""A process that is told to end has this long; then it is killed with its process group."""

REDIS_FLAGS = {
    "off": ["--appendonly", "no"],
    "everysec": ["--appendonly", "yes", "--appendfsync", "everysec"],
    "always": ["--appendonly", "yes", "--appendfsync", "always"],
}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Place:
    """The processes of one run; `close` ends all of them.

    Args:
        folder: Scratch; its file `log` gets what they write.
        environ: What they find in their environment besides ours.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder.resolve()
        self.processes: list[subprocess.Popen[bytes]] = []
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("EVENTMQ_", "EMQ_"))}
        paths = {"PYTHONPATH": str(HERE), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self.environ = {**kept, **paths, "PYTHONUNBUFFERED": "1", MARK: str(self.folder), **environ}

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts a process as the leader of a group."""
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def until(self, ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
        """Waits until a process that was started is ready.

        Raises:
            RuntimeError: It ended instead, or takes too long.
        """
        deadline = time.monotonic() + START_S
        while not ready():
            if (code := process.poll()) is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace")[-1000:]
                how = f"did not answer within {START_S:g} s" if code is None else f"ended with {code} at its start"
                raise RuntimeError(f"{what} {how}:\n{said}")
            time.sleep(0.005)

    def stop(self, processes: list[subprocess.Popen[bytes]]) -> None:
        """Ends some of them, by force if they take too long, with whatever is left of their groups."""
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            self.processes.remove(process)

    def close(self) -> None:
        """Nothing is left running: the last one started ends first."""
        while self.processes:
            self.stop(self.processes[-1:])


class Redis:
    """A Redis of its own on a loopback port; `mode` is how often it syncs its log of writes."""

    def __init__(self, place: Place, mode: str) -> None:
        (self.port,) = free_ports(1)
        flags = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(place.folder), "--save", ""]
        self.process = place.start([os.environ["BENCH_REDIS_SERVER"], *flags, *REDIS_FLAGS[mode]])
        self.environ = {"BENCH_REDIS": f"redis://127.0.0.1:{self.port}/0"}
        place.until(self._answers, self.process, "redis-server")

    def _answers(self) -> bool:
        try:
            return self._say(b"PING") == b"+PONG\r\n"
        except ConnectionError:
            return False

    def _say(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(100)

    def empty(self) -> None:
        """Nothing is in it any more."""
        assert self._say(b"FLUSHALL") == b"+OK\r\n"


class Router:
    """A Router of ours on loopback ports; `mode` is its durability."""

    def __init__(self, place: Place, mode: str) -> None:
        self.place, self.mode = place, mode
        self.ports = dict(zip(("frontend", "backend", "administrative"), free_ports(3), strict=True))
        self.environ = {f"BENCH_{name.upper()}": f"tcp://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.runs = 0
        self._start()

    def _start(self) -> None:
        self.runs += 1
        store = ["--store", f"sqlite:///{self.place.folder}/{self.runs}.db", "--durability", self.mode]
        where = [word for name, at in self.environ.items() for word in (f"--{name[6:].lower()}-addr", at)]
        self.process = self.place.start([sys.executable, "-m", "eventmq", "router", *store, *where])
        self.place.until(self._listens, self.process, "the Router")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports["administrative"])) == 0

    def empty(self) -> None:
        """It goes on with an empty store."""
        self.place.stop([self.process])
        self._start()
