"""What a process asks of the kernel, seen and changed by `strace` (a Debian package of that name).

`strace -D` leaves the traced process what it is: its id, its parent and its exit code.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

STORES = ("pwrite64", "fdatasync", "ftruncate", "unlink")
"""What SQLite does to the disk."""

SENDS = ("write", "sendto")
"""What reaches others: frames, and what wakes the thread that sends them."""


def need() -> None:
    """Skips the test where there is no strace; in CI that is a failure."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")


def watch(calls: tuple[str, ...], to: Path, *more: str) -> list[str]:
    """The command that notes `calls` of all threads of what follows it."""
    return ["strace", "-D", "-f", "-q", "-o", str(to), "-e", f"trace={','.join(calls)}", *more]


def kill_at(call: str, n: int) -> list[str]:
    """The command that kills what follows it before any of its threads makes its n-th `call`."""
    return watch((call,), Path("/dev/null"), "-e", f"inject={call}:signal=KILL:when={n}")


def counts(trace: Path) -> dict[str, int]:
    """How often each call was made, by the thread that made it most often: that is how `kill_at` counts."""
    made = Counter(re.findall(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE))
    found: Counter[str] = Counter()
    for (_, call), count in made.items():
        found[call] = max(found[call], count)
    return dict(found)
