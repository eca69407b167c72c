"""The guard against slow decay: how much work the hot paths do, counted instead of timed, so that it is the same on any
machine however busy.

    python bench/work.py             counts, beside what is recorded
    python bench/work.py --record    records it as the new standard, in bench/work.json

Counted for each job: `opcodes`, steps of the Python interpreter in our code and all that it calls; `sql`, steps of
SQLite's machine; `commits`; and `bytes` sent. `tests/test_work.py` fails when one of them is more than `LOSS_MAX` above
what is recorded. What C code does inside one step is not seen; `make bench` sees it.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from alone import CALL, Alone, jobs
from noop import noop

from eventmq.client.call import messages_of
from eventmq.client.exchange import Exchange
from eventmq.protocol import v1, v2
from eventmq.store.open import open_store
from eventmq.workers.effects import Connect, Send, Tell
from eventmq.workers.execute import Executor
from eventmq.workers.foreman import Foreman, Rules
from eventmq.workers.messages import Done, Ready, Run, decode_command
from eventmq.workers.resolve import Resolver
from eventmq.workers.session import Identity

RECORDED = Path(__file__).with_suffix(".json")

LOSS_MAX = 0.15
"""More than this above what is recorded is a loss. Half of it is room for other releases of Python and SQLite."""

JOBS = 200
"""In one turn, as when the Router is busy."""

SINGLES = 20
"""Jobs that come one by one."""

Work = dict[str, float]


class Meter:
    """Counts what happens inside `counting`; SQLite's part for connections that were opened while it exists."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.on = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """From here on."""
        before = sys.gettrace()
        self.on = True
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)
            self.on = False

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            self.counted["opcodes"] += 1
        return self._step

    @contextmanager
    def watching_sqlite(self) -> Iterator[None]:
        """Connections that are opened meanwhile are counted."""
        connect = sqlite3.connect

        def watched(*arguments: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **named)
            connection.set_progress_handler(self._sql_step, 1)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]
        try:
            yield
        finally:
            sqlite3.connect = connect

    def _sql_step(self) -> int:
        self.counted["sql"] += self.on
        return 0

    def _statement(self, text: str) -> None:
        self.counted["commits"] += self.on and text.startswith("COMMIT")


# ---- the Router ----------------------------------------------------------------------------------------


@contextmanager
def router(meter: Meter) -> Iterator[tuple[Alone, Callable[..., list[Any]]]]:
    """A Router that has managers, and its turn, counted."""
    with meter.watching_sqlite(), closing(open_store("memory:", "none")) as store:
        alone = Alone(store)
        alone.turn([alone.inform(), alone.inform(b"other", ("other",))])
        cycle(alone.turn, alone, JOBS)  # what is made once is made

        def turn(*given: Any) -> list[Any]:
            with meter.counting():
                sends = alone.turn(*given)
            meter.counted["bytes"] += sum(len(frame) for send in sends for frame in send.frames)
            return sends

        yield alone, turn


def cycle(turn: Callable[..., list[Any]], alone: Alone, many: int) -> None:
    """Jobs are accepted, handed out, settled; a turn for each."""
    alone.turn(alone.requests(jobs(many)))
    turn(alone.replies(alone.turn([alone.ready(many)])))


def accept(meter: Meter) -> int:
    with router(meter) as (alone, turn):
        turn(alone.requests(jobs(JOBS)))
    return JOBS


def hand_out(meter: Meter) -> int:
    with router(meter) as (alone, turn):
        alone.turn(alone.requests(jobs(JOBS)))
        turn([alone.ready(JOBS)])
    return JOBS


def settle(meter: Meter) -> int:
    with router(meter) as (alone, turn):
        cycle(turn, alone, JOBS)
    return JOBS


def one_by_one(meter: Meter) -> int:
    """Each is accepted, handed out and settled alone."""
    with router(meter) as (alone, turn):
        alone.turn([alone.ready(SINGLES)])
        for _ in range(SINGLES):
            turn(alone.replies(turn(alone.requests(jobs(1)))))
    return SINGLES


def of_1_0(meter: Meter) -> int:
    """The same between peers of 2020: five messages for each job."""
    with router(meter) as (alone, turn):
        ids = map(str, count())

        def say(command: bytes, *frames: str) -> list[bytes]:
            return [b"old", *v1.encode(command, next(ids), *frames)]

        alone.turn([("backend", say(b"INFORM", '[[10, "old"]]', "worker"))])
        what = {"path": "jobs", "callable": "noop", "args": [], "kwargs": {}, "class_args": [], "class_kwargs": {}}
        call = json.dumps(["run", what])
        for _ in range(SINGLES):
            turn([("backend", say(b"READY"))])
            sends = turn([("frontend", say(b"REQUEST", "old", "", call))])
            (handed,) = (send for send in sends if send.frames[2] == b"REQUEST")
            turn([("backend", say(b"REPLY", '{"value": true}', handed.frames[3].decode()))])
    return SINGLES


def idle(meter: Meter) -> int:
    """Turns in which nothing comes; one of them is a job."""
    with router(meter) as (_, turn):
        for _ in range(SINGLES):
            turn()
    return SINGLES


# ---- the others ------------------------------------------------------------------------------------------


def enqueue(meter: Meter) -> int:
    """A client's call of `map`, its REQUEST, its ACK."""
    exchange = Exchange("tcp://127.0.0.1:1")
    with meter.counting():
        exchange.deliver(messages_of(noop, [()] * JOBS), 1.0, 5.0)
        (frames,) = exchange.outgoing(1.0)
        exchange.receive(v2.encode(b"ACK", v2.Ack(1)), 1.0)
    meter.counted["bytes"] += sum(map(len, frames))
    return JOBS


def manage(meter: Meter) -> int:
    """A manager gets jobs, gives them to its worker, tells how they ended."""
    foreman = Foreman(Rules(1), Identity("m", "nonce"), dict, lambda: "")

    def turn() -> list[Any]:
        return foreman.end_turn(1.0, 1.0)

    foreman.start()
    turn()
    foreman.on_event(1, Ready(), 1.0)
    assert Connect() in turn()
    foreman.on_connected(1.0)
    turn()
    foreman.on_frames(v2.encode(b"ACK", v2.Informed(1, [])), 1.0)
    turn()
    _through(foreman, turn, 1, 4)  # this kind of job is known to be tiny now
    with meter.counting():
        _through(foreman, turn, 5, JOBS)
    return JOBS


def _through(foreman: Foreman, turn: Callable[[], list[Any]], first: int, many: int) -> None:
    handed = [v2.Job(str(n), "default", "noop.noop", CALL, lease=n) for n in range(first, first + many)]
    foreman.on_frames(v2.encode(b"REQUEST", v2.Request(first + many - 1, handed)), 1.0)
    while foreman.held():
        told = [decode_command(effect.message) for effect in turn() if isinstance(effect, Tell)]
        begun = [job for command in told if isinstance(command, Run) for job in command.jobs]
        outcomes = [v2.Outcome(job.id, job.lease, "succeeded", b"\xc0", None, 0.00001) for job in begun]
        foreman.on_event(1, Done(outcomes), 1.0)
    assert any(isinstance(effect, Send) for effect in turn())


def run(meter: Meter) -> int:
    """A worker runs jobs and packs their outcomes."""
    executor = Executor(Resolver())
    handed = [v2.Job(str(n), "default", "noop.noop", CALL, lease=n) for n in range(JOBS)]
    executor.run(handed[0])
    with meter.counting():
        for job in handed:
            executor.run(job)
    return JOBS


def reference(meter: Meter) -> int:
    """Nothing of ours: what another release of Python makes of the same code."""
    with meter.counting():
        _plain(JOBS)
    return JOBS


def _plain(many: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for number in range(many):
        key = str(number % 7)
        if key in found:
            found[key] += len(key) + min(number, 3)
        else:
            found[key] = int(key)
        [each for each in (key, number) if each]
    return found


SCENARIOS: dict[str, Callable[[Meter], int]] = {
    "reference": reference,
    "accept": accept,
    "hand out": hand_out,
    "settle": settle,
    "one by one": one_by_one,
    "eMQP/1.0": of_1_0,
    "idle turn": idle,
    "enqueue": enqueue,
    "manage": manage,
    "run": run,
}


# ---- judging -----------------------------------------------------------------------------------------------


def count_work() -> dict[str, Work]:
    """Work for each job, by scenario."""
    found = {}
    for name, scenario in SCENARIOS.items():
        meter = Meter()
        many = scenario(meter)
        found[name] = {what: round(number / many, 2) for what, number in sorted(meter.counted.items()) if number}
    return found


def losses(found: dict[str, Work], recorded: dict[str, Work]) -> list[str]:
    """What has become worse, in sentences. Steps of the interpreter are seen beside those of `reference`."""
    python = found["reference"]["opcodes"] / recorded["reference"]["opcodes"]
    said = []
    for name, work in found.items():
        for what, number in work.items():
            standard = recorded.get(name, {}).get(what, 0.0) * (python if what == "opcodes" else 1.0)
            if number > standard * (1 + LOSS_MAX) and number - standard > 0.01:
                more = f"{number / standard - 1:.0%} more" if standard else "new"
                said.append(f"{name}: {number:g} {what} for each job, {standard:g} are recorded ({more})")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description="Work of the hot paths, counted.")
    parser.add_argument("--record", action="store_true", help="make what is counted the new standard")
    found = count_work()
    if parser.parse_args().record:
        RECORDED.write_text(json.dumps(found, indent=2) + "\n")
    recorded = json.loads(RECORDED.read_text())
    for name, work in found.items():
        before = recorded.get(name, {})
        told = (f"{number:10,.1f} {what} ({before.get(what, 0):,.1f})" for what, number in work.items())
        print(f"{name:>12}  " + "  ".join(told))
    print("For each job, and in brackets what is recorded.")
    for sentence in losses(found, recorded):
        print(sentence, file=sys.stderr)
    return bool(losses(found, recorded))


if __name__ == "__main__":
    sys.exit(main())
