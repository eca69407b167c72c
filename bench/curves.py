"""What more of something costs the Router: jobs for each second of its CPU, and its memory, against backlog, queues,
managers, clients, payload, priorities and delayed jobs.

    python bench/curves.py [--quick] [--only backlog,queues] [--out build/bench]

A second of CPU depends less on what else the machine does than one of the clock, so points of different times can be
compared, roughly; what a sync waits for the disk is not in it (`throughput.py` has that). Each point is a process of
its own and the best of `REPEATS`, between which the others have their turn. Managers and clients are connections over
loopback to a Router in a process of its own (`crowd.py`); for the rest the Router is turned by hand, with its store in
a file (`alone.py`). Figures go to `curves.json`, the plots to `curves.svg`; curves that are measured again take the
place of what is there.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from alone import BATCH_JOBS, CALL, Alone, jobs
from chart import Plot, plots

from eventmq import limits
from eventmq.protocol import v2
from eventmq.store.open import open_store

ROOT = Path(__file__).parent.parent
REPEATS = 3
LONG = 300_000
"""A point this large takes minutes and varies little: it is measured once."""

THROUGH = 60_000
"""Jobs that are accepted, handed out and settled for one point: enough that a deep queue reads pages."""

Figures = dict[str, float]


class Curve(NamedTuple):
    """One plot.

    Attributes:
        title: Above it.
        points: What is on its horizontal axis.
        measure: The figures of one point: at least `rate`.
        quick: How many of the points a quick run has.
    """

    title: str
    points: tuple[int, ...]
    measure: Callable[[int], Figures]
    quick: int = 3


# ---- a Router turned by hand -----------------------------------------------------------------------------


@contextmanager
def alone(queues: Iterable[str] = ("default",)) -> Iterator[tuple[Alone, Path]]:
    """A Router on an empty file, and managers that serve all the queues; as in a process of its own."""
    names = list(queues)
    with tempfile.TemporaryDirectory(prefix="eventmq-curve-") as folder:
        file = Path(folder, "router.db")
        store, before = open_store(f"sqlite:///{file}", "process"), gc.get_threshold()
        try:
            made = Alone(store)
            most = limits.QUEUES_PER_MANAGER_MAX
            for number, first in enumerate(range(0, len(names), most)):
                made.turn([made.inform(b"manager%d" % number, names[first : first + most])])
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 20, 50)
            yield made, file
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()
            store.close()


def fill(made: Alone, many: int, **fields: Any) -> None:
    """So many jobs more wait. It takes no time, for managers that said nothing for long would be given up."""
    for first in range(0, many, BATCH_JOBS):
        made.turn(made.requests(jobs(min(BATCH_JOBS, many - first), **fields)), after_s=0.0)


def rate(
    made: Alone,
    new: Callable[[int], list[Any]] = jobs,
    through: int = THROUGH,
    batch: int = BATCH_JOBS,
    request: int = BATCH_JOBS,
) -> float:
    """Jobs for each second of CPU, while as many are settled as come: the backlog stays as it is."""
    managers = list(made.router.pool.managers)
    assert managers, "somebody must run the jobs"
    sends = made.turn([made.ready(batch, each) for each in managers if isinstance(each, bytes)])
    spent, settled = 0.0, -made.router.ledger.counts["succeeded"]
    for _ in range(0, through, batch):
        received = [*made.replies(sends, batch), *made.requests(new(batch), batch=request)]
        began = time.process_time()
        sends = made.turn(received)
        spent += time.process_time() - began
    return (settled + made.router.ledger.counts["succeeded"]) / spent


def rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def backlog(waiting: int) -> Figures:
    with alone() as (made, file):
        before = rss_mb()
        fill(made, waiting)
        rate(made)  # a new store takes jobs into its journal and does not archive them yet
        found = {"rate": rate(made), "memory_mb": rss_mb() - before}
        made.router.store.close()
        began = time.perf_counter()
        store = open_store(f"sqlite:///{file}", "process")
        again = Alone(store).router
        found["restart_s"] = time.perf_counter() - began
        store.close()
        assert sum(map(len, again.ledger.backlogs.values())) >= waiting
    return found


def queues(many: int) -> Figures:
    """Each REQUEST is for one of them, ten of them come in a turn."""
    names = [f"queue-{number}" for number in range(many)]
    turns, share = cycle(names), BATCH_JOBS // 10

    def mixed(count: int) -> list[Any]:
        return [job for _ in range(count // share) for job in jobs(share, [next(turns)])]

    with alone(names) as (made, _):
        before = rss_mb()
        for first in range(0, many, BATCH_JOBS):
            made.turn(made.requests(jobs(min(BATCH_JOBS, many - first), names)))
        for _ in range(THROUGH // 6 // BATCH_JOBS):
            made.turn(made.requests(mixed(BATCH_JOBS), batch=share))
        return {"rate": rate(made, mixed, request=share), "memory_mb": rss_mb() - before}


def payload(size: int) -> Figures:
    batch = min(BATCH_JOBS, max(1, limits.BATCH_BYTES // size))
    through = min(THROUGH, max(200, (64 << 20) // size))
    with alone() as (made, _):
        before = rss_mb()
        data = CALL + b"\0" * max(0, size - len(CALL))
        fill(made, batch, payload=data)
        found = {"rate": rate(made, lambda count: jobs(count, payload=data), through, batch)}
        return found | {"memory_mb": rss_mb() - before, "mb_per_s": found["rate"] * size / 1e6}


def priorities(many: int) -> Figures:
    def mixed(count: int) -> list[Any]:
        made = jobs(count)
        for number, job in enumerate(made):
            job.priority = number * 7 % many - many // 2
        return made

    with alone() as (made, _):
        before = rss_mb()
        for request in made.requests(mixed(THROUGH // 3)):
            made.turn([request])
        return {"rate": rate(made, mixed), "memory_mb": rss_mb() - before}


def delayed(many: int) -> Figures:
    """Beside ordinary jobs; then so many of them come due at one time."""
    with alone() as (made, _):
        before = rss_mb()
        options = v2.pack_options(v2.Options(delay_s=3600.0))
        fill(made, many, options=options)
        found = {"rate": rate(made), "memory_mb": rss_mb() - before}
        made.wall += 7200.0
        due = min(many, THROUGH)
        began, ended = time.process_time(), made.router.ledger.counts["succeeded"]
        sends = made.turn([made.ready(BATCH_JOBS, b"manager0")])
        while made.router.ledger.counts["succeeded"] - ended < due:
            sends = made.turn(made.replies(sends, BATCH_JOBS))
        return found | {"due_rate": due / (time.process_time() - began)}


# ---- a Router with a crowd -------------------------------------------------------------------------------


def managers(many: int) -> Figures:
    from crowd import managers

    return managers(many)


def clients(many: int) -> Figures:
    from crowd import clients

    return clients(many)


CURVES = {
    "backlog": Curve("Waiting jobs", (1_000, 10_000, 100_000, 1_000_000, 10_000_000), backlog),
    "queues": Curve("Queues", (1, 10, 100, 1_000, 10_000), queues, 4),
    "managers": Curve("Connected job managers", (1, 10, 100, 300, 1_000), managers),
    "clients": Curve("Connected clients", (1, 10, 100, 300, 1_000), clients),
    "payload": Curve("Bytes of arguments", (10, 100, 1_000, 10_000, 100_000, 1_000_000), payload, 4),
    "priorities": Curve("Different priorities", (1, 3, 10, 30, 100, 201), priorities, 4),
    "delayed": Curve("Delayed jobs", (1_000, 10_000, 100_000, 1_000_000), delayed),
}


# ---- the run ---------------------------------------------------------------------------------------------


def measured(name: str, point: int) -> Figures:
    """One point, in a process of its own."""
    command = [sys.executable, __file__, "--point", name, str(point)]
    found: Figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def better(found: Figures, before: Figures) -> Figures:
    """The best of two measurements of one point: the other was disturbed."""
    best = max(found, before or found, key=lambda each: each["rate"])
    if "restart_s" in best and before:
        best = best | {"restart_s": min(found["restart_s"], before["restart_s"])}
    return best


def slope(points: dict[int, Figures]) -> float:
    """By how much the rate changes with each ten times more, as a share: least squares over all points."""
    if len(points) < 2:
        return 0.0
    x, y = [math.log10(point) for point in points], [math.log10(each["rate"]) for each in points.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    steep = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return float(10**steep - 1)


def lines(name: str, points: dict[int, Figures]) -> str:
    """A curve in words."""
    rows = [f"{CURVES[name].title}: {slope(points):+.1%} jobs/s with each ten times more"]
    for point, figures in points.items():
        rest = "  ".join(f"{what} {number:,.2f}" for what, number in figures.items() if what != "rate")
        rows.append(f"{point:>12,}  {figures['rate']:>10,.0f} jobs/s  {rest}")
    return "\n".join(rows)


def drawn(data: dict[str, dict[str, Figures]]) -> str:
    found = []
    for name, curve in CURVES.items():
        points = {int(point): figures for point, figures in data.get(name, {}).items()}
        if points:
            said = f"{slope(points):+.1%} with each ten times more"
            found.append(Plot(curve.title, said, [(point, each["rate"]) for point, each in points.items()]))
    return plots("What more of something costs the Router", "jobs per second of its CPU", found)


def main() -> int:
    parser = argparse.ArgumentParser(description="What more of something costs the Router.")
    parser.add_argument("--quick", action="store_true", help="the first points of each curve, once")
    parser.add_argument("--only", default=",".join(CURVES), help="names of curves")
    parser.add_argument("--most", type=int, default=10**9, help="leave out points above")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "POINT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(CURVES[options.point[0]].measure(int(options.point[1]))))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "curves.json"
    data: dict[str, dict[str, Figures]] = json.loads(file.read_text()) if file.exists() else {}
    for name in options.only.split(","):
        curve, found = CURVES[name], dict[int, Figures]()
        chosen = [point for point in curve.points if point <= options.most][: curve.quick if options.quick else None]
        for turn in range(1 if options.quick else REPEATS):
            for point in chosen:
                if point < LONG or not turn:
                    found[point] = better(measured(name, point), found.get(point, {}))
        kept = data.get(name, {}) | {str(point): figures for point, figures in found.items()}
        data[name] = dict(sorted(kept.items(), key=lambda each: int(each[0])))
        file.write_text(json.dumps(data, indent=2) + "\n")
        print(lines(name, {int(point): figures for point, figures in data[name].items()}), flush=True)
    (options.out / "curves.svg").write_text(drawn(data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
