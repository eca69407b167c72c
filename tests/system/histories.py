"""The outside checker: from two files of JSON lines, one by clients and one by jobs, it tells which promise was broken.

    {"event": "sent"|"acked", "id": …}                        a client hands in a job; the Router has acknowledged it
    {"event": "ended", "id": …, "state": …, "attempt": …}     a client was told how it ended, as often as it asked
    {"event": "cause", "pid": …}                              the test took down this worker process, or its manager
    {"event": "begin"|"end", "id": …, "attempt": …, "pid": …, "at": …}     the job itself says so (`system_jobs.say`)

It knows nothing of EventMQ: only what was acknowledged and what ran. Each line is one write to a file opened with
O_APPEND, so lines of many processes do not mix, and what was written before a kill stays.

    python histories.py client.jsonl jobs.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class History:
    """One such file, to append to and to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, event: str, **facts: Any) -> None:
        os.write(self._file, json.dumps({"event": event, **facts}).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def broken(client: Iterable[Line], jobs: Iterable[Line]) -> list[str]:
    """What must not have happened; empty if everything adds up, all that was acknowledged having had time to end."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    outcomes: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    causes: set[int] = set()
    for line in client:
        if line["event"] == "cause":
            causes.add(line["pid"])
            continue
        said[line["event"]].add(line["id"])
        if line["event"] == "ended":
            outcomes[line["id"]].add((line["state"], line["attempt"]))
    runs: defaultdict[str, list[Line]] = defaultdict(list)
    for line in sorted(jobs, key=lambda line: line["at"]):
        if line["event"] == "begin":
            runs[line["id"]].append(line)
    found = [f"{id} was acknowledged and has no end" for id in said["acked"] - outcomes.keys()]
    found += [f"{id} ran and nobody sent it" for id in runs.keys() - said["sent"]]
    found += [f"{id} ended and nobody sent it" for id in outcomes.keys() - said["sent"]]
    for id, ends in outcomes.items():
        if len(ends) > 1:
            found.append(f"{id} ended more than once: {sorted(ends)}")
        if id not in runs and any(state == "succeeded" for state, _ in ends):
            found.append(f"{id} succeeded and never ran")
    for id, begun in runs.items():
        found += _twice_without_cause(id, begun, causes)
    return found


def _twice_without_cause(id: str, runs: list[Line], causes: set[int]) -> list[str]:
    """A run after another one needs a cause: the process of the earlier one was taken down; and it is told by its
    number."""
    found = []
    for before, again in pairwise(runs):
        if before["pid"] not in causes:
            found.append(f"{id} ran again, and process {before['pid']}, where it had run, was well")
        if again["attempt"] <= before["attempt"]:
            found.append(f"{id} ran again as attempt {again['attempt']} after {before['attempt']}")
    return found


if __name__ == "__main__":
    problems = broken(*(lines(Path(name)) for name in sys.argv[1:3]))
    print("\n".join(problems) or "everything adds up")
    sys.exit(bool(problems))
