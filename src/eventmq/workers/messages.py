"""What a job manager and one worker process say to each other over their socketpair.

Each message is a msgpack array whose first element names it. Manager to worker: `setup` (once, first), `run`,
`return`, `stop`. Worker to manager: `ready` or `unready` (once), `done`, `returned`, `progress`. Both ends are always
of the same release, so nothing here needs to be compatible with anything.
"""

from __future__ import annotations

import msgspec

from eventmq.protocol.scheduling import Declared
from eventmq.protocol.v2 import Job, Outcome, Report


class Setup(msgspec.Struct, array_like=True, tag="setup"):
    """How this worker is to run jobs; the settings of the same names.

    Attributes:
        path: `sys.path` of the manager, so that both find the same modules.
        job_timeout_s: After which the manager kills jobs that have no timeout of their own; 0 = never.
    """

    path: list[str]
    modules: list[str] = []
    subprocess_setup_func: str = ""
    job_entry_func: str = ""
    job_exit_func: str = ""
    allow_any_callable: bool = False
    log_level: str = "INFO"
    job_timeout_s: float = 0.0
    log_format: str = "text"
    otel_parent: bool = True


class Run(msgspec.Struct, array_like=True, tag="run", gc=False):
    """Run these jobs one after another, after those given before."""

    jobs: list[Job]


class Return(msgspec.Struct, array_like=True, tag="return"):
    """Give back every job that has not begun."""


class Stop(msgspec.Struct, array_like=True, tag="stop"):
    """Finish what was given, then exit with code 0."""


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """The user's modules are imported and the setup function has returned.

    Attributes:
        declared: The schedules that stand in those modules.
    """

    declared: list[Declared] = []


class Unready(msgspec.Struct, array_like=True, tag="unready"):
    """This worker cannot start: what went wrong, as text for people. It exits next."""

    error: str


class Done(msgspec.Struct, array_like=True, tag="done", gc=False):
    """Outcomes of jobs, in the order in which they ended."""

    outcomes: list[Outcome]


class Returned(msgspec.Struct, array_like=True, tag="returned"):
    """The leases of jobs that this worker will not begin."""

    leases: list[int]


class Progress(msgspec.Struct, array_like=True, tag="progress"):
    """What running jobs say of themselves."""

    reports: list[Report]


Command = Setup | Run | Return | Stop
Event = Ready | Unready | Done | Returned | Progress

encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_event = msgspec.msgpack.Decoder(Event).decode

_DONE = b"\x92\xa4done\xdd"
"""msgpack: an array of two, the text "done", and the first byte of an array with a four-byte length."""


def done_of(encoded: bytes, count: int) -> bytes:
    """A `Done` message made of outcomes that are encoded already and stand one after another."""
    return b"%b%b%b" % (_DONE, count.to_bytes(4, "big"), encoded)
