"""eMQP/2.0: four frames, the last one msgpack; many jobs in each message.

    ''  'eMQP/2.0'  COMMAND  body            body = one msgpack array, the fields of a class below in order

A receiver ignores elements beyond those it knows and fills in those that are missing from the right, so a later
release only ever appends. Payloads, options and values travel as bytes: who only carries them never opens them.
Source: `docs/protocol.md`, section 3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import msgspec

from eventmq import limits
from eventmq.protocol.options import Options
from eventmq.protocol.packing import decode, decoded, pack, pack_sorted, unpack

__all__ = ["Options", "decode", "decoded", "pack", "pack_sorted", "unpack"]
"""What others take from here besides the classes."""

VERSION = b"eMQP/2.0"


class Body(msgspec.Struct, array_like=True, gc=False):
    """Base of all message bodies: a msgpack array, fields by position."""


class Job(Body):
    """One job, the same on every hop and in the Router's memory.

    A client fills the first seven fields; the Router overwrites the others whatever a client sent.

    Attributes:
        id: Text, at most `ID_CHARS_MAX` characters, made by the client; time-ordered ids are stored fastest.
        queue: Name of its queue.
        name: What to call: `package.module.function` or `package.module:Class.method`.
        payload: msgpack `[args, kwargs]` or `[args, kwargs, class_args, class_kwargs]`.
        priority: -100 to 100, higher first within the queue.
        options: msgpack map, see `Options`; empty when all are default.
        unique: Its key: of the jobs of its name, which one it is to be the only one of; empty = it has none.
        created: Wall time of acceptance, seconds.
        attempt: 1 for the first run; grows with each run that is known to have begun and not succeeded.
        lease: Fencing token of this hand-out; grows with each hand-out, over restarts too. 0 = not handed out.
        crashes: Worker processes that died under it.
        seq: Order of acceptance.
        failures: Runs that failed and were tried again.
        due: Wall time before which it is not to run; 0 = it is due.
        settled: Lease of the last hand-out whose outcome is known; 0 = there is none.
        started: Lease of its last hand-out, if it may begin only once (`redeliver`): stored before it left. 0 = none.
    """

    id: str
    queue: str
    name: str
    payload: bytes
    priority: int = 0
    options: bytes = b""
    unique: str = ""
    created: float = 0.0
    attempt: int = 1
    lease: int = 0
    crashes: int = 0
    seq: int = 0
    failures: int = 0
    due: float = 0.0
    settled: int = 0
    started: int = 0


class Failure(Body):
    """Why a job did not succeed: qualified exception name, its text, its formatted traceback, the qualified names of
    the classes that the exception derives from, and the last place in the user's own code that it came from."""

    type: str
    message: str
    traceback: str = ""
    bases: tuple[str, ...] = ()
    place: str = ""


class Outcome(Body):
    """What a manager says of one hand-out.

    Attributes:
        id: The job.
        lease: The hand-out that this is the outcome of.
        state: `succeeded`, `failed`, `retry` (it asks to be tried again), `timeout`, `crashed`, `interrupted` (it
            began and was stopped through no fault of its own) or `returned` (never begun: hand it out again). Of a
            hand-out that a KILL has stopped: how.
        value: msgpack of what the job returned.
        failure: Present unless succeeded or returned.
        run_s: How long it ran, seconds.
        delay_s: With `retry`: how long to wait; None = as its options say.
    """

    id: str
    lease: int
    state: str
    value: bytes = b""
    failure: Failure | None = None
    run_s: float = 0.0
    delay_s: float | None = None


class Result(Body):
    """What the Router tells a client of one ended job.

    Attributes:
        id: The job.
        state: `succeeded`, `dead`, `cancelled`, `expired`, `lost`, or `unknown` (no such job is known).
        value: msgpack of what the job returned.
        failure: Present when dead.
        attempt: The attempt that decided.
    """

    id: str
    state: str
    value: bytes = b""
    failure: Failure | None = None
    attempt: int = 0


class Refusal(Body):
    """Why one job of a batch was not accepted: a reason of `errors.REASONS`, and a sentence."""

    id: str
    reason: str
    text: str = ""


class Held(Body):
    """A hand-out that a manager holds: not started, running, or finished and not yet ACKed."""

    id: str
    lease: int


class Verdict(Body):
    """What the Router thinks of a hand-out that a returning manager holds: `keep`, `kill` or `done`."""

    id: str
    lease: int
    verdict: str


# ---- client and Router, on the frontend ------------------------------------------------------------


class Request(Body):
    """REQUEST. From a client `n` is its message number, echoed by ACK. From the Router to a manager `n` is the
    number of jobs sent in this session including these: a gap tells the manager that a message was lost."""

    n: int
    jobs: list[Job]


class Ack(Body):
    """ACK of the sender's message `n`, sent after what it says is durable. Jobs not named here exist.

    Attributes:
        refusals: Those that are refused.
        existing: (id, other id): in the way of the first was the other, which stands for it unless it is refused, too.
    """

    n: int
    refusals: list[Refusal] = []
    existing: list[tuple[str, str]] = []


class Wait(Body):
    """WAIT: the client wants the outcomes of these jobs. Answered by REPLYs, at once for those that have ended."""

    n: int
    ids: list[str]


class Cancel(Body):
    """CANCEL: these jobs are not to run, or not any longer; those that run have `grace_s` before they are killed.

    Answered by REPLY with a map from id to what became of it: `cancelled` (it did not run), how its run ended
    (`stopped`, `terminated`, `killed`, or `unconfirmed`: nobody has said), the state in which it had ended already, or
    `unknown`. An ACK comes first when some run: it is durable, and the REPLY comes when they have stopped."""

    n: int
    ids: list[str]
    grace_s: float = limits.CANCEL_GRACE_S


class Results(Body):
    """REPLY to a client. Not acknowledged: a client that still misses one asks again with WAIT."""

    results: list[Result]


class Info(Body):
    """INFO: everything the Router knows of one job."""

    n: int
    id: str


class Answer(Body):
    """REPLY to a question (INFO, or anything on the administrative socket). `answer` is nil for "no such job"."""

    n: int
    answer: Any


class Refused(Body):
    """REFUSED: the message `n` (0 when it could not be read) as a whole, with a reason of `errors.REASONS`."""

    n: int
    reason: str
    text: str = ""


# ---- job manager and Router, on the backend -------------------------------------------------------------


class Inform(Body):
    """INFORM: a manager announces itself, first on each connection and whenever it is told `unknown_peer`.

    Starts a session: both sides' counts of jobs sent begin at 0 again.

    Attributes:
        n: Message number, echoed by the ACK.
        name: Stable name for people.
        nonce: Random text made when the process started: name and nonce are one incarnation.
        queues: `[weight, name]` pairs; empty = the Router's default queues.
        held: Every hand-out it still holds.
        about: For people: `host`, `pid`, `version`, `workers`.
        fair: The weights share its slots among the queues that have work; without, the heaviest queue goes first.
    """

    n: int
    name: str
    nonce: str
    queues: list[tuple[int, str]]
    held: list[Held] = []
    about: dict[str, str | int | float | bool | None] = {}
    fair: bool = False


class Informed(Body):
    """ACK of an INFORM: a verdict on each hand-out held."""

    n: int
    verdicts: list[Verdict] = []


class Ready(Body):
    """READY: the Router may have sent at most `limit` jobs in this session. Cumulative, so repeating it is harmless."""

    limit: int


class Reply(Body):
    """REPLY from a manager, repeated until ACKed: outcomes, and the credit that they free."""

    n: int
    outcomes: list[Outcome]
    limit: int


class Beat(Body):
    """HEARTBEAT, both ways. The Router's `count` is the jobs it sent in this session, a manager's is its `limit`.

    Attributes:
        time: Wall time, for people.
        count: See above.
        clock: A manager's own monotonic time; the Router repeats the last one that it heard in this session. 0 = none.
    """

    time: float
    count: int = 0
    clock: float = 0.0


class Kill(Body):
    """KILL: stop these hand-outs. The outcome that is told of each is how that went: `stopped`, `terminated`, `killed`,
    or `returned` if it had not begun. `grace_s`: how long those that run have before they are killed."""

    held: list[Held]
    grace_s: float = 0.0


class LogLine(Body):
    """One record of a job's log: wall time, name of the level, text with its traceback."""

    at: float
    level: Annotated[str, msgspec.Meta(max_length=limits.LEVEL_CHARS_MAX)]
    text: Annotated[str, msgspec.Meta(max_length=limits.JOB_LOG_LINE_CHARS_MAX)]


class Report(Body):
    """What a running job says of itself.

    Attributes:
        value: How far it is, packed; empty = as before.
        lines: What it has logged since the last report.
        skipped: Lines before them that are left out, as there were too many.
    """

    id: str
    lease: int
    value: Annotated[bytes, msgspec.Meta(max_length=limits.PROGRESS_BYTES_MAX)] = b""
    lines: Annotated[list[LogLine], msgspec.Meta(max_length=limits.JOB_LOG_LINES_MAX)] = []
    skipped: Annotated[int, msgspec.Meta(ge=0, le=limits.JOB_LOG_SKIPPED_MAX)] = 0


class Progress(Body):
    """PROGRESS: not acknowledged, not repeated, not kept over a restart."""

    reports: list[Report]


class Empty(Body):
    """DISCONNECT ("finish what runs, then leave") and KBYE ("I am gone"): nothing in the body."""


class Question(Body):
    """Any command on the administrative socket; `params` depend on the command."""

    n: int
    params: dict[str, Any] = {}


# ---- coding -------------------------------------------------------------------------------------------------


def encode(command: bytes, body: Body) -> list[bytes]:
    """The frames of one message, without the identity that a ROUTER socket puts in front."""
    return [b"", VERSION, command, pack(body)]


@lru_cache(maxsize=1024)
def options_of(packed: bytes) -> Options:
    """A job's options. Jobs of one function mostly carry the same bytes, so few are decoded twice.

    Raises:
        msgspec.MsgspecError: Not options.
    """
    return decode(packed, Options) if packed else Options()


def with_headers(packed: bytes, headers: dict[str, str]) -> bytes:
    """Packed options with these headers."""
    return pack_options(msgspec.structs.replace(options_of(packed), headers=headers))


def ready_at(job: Job) -> float:
    """Wall time from which a job waits for its first attempt."""
    options = options_of(job.options)
    return max(job.created, options.due or job.created + options.delay_s)


def pack_options(options: Options) -> bytes:
    """Options as a job carries them: what is not default, and nothing at all when everything is."""
    fields = zip(Options.__struct_fields__, Options.__struct_defaults__, strict=True)
    given = {name: value for name, default in fields if (value := getattr(options, name)) != default}
    return pack(given) if given else b""
