"""What an operator's questions cost the Router's loop, with many dead and many waiting jobs in a SQLite file.

    python bench/operators.py --dead 200000 --waiting 1000000

Times one turn for each question, mean and 99th percentile, by the clock and in CPU time; and how long a list or an act
takes over all jobs, slice by slice, without the way between the processes. Nothing is forgotten meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.broker.policy import Policy
from eventmq.client.query import parse
from eventmq.protocol import v2
from eventmq.protocol.calls import pack_call
from eventmq.protocol.v2 import Failure, Job
from eventmq.router import Router
from eventmq.store.base import Changes, Ended
from eventmq.store.sqlite import SqliteStore

BATCH = 5_000

TURNS_MAX = 1_000
"""Turns that one question is measured for."""

FAILURE = v2.pack(Failure("builtins.ValueError", "no such user", "Traceback (most recent call last):\n" * 40))


def filled(path: str, dead: int, waiting: int) -> SqliteStore:
    """A store with dead jobs that are older than the waiting ones."""
    store = SqliteStore(path, "none")
    store.load()
    payload = pack_call((7, "Welcome"), {"user": {"id": 42}})
    seq = 0
    while seq < dead + waiting:
        seqs = range(seq + 1, seq + 1 + BATCH)
        jobs = [
            Job(f"{n:032x}", "email" if n % 10 else "rare", "tasks.send", payload, seq=n, created=1.0) for n in seqs
        ]
        store.apply(Changes(added=jobs) if seq < dead else Changes(spilled=jobs))
        if seq < dead:
            ends = (
                Ended(n, "dead", 2.0, 9e9, 1, 0, 0.1, "host-1", b"", FAILURE, "builtins.ValueError: no") for n in seqs
            )
            store.apply(Changes(ended=list(ends)))
        store.upkeep()
        seq += BATCH
    store.close()
    return SqliteStore(path, "full")


class Asker:
    """Asks a Router turn by turn, and measures the turns."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.turns_s: list[float] = []
        self.cpu_s: list[float] = []

    def ask(self, command: str, **params: Any) -> Any:
        question = (ADMINISTRATIVE, [b"operator", *v2.encode(command.encode(), v2.Question(1, params))])
        began, began_cpu = time.perf_counter(), time.process_time()
        sent = self.router.turn([question], [], time.monotonic(), 1e9)
        self.turns_s.append(time.perf_counter() - began)
        self.cpu_s.append(time.process_time() - began_cpu)
        (answer,) = (v2.decode(each.frames[3], v2.Answer).answer for each in sent if each.peer == b"operator")
        return answer

    def slices(self, command: str, **selection: Any) -> Iterator[Any]:
        before = None
        while True:
            answer = self.ask(command, before=before, **selection)
            yield answer
            before = answer["next"]
            if before is None:
                return

    def measure(self, command: str, query: str) -> None:
        self.turns_s.clear()
        self.cpu_s.clear()
        count = 0
        for answer in islice(self.slices(command, **msgspec.to_builtins(parse(query, time.time()))), TURNS_MAX):
            told = next(iter(answer.values()))
            count += told if isinstance(told, int) else len(told)
        said = f"{count:9,} jobs in {len(self.turns_s):5,} turns, {sum(self.turns_s):6.2f} s"
        print(f"{command:8}{query:34}{said}; ms {_ms(self.turns_s)}; of CPU {_ms(self.cpu_s)}", flush=True)


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    mean, p99 = sum(ordered) / len(ordered), ordered[int(len(ordered) * 0.99)]
    return f"mean {mean * 1e3:5.2f}, p99 {p99 * 1e3:5.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dead", type=int, default=200_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = filled(str(Path(folder, "store.db")), given.dead, given.waiting)
        asker = Asker(Router(store, Policy(dead_max=1 << 40)))
        for command, query in (
            ("COUNT", "state:dead"),
            ("JOBS", "state:dead,lost"),
            ("JOBS", "state:dead error:TypeError"),
            ("JOBS", "state:dead arg.0:8"),
            ("JOBS", "state:waiting queue:rare"),
            ("JOBS", "state:succeeded"),
            ("JOBS", "queue:email since:1s"),
            ("REQUEUE", "state:dead queue:rare"),
            ("REQUEUE", "state:dead"),
            ("CANCEL", "state:waiting,delayed queue:rare"),
        ):
            asker.measure(command, query)
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
