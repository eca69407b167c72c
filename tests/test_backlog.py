"""A long head of a queue: what is taken out of its middle, or comes back to it, is found at once."""

from __future__ import annotations

import random
import time

from world import job

from eventmq.broker.backlog import Backlog, Room
from eventmq.broker.timers import Expiries

JOBS = 100_000
ACTS = 1_000
"""As many as one message may be about."""

SOON_S = 0.5
"""Ten times what it takes to find so many; looking at every job before them takes ten times longer."""


def test_no_message_holds_the_loop_however_long_the_head() -> None:
    backlog = Backlog("default", Room(Expiries({})))
    jobs = [job(f"j{seq}", seq=seq, payload=b"") for seq in range(JOBS)]
    for each in jobs:
        backlog.push(each)
    some = random.Random(1).sample(jobs, ACTS)
    began = time.process_time()
    for each in some:
        backlog.remove(each)
    assert backlog.head == JOBS - ACTS
    for each in some:
        backlog.push_back(each)
    assert time.process_time() - began < SOON_S
    assert backlog.pop(JOBS) == jobs
