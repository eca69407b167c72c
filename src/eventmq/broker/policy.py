"""What an operator may set about the Router's decisions; the settings that it comes from are in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass

from eventmq import limits
from eventmq.values import Bounds


@dataclass(frozen=True)
class Policy:
    """Settings of the deciding code."""

    result_ttl_s: float = limits.RESULT_TTL_S
    results_max: int = limits.RESULTS_MAX
    dead_ttl_s: float = limits.DEAD_TTL_S
    dead_max: int = limits.DEAD_MAX
    queue_jobs_max: Bounds = ()
    crash_limit: int = limits.CRASH_LIMIT
    heartbeat_s: float = limits.HEARTBEAT_S
    silence_s: float = limits.SILENCE_S
    reconcile_s: float = limits.RECONCILE_S
    default_queues: tuple[tuple[int, str], ...] = ((10, "default"),)
