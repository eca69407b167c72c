"""What a job manager's deciding code wants done; its loop, or a simulator, does it, in order."""

from __future__ import annotations

from typing import NamedTuple


class Tell(NamedTuple):
    """Send this message to a worker."""

    worker: int
    message: bytes


class Spawn(NamedTuple):
    """Start a worker process and call it this."""

    worker: int


class Stop(NamedTuple):
    """Ask, on a worker's board, that the job of this lease stop; None: say that the manager drains."""

    worker: int
    lease: int | None


class Terminate(NamedTuple):
    """Send SIGTERM to a worker process, and to it alone."""

    worker: int


class Kill(NamedTuple):
    """Kill a worker's process group, now. Its death is then reported as any other."""

    worker: int


class Report(NamedTuple):
    """A line for people, and lines of detail below it."""

    level: str
    text: str
    detail: str = ""


class Send(NamedTuple):
    """Send these frames to the Router; `on_unsent` if that is not possible now."""

    frames: list[bytes]


class Connect(NamedTuple):
    """Replace the socket by a new one with a fresh identity, then call `on_connected`."""


class Exit(NamedTuple):
    """Close everything and end the process with this code."""

    code: int


Effect = Tell | Spawn | Stop | Terminate | Kill | Report | Send | Connect | Exit
