"""How much work may lie ready behind a running job: learned from how long jobs of each name ran.

Only jobs that are known to be tiny are handed out ahead of time, and about `WINDOW_S` of them; a name that is new or
slow gets a worker to itself. A wrong guess costs little: the worker gives back what is stuck. Pure.
"""

from __future__ import annotations

from eventmq import limits
from eventmq.protocol.v2 import Job, options_of

TINY_S = 0.001
"""Mean run time below which a job is tiny: handing over a single job costs about a fifth of that."""

KNOWN_AFTER = 3
"""Runs after which a name's mean is believed."""

MEMORY = 1 - 1 / 64
"""Weight of the past in a mean, per job: a single slow run of 64 ms makes a name slow for a few dozen jobs."""

NAMES_MAX = 10_000
"""Names remembered. There are as many as jobs in the user's code; a flood of wrong ones starts the memory anew."""


class Lookahead:
    """Mean run times, by name and over all.

    Attributes:
        tiny: Names of jobs that may be handed out ahead.
    """

    def __init__(self) -> None:
        self.tiny: set[str] = set()
        self._means: dict[str, float] = {}
        self._runs: dict[str, int] = {}
        self._mean: float | None = None

    def learn(self, name: str, runs: int, total_s: float) -> None:
        """`runs` jobs of this name took `total_s` together."""
        kept = MEMORY**runs
        mean = total_s / runs
        self._mean = mean if self._mean is None else mean + (self._mean - mean) * kept
        if name not in self._means:
            if len(self._means) >= NAMES_MAX:
                self._means.clear()
                self._runs.clear()
                self.tiny.clear()
            self._means[name] = mean
        else:
            self._means[name] = mean + (self._means[name] - mean) * kept
        self._runs[name] = self._runs.get(name, 0) + runs
        if self._runs[name] >= KNOWN_AFTER and self._means[name] < TINY_S:
            self.tiny.add(name)
        else:
            self.tiny.discard(name)

    def goes_ahead(self, job: Job) -> bool:
        """Whether it may share a worker: it is tiny, and needs neither to be stopped alone (`on_partition`) nor to be
        safe from being stopped for another's sake (`redeliver`)."""
        if job.name not in self.tiny:
            return False
        options = options_of(job.options)
        return options.redeliver and options.on_partition == "finish"

    @property
    def window(self) -> int:
        """Jobs that one worker may hold beyond the one that it runs, as recent jobs go."""
        if self._mean is None or self._mean >= TINY_S or not self.tiny:
            return 0
        return min(limits.WINDOW_JOBS_MAX, int(limits.WINDOW_S / max(self._mean, 1e-6)))
