"""100,000 jobs at once: all run, each once. Then memory settles, the store forgets, and its file becomes shorter."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

from .processes import System, until

CLIENTS, JOBS = 4, 25_000

CLIENT = """
import sys
import eventmq
from system_jobs import tick
eventmq.configure(broker_addr=sys.argv[1], enqueue_timeout=60)
first, count = int(sys.argv[3]), int(sys.argv[4])
tick.map([(sys.argv[2], first + n) for n in range(count)])
"""

TWO_HOURS_S = 7200.0
"""Longer than any outcome is kept by default."""


def ran(file: Path) -> list[int]:
    """The numbers that `tick` jobs have left, sorted."""
    found = array("q", file.read_bytes())
    if sys.byteorder != "little":
        found.byteswap()
    return sorted(found)


def test_each_runs_once_and_then_memory_and_file_settle(system: System) -> None:
    router = system.start_router()
    for name in ("one", "two"):
        system.start_manager(name, workers=1)
    before, file = router.rss, system.folder / "ticks"
    file.touch()
    clients = [
        system.start(
            f"client-{n}", [sys.executable, "-c", CLIENT, system.frontend, str(file), str(n * JOBS), str(JOBS)]
        )
        for n in range(CLIENTS)
    ]
    for client in clients:
        assert client.wait(60) == 0, client.log
    until(lambda: system.count("succeeded") >= CLIENTS * JOBS, "all have ended", 60)
    assert ran(file) == list(range(CLIENTS * JOBS))
    status = system.ask("STATUS")
    assert status["jobs"]["waiting"] == status["jobs"]["running"] == 0
    assert status["jobs"]["kept"] == CLIENTS * JOBS
    assert router.rss - before < 150 << 20
    full = status["store"]["bytes"]
    assert full < 500 * CLIENTS * JOBS

    router.terminate()
    router = system.start_router(later_s=TWO_HOURS_S)
    until(lambda: system.ask("STATUS")["jobs"]["kept"] == 0, "all are forgotten", 30)
    until(lambda: system.ask("STATUS")["store"]["bytes"] < full / 2, "the file is shorter", 10)
    assert router.rss < before + (80 << 20), "of which the journal of 50,000 jobs, read at the start, takes most"
