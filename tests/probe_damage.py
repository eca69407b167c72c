"""Opens damaged copies of a store, each in a child of its own, and says what became of each.

    python probe_damage.py FOLDER < orders

FOLDER has copies of a store, 0, 1, …, each `store.db` and what lies beside it; the newest is what is damaged, the
others are states that were. An order is one line, `file offset byte`: that byte is exclusive-ored into the file at that
offset; or with `cut` in the place of a byte, the file ends there. The answer is one line: `same`, the number of commits
that the state is behind, `refused …` and why, or what else happened. Forking keeps a probe at a few milliseconds, and a
crash or a hang inside SQLite to one of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from eventmq.errors import StoreError
from eventmq.store.base import Wanted
from eventmq.store.sqlite import SqliteStore

IDS = [f"id-{seq}" for seq in range(40)] + [f"{seq * 1_000:012x}7{seq:019x}" for seq in range(40, 60)]
PROBE_S = 20


def everything(path: Path) -> dict[str, Any]:
    """All that can be read of a store, the epoch left out."""
    store = SqliteStore(str(path), "full")
    snapshot = store.load()._replace(epoch=0)
    ended = {line.id for line in store.browse(Wanted(), 1 << 60, 1e6, 1_000, 1_000).lines if line.state != "waiting"}
    said = {
        "snapshot": snapshot,
        "found": sorted(store.find(IDS), key=lambda record: record.job.seq),
        "pages": [store.page(queue, (-101, 0), 1_000) for queue in ("a", "b")],
        "due": store.due((0.0, 0), 1_000),
        "holders": store.holders("tasks.add", "key"),
        "ended": ended,
    }
    store.close()
    return said


def probe(folder: Path, order: str, states: list[dict[str, Any]]) -> str:
    name, offset, change = order.split()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        for file in folder.glob("store.db*"):
            shutil.copy(file, place)
        with (Path(place) / name).open("r+b") as file:
            if change == "cut":
                file.truncate(int(offset))
            else:
                file.seek(int(offset))
                byte = file.read(1)[0]
                file.seek(int(offset))
                file.write(bytes([byte ^ int(change)]))
        try:
            found = everything(Path(place) / "store.db")
        except StoreError as error:
            return f"refused {error}".replace("\n", " ").replace(place, "")
        if found == states[-1]:
            return "same"
        behind = [n for n, state in enumerate(reversed(states)) if state == found]  # a commit may change nothing of it
        return str(behind[0]) if behind else f"other {found}"[:2_000]


def in_child(folder: Path, order: str, states: list[dict[str, Any]]) -> str:
    """The answer of a child; it ends without closing anything, as a killed Router would."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(PROBE_S)
        try:
            answer = probe(folder, order, states)
        except BaseException as error:
            answer = f"raised {error!r}"
        os.write(into, answer.replace("\n", " ").encode()[:4_000])
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as answers:
        answer = answers.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer if status == 0 else f"crashed with {status}"


def main() -> None:
    folder = Path(sys.argv[1])
    kept = sorted((each for each in folder.iterdir() if each.is_dir()), key=lambda each: int(each.name))
    states = []
    for each in kept:
        with tempfile.TemporaryDirectory() as place:
            for file in each.glob("store.db*"):
                shutil.copy(file, place)
            states.append(everything(Path(place) / "store.db"))
    print(len(states), flush=True)
    for order in sys.stdin:
        print(in_child(kept[-1], order, states), flush=True)


if __name__ == "__main__":
    main()
