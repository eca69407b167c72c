"""What clients, schedulers and the Router say about schedules in eMQP/2.0. Source: `docs/protocol.md`, section 3.5.

client     SCHEDULE, UNSCHEDULE  ─▶ Router            the schedule is stored, or gone
Router     SCHEDULE, UNSCHEDULE  ─▶ one scheduler     it is to run, from here on; or no longer
scheduler  REQUEST with ticks    ─▶ Router            this one is due
"""

from __future__ import annotations

from eventmq.protocol import v2
from eventmq.protocol.v2 import Body, Job
from eventmq.schedules.rule import Rule


class Schedule(Body):
    """What is to run, and when; kept by the Router as it is.

    Attributes:
        id: Its name, or the key of its call (`calls.call_key`).
        token: Made by who schedules, for this call of SCHEDULE: the same again is the same message, come twice.
        rule: When it is due.
        job: What runs then; the Router makes up all but the fields that a client sets, the id too.
        owner: The module in which it is declared; empty = it was made at run time.
    """

    id: str
    token: str
    rule: Rule
    job: Job
    owner: str = ""


class Declared(Body):
    """Everything that a module of this age declares: what it no longer declares is gone.

    Attributes:
        module: As the manager was told to import it.
        since: Wall time of its import: of two ages of a module the newer one counts.
        schedules: What it declares.
    """

    module: str
    since: float
    schedules: list[Schedule] = []


class Announcement(v2.Inform):
    """INFORM of a job manager, with what its modules declare."""

    declared: list[Declared] = []


class Assignment(Body):
    """What a scheduler needs to know of a schedule to go on with it.

    Attributes:
        id: The schedule.
        token: Of the SCHEDULE that it is from; comes back with each tick.
        rule: When it is due.
        anchor: Wall time from which intervals are counted.
        last: The due time that was run last, or behind which the first one is.
    """

    id: str
    token: str
    rule: Rule
    anchor: float
    last: float


class Tick(Body):
    """A schedule is due.

    Attributes:
        schedule: Its id.
        token: As it was assigned.
        due: When it was to run: of those the Router accepts each once, in order.
        ahead: The next due times: so the Router knows what is missing when nothing comes; empty = this is the last.
    """

    schedule: str
    token: str
    due: float
    ahead: list[float]


class Request(v2.Request):
    """REQUEST on the frontend: of a client, with jobs; of a scheduler, with ticks. Those that are refused are named in
    the ACK by their schedule."""

    ticks: list[Tick] = []


class Arrange(Body):
    """SCHEDULE from a client. Answered by REPLY with the id, when it is durable."""

    n: int
    schedule: Schedule


class CallOff(Body):
    """UNSCHEDULE from a client. Answered by REPLY: whether there was such a schedule."""

    n: int
    id: str


class Assign(Body):
    """SCHEDULE to a scheduler. `n` counts the Router's SCHEDULEs and UNSCHEDULEs of this session: a gap tells that one
    was lost."""

    n: int
    assignments: list[Assignment]


class Withdraw(Body):
    """UNSCHEDULE to a scheduler: not yours any longer. `n` as in `Assign`."""

    n: int
    ids: list[str]


class Inform(Body):
    """INFORM of a scheduler, first on each connection: begins a session, in which it holds nothing yet.

    Attributes:
        name: For people.
        nonce: Random text made when the process started.
    """

    n: int
    name: str
    nonce: str
