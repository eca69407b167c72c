"""Messages that a Router may be sent by a peer that is broken: right ones of both versions, and what becomes of them.

`SEEDS` has at least one right message for each command of each socket, but for those that end the Router or that
operators give to change what others do: a random one might well do what it says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from eventmq.protocol import calls, v1, v2
from eventmq.router import Router

Frames = list[bytes]

CALL = calls.pack_call((1, "two"), {"three": [3.0, None]})
PAYLOAD = json.dumps(["run", {"path": "a", "callable": "b", "args": [1], "kwargs": {}, "class_args": []}])
OPTIONS = v2.pack_options(v2.Options(timeout_s=5.0, retries=3, retry_delays_s=(0.5, 2.0), expires_s=60.0))
QUEUE = "nobody"

FULL = v2.Job("id-1", QUEUE, "a.b", CALL, -7, OPTIONS)
BODIES: list[tuple[str, bytes, v2.Body]] = [
    ("frontend", b"REQUEST", v2.Request(1, [FULL, v2.Job("id-2", QUEUE, "a.b:C.d", CALL)])),
    ("frontend", b"REQUEST", v2.Request(2, [v2.Job(f"id-{n}", QUEUE, "a.b", CALL) for n in range(40)])),
    ("frontend", b"WAIT", v2.Wait(3, ["id-1", "id-2", "none"])),
    ("frontend", b"INFO", v2.Info(4, "id-1")),
    ("frontend", b"CANCEL", v2.Cancel(5, ["id-2", "none"])),
    (
        "backend",
        b"INFORM",
        v2.Inform(1, "m", "nonce", [(1, QUEUE)], [v2.Held("id-1", 1 << 32)], {"pid": 1, "host": "h"}),
    ),
    ("backend", b"READY", v2.Ready(3)),
    ("backend", b"REPLY", v2.Reply(2, [v2.Outcome("id-1", (1 << 32) + 1, "succeeded", b"\x01", None, 0.5)], 4)),
    (
        "backend",
        b"REPLY",
        v2.Reply(3, [v2.Outcome("id-2", 5, "failed", b"", v2.Failure("a.B", "x", "y", ("a.C",)))], 4),
    ),
    (
        "backend",
        b"REPLY",
        v2.Reply(4, [v2.Outcome("id-1", (1 << 32) + 1, "retry", b"", v2.Failure("a.B", "x"), 0.5, 0.25)], 4),
    ),
    (
        "backend",
        b"PROGRESS",
        v2.Progress([v2.Report("id-1", (1 << 32) + 1, b"\x05", [v2.LogLine(1.7e9, "INFO", "text")], 3)]),
    ),
    ("backend", b"HEARTBEAT", v2.Beat(1.5, 4, 2.5)),
    ("backend", b"DISCONNECT", v2.Empty()),
    ("backend", b"KBYE", v2.Empty()),
    *(
        ("administrative", each, v2.Question(1))
        for each in (b"STATUS", b"METRICS", b"WORKERS", b"SCHEDULERS", b"SCHEDULES", b"QUEUES", b"PROBLEMS")
    ),
    ("administrative", b"JOBS", v2.Question(2, {"states": ["waiting"], "queue": QUEUE, "limit": 3, "before": 9})),
    ("administrative", b"COUNT", v2.Question(2, {"error": "x", "since": 1.5, "until": 2e9, "arguments": {"0": "1"}})),
    *(("administrative", each, v2.Question(3, {"id": "id-1"})) for each in (b"JOB", b"WHY")),
    ("administrative", b"LOGS", v2.Question(3, {"id": "id-1", "after": 2})),
    (
        "administrative",
        b"RERUN",
        v2.Question(3, {"id": "id-1", "job": "id-3", "arguments": {"args": [], "kwargs": {}}}),
    ),
    ("administrative", b"EVENTS", v2.Question(4, {"after": 5, "limit": 6})),
    ("administrative", b"HISTORY", v2.Question(4, {"since": 1.5, "until": 1.8e9, "queue": QUEUE, "step_s": 60})),
    ("administrative", b"TYPES", v2.Question(4, {"since": 1.8e9, "queue": QUEUE, "after": "a"})),
    ("administrative", b"FAILURES", v2.Question(4, {"since": 1.5})),
]
TEXTS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("frontend", b"REQUEST", (QUEUE, "reply-requested,retry-count:3,timeout:60", PAYLOAD)),
    ("frontend", b"INFORM", ("", "scheduler")),
    ("frontend", b"HEARTBEAT", ("1700000000.5",)),
    ("frontend", b"SCHEDULE", (QUEUE, "nohaste", "60", PAYLOAD, "")),
    ("frontend", b"UNSCHEDULE", (QUEUE, "", "60", PAYLOAD, "* * * * *")),
    ("frontend", b"KBYE", ()),
    ("backend", b"INFORM", (f'[[10, "{QUEUE}"]]', "worker")),
    ("backend", b"READY", ()),
    ("backend", b"REPLY", ('{"value": 1}', "id-1")),
    ("backend", b"HEARTBEAT", ("1700000000.5",)),
    ("backend", b"KBYE", ()),
    *(
        ("administrative", each, ())
        for each in (b"STATUS", b"ROUTER_SHOW_WORKERS", b"ROUTER_SHOW_SCHEDULERS", b"HELLO")
    ),
]
SEEDS: dict[str, list[Frames]] = {name: [] for name in Router.handlers}
for name, command, body in BODIES:
    SEEDS[name].append(v2.encode(command, body))
for name, command, texts in TEXTS:
    SEEDS[name].append(v1.encode(command, "message-1", *texts))

ODD = (
    *(b"", b"\x00", b"\xff", b"\xc1", b"\xc0", b"\x80", b"\x90", b"\r\n"),
    *(b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf8" + bytes(6), b"-1", b"9" * 400, b"NaN"),
    *(b"\xdb\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff", b"[" * 300, b"\x91" * 300),
    *(b"\xd9\x01\xff", b'"\\ud800"'),
)
"""What is put in the place of something: nothing and nil, odd numbers, lengths that lie and deep nests, no text."""


def mutants(name: str, count: int, seed: int) -> Iterator[Frames]:
    """`count` messages for a socket; the same again for the same seed."""
    chance = random.Random(f"{name} {seed}")
    for _ in range(count):
        frames = list(chance.choice(SEEDS[name]))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            if frames:
                chance.choice(CHANGES)(frames, chance, name)
        yield frames


def _bytes(frames: Frames, chance: random.Random, name: str) -> None:
    """Some bytes of a frame become others, more, or fewer."""
    at = _frame(frames, chance)
    frame = frames[at]
    start = chance.randrange(len(frame) + 1)
    end = min(len(frame), start + chance.choice((0, 1, 1, 1, 2, 8)))
    frames[at] = (
        frame[:start] + chance.choice((chance.choice(ODD), chance.randbytes(chance.randrange(4)))) + frame[end:]
    )


def _bit(frames: Frames, chance: random.Random, name: str) -> None:
    at = _frame(frames, chance)
    if frames[at]:
        frame = bytearray(frames[at])
        frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
        frames[at] = bytes(frame)


def _cut(frames: Frames, chance: random.Random, name: str) -> None:
    at = _frame(frames, chance)
    frames[at] = frames[at][: chance.randrange(len(frames[at]) + 1)]


def _cross(frames: Frames, chance: random.Random, name: str) -> None:
    """The rest of the message is that of another one."""
    other = chance.choice(SEEDS[name])
    at = chance.randrange(len(frames))
    frames[at:] = other[at:]


def _order(frames: Frames, chance: random.Random, name: str) -> None:
    """A frame is there twice, or not at all, or elsewhere."""
    frame = frames.pop(chance.randrange(len(frames)))
    for _ in range(chance.choice((0, 1, 2, 20))):
        frames.insert(chance.randrange(len(frames) + 1), frame)


CHANGES = (_bytes, _bytes, _bytes, _bit, _bit, _cut, _cross, _order)


def _frame(frames: Frames, chance: random.Random) -> int:
    """Mostly one behind the command: a wrong version is soon told."""
    first = 3 if len(frames) > 3 and chance.random() < 0.9 else 0
    return chance.randrange(first, len(frames))
