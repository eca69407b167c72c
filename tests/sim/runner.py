"""Many seeds on all cores, one seed with its trace, or a proof that planted mistakes are seen."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from sim.mistakes import PLANTED, planted
from sim.world import Report, run

REGRESSIONS = Path(__file__).parent / "regressions.txt"
SHOWN = 5
"""Failures that are shown in full."""

FOUND_WITHIN_S = 120.0


class Found(NamedTuple):
    """What became of one planted mistake; `seed` 0: it was not seen."""

    name: str
    seed: int
    seconds: float
    failure: str


def regressions() -> list[tuple[int, str]]:
    """Seeds that have failed once, and their profile; always run first."""
    lines = (line.partition("#")[0].split() for line in REGRESSIONS.read_text().splitlines())
    return [(int(words[0]), words[1] if len(words) > 1 else "") for words in lines if words]


def run_one(case: tuple[int, str]) -> Report:
    return run(*case)


def look_for(name: str) -> Found:
    """Runs seeds until the planted mistake is seen."""
    began = time.perf_counter()
    seed = 0
    with planted(name):
        while time.perf_counter() - began < FOUND_WITHIN_S:
            seed += 1
            report = run(seed, PLANTED[name].profile, **PLANTED[name].options)
            if report.failure:
                return Found(name, seed, time.perf_counter() - began, report.failure)
    return Found(name, 0, time.perf_counter() - began, "")


def pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def run_many(first: int, count: int, profile: str, processes: int, digests: bool) -> int:
    """Prints what failed and the totals; the number of failures."""
    began = time.perf_counter()
    cases = chain(regressions(), ((seed, profile) for seed in range(first, first + count)))
    failed: list[Report] = []
    total: Counter[str] = Counter()
    with pool(processes) as executor:
        for report in executor.map(run_one, list(cases), chunksize=4):
            total.update(seeds=1, events=report.events, turns=report.turns, jobs=report.jobs, runs=report.runs)
            total.update(repeats=report.repeats, simulated_s=round(report.simulated_s))
            total.update({f"fault:{kind}": times for kind, times in report.struck.items()})
            if digests:
                print(f"trace {report.seed} {report.digest}")
            if report.failure:
                failed.append(report)
                show(report, full=len(failed) <= SHOWN)
    took = time.perf_counter() - began
    print(f"{total['seeds']} seeds in {took:.1f} s: {total['seeds'] / took:.1f} a second, {total['events']} events, ")
    print(f"{total['simulated_s'] / 3600:.2f} simulated hours, {total['simulated_s'] / 60 / took:.1f} a minute; ")
    print(f"{total['jobs']} jobs, {total['runs']} runs, {total['repeats']} of them for a second time, ")
    faults = (f"{key.removeprefix('fault:')} {n}" for key, n in sorted(total.items()) if key.startswith("fault:"))
    print(f"{total['turns']} turns of the Router; {', '.join(faults) or 'no trouble'}")
    print(f"{len(failed)} failed" + (f": {' '.join(str(report.seed) for report in failed)}" if failed else ""))
    return len(failed)


def show(report: Report, full: bool) -> None:
    print(f"\nFAILED {report.options}")
    if full:
        print("\n".join(report.trace[-40:]))
    print(f"\n    {report.failure}\n\n    again, with its trace: make sim SEED={report.seed}\n")


def look_for_all(names: list[str], processes: int) -> Iterator[Found]:
    with pool(processes) as executor:
        yield from executor.map(look_for, names)


def run_planted(processes: int) -> int:
    """Prints which seed saw each mistake, and how long it took; the number of those not seen."""
    missed = 0
    for found in look_for_all(list(PLANTED), processes):
        missed += not found.seed
        how = f"seed {found.seed:3}" if found.seed else "NOT SEEN"
        print(f"{found.name:26} {how} {found.seconds:6.2f} s  {found.failure[:110]}", flush=True)
    return missed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="one only, with its trace")
    parser.add_argument("--profile", default="", help="a kind of trouble, instead of what each seed draws")
    parser.add_argument("--plant", default="", choices=["", *PLANTED], help="a mistake to plant, with --seed")
    parser.add_argument("--planted", action="store_true", help="look for every planted mistake")
    parser.add_argument("--digests", action="store_true", help="print a hash of each seed's trace")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def main() -> int:
    """Returns the exit code."""
    given = arguments()
    if given.planted:
        return min(1, run_planted(given.processes))
    if given.seed is None:
        return min(1, run_many(given.first, given.seeds, given.profile, given.processes, given.digests))
    with planted(given.plant):
        report = run(given.seed, given.profile, loud=True)
    print(f"trace {report.digest}, {report.events} events, {report.simulated_s:.1f} s simulated")
    return bool(report.failure)
