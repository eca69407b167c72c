"""Imports the user's modules, and finds the schedules that stand in them beside their jobs."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable

from eventmq.client import jobs
from eventmq.client.call import message_of
from eventmq.protocol.scheduling import Declared, Schedule


def import_modules(names: Iterable[str]) -> list[Declared]:
    """Imports modules one after another; raises whatever that raises.

    Returns:
        What each declares, also that it declares nothing. What it imports itself counts as its own, unless a module
        before it has imported that.
    """
    found = []
    for name in names:
        since, first = time.time(), len(jobs.declared)
        importlib.import_module(name)
        schedules = [
            Schedule(job.name, "declared", rule, message_of(job, (), {})) for job, rule in jobs.declared[first:]
        ]
        found.append(Declared(name, since, schedules))
    return found
