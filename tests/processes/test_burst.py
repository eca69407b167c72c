"""A burst of 100,000 jobs from four clients: all run, each once; then memory and file settle."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
from running import System, until

CLIENTS, JOBS = 4, 25_000

CLIENT = f"""
import sys, deeds
from eventmq import configure
configure(broker_addr=sys.argv[1], enqueue_timeout=60)
handles = deeds.once.options(result_ttl=0).map([(sys.argv[2],)] * {JOBS})
open(sys.argv[3], "w").write("\\n".join(handles))
"""


def test_a_burst_runs_each_job_once_and_then_everything_settles(system: System) -> None:
    router = psutil.Process(system.router().pid)
    system.manager("m1", jobs=1)
    system.manager("m2", jobs=1)
    before = router.memory_info().rss
    ids = [system.folder / f"ids-{n}" for n in range(CLIENTS)]
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, system.addresses["frontend_addr"], system.record, str(path)],
            cwd=Path(__file__).parent,
        )
        for path in ids
    ]
    assert [client.wait(60) for client in clients] == [0] * CLIENTS
    until(lambda: system.count("succeeded") == CLIENTS * JOBS, "all have ended", 60)
    accepted = Counter(id for path in ids for id in path.read_text().split())
    assert len(accepted) == CLIENTS * JOBS
    assert Counter(Path(system.record).read_text().split()) == accepted
    grown = router.memory_info().rss - before
    assert grown < 150 << 20, f"the Router has grown by {grown >> 20} MiB"
    size = system.status()["store"]["bytes"]
    time.sleep(1)  # nothing happens: nothing may grow
    assert system.status()["store"]["bytes"] <= size
    assert router.memory_info().rss - before <= grown + (5 << 20)
