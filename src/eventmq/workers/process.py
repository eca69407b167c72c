"""One worker process as its manager's loop holds it: started, fed, watched, killed, reaped. Decides nothing.

Started with a fresh interpreter, never forked: a forked child would hold the manager's sockets and keep its
connections and ports alive after its death. It gets nothing but its end of a socketpair, its board, and a session
(process group) of its own, which is killed as a whole, so nothing that a job started outlives its worker.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from eventmq.workers import messages
from eventmq.workers.board import Board
from eventmq.workers.channel import Channel


class WorkerProcess:
    """A started worker process.

    Attributes:
        channel: Our end of the socketpair.
        board: What it tells without being asked.
        pid: Its process id, which is also its group's.
    """

    def __init__(self, setup: messages.Setup) -> None:
        ours, theirs = socket.socketpair()
        board_fd = Board.create()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "eventmq.workers.child", str(theirs.fileno()), str(board_fd), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), board_fd),
                start_new_session=True,
            )
            self.board = Board(board_fd)
        finally:
            theirs.close()
            os.close(board_fd)
        self.pid = self._popen.pid
        self.channel = Channel(ours, blocking=False)
        self.channel.send(messages.encode(setup))

    def died(self) -> int | None:
        """Its exit code, negative for a signal, once it has ended; what it left behind in its group is killed then."""
        if self._popen.returncode is None and self._ended():
            self.kill()  # before the process is reaped: until then no other group can have its number
            self._popen.wait()
        return self._popen.returncode

    def _ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def terminate(self) -> None:
        """Send SIGTERM to it; what its job has started is the job's to end."""
        if self._popen.returncode is None:
            os.kill(self.pid, signal.SIGTERM)  # `Popen.terminate` would reap it

    def kill(self) -> None:
        """Kill it and everything in its process group, now."""
        if self._popen.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of only zombies
                self._popen.kill()

    def close(self) -> None:
        """Make sure that it is gone, and give everything back."""
        self.kill()
        self._popen.wait()
        self.channel.close()
        self.board.close()


def death_of(code: int) -> str:
    """How a process ended, for people: `signal 9 (SIGKILL)`, `exit code 3`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
