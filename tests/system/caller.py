"""A client that writes down what it sends, what was acknowledged and what it was told of ends, for `histories`.

In a test's own process, or as one that sends until a file is there, and then hears of every job that was acknowledged:

    python -m system.caller FRONTEND HISTORY JOURNAL STOP [--ahead 50]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventmq import Client
from eventmq.client.ids import new_id
from eventmq.errors import EnqueueError
from eventmq.protocol.calls import pack_call
from eventmq.protocol.v2 import Job

from .histories import History

PATIENCE_S = 60.0
ASK_AGAIN_S = 0.25
"""A Router that was restarted does not know who waits. A client asks again after five seconds; a test has no time."""


class Caller:
    """One client.

    Args:
        frontend: The Router's.
        history: Where it writes.
        patience_s: How long it tries to hand in jobs.
    """

    def __init__(self, frontend: str, history: History, patience_s: float = PATIENCE_S) -> None:
        self.client = Client(frontend, enqueue_timeout=patience_s)
        self.history = history

    def send(self, name: str, args: Iterable[Any], count: int = 1) -> list[str]:
        """Hands in `count` jobs in one message; returns the ids of those that were acknowledged."""
        jobs = [Job(new_id(), "default", f"system_jobs.{name}", pack_call(tuple(args), {})) for _ in range(count)]
        for job in jobs:
            self.history.note("sent", id=job.id)
        try:
            self.client.submit(jobs)
        except EnqueueError as error:
            for job in jobs:
                self.history.note("refused", id=job.id, why=f"{getattr(error, 'reason', '')}: {error}")
            return []
        for job in jobs:
            self.history.note("acked", id=job.id)
        return [job.id for job in jobs]

    def hear(self, ids: Iterable[str], within_s: float = PATIENCE_S) -> None:
        """Waits until all have ended, or the time is over."""
        missing, deadline = set(ids), time.monotonic() + within_s
        while missing and time.monotonic() < deadline:
            for id, result in self.client.results(missing, ASK_AGAIN_S).items():
                self.history.note("ended", id=id, state=result.state, attempt=result.attempt)
                missing.discard(id)

    def close(self) -> None:
        self.client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("frontend", "history", "journal", "stop"):
        parser.add_argument(name)
    parser.add_argument("--ahead", type=int, default=50, help="jobs that may wait or run")
    options = parser.parse_args()
    caller = Caller(options.frontend, History(Path(options.history)))
    acked: list[str] = []
    while not Path(options.stop).exists():
        acked += caller.send("nap", (options.journal, 0.001 * (len(acked) % 40)), 1 + len(acked) % 20)
        acked += caller.send("note", (options.journal,))
        caller.hear(acked[: -options.ahead][-options.ahead :])
    caller.hear(acked)


if __name__ == "__main__":
    main()
