"""The systems that are compared: what each needs installed, what stands behind it, and in which modes it is measured.

A module of this package holds one system: its jobs, which its workers import, and the adapter that drives it. It is
imported only where that system is installed; `README.md` says why each is set up as it is.
"""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """One system.

    Attributes:
        requirements: What pip installs into an environment of its own; empty = the one that runs the tests.
        modes: How durable what stands behind it is, from most to least.
    """

    requirements: tuple[str, ...]
    modes: tuple[str, ...]


DURABILITIES = ("full", "process", "none")
PERSISTENCES = ("always", "everysec", "off")

SYSTEMS = {
    "eventmq": Recipe((), DURABILITIES),
    "celery": Recipe(("celery[redis]", "hiredis"), PERSISTENCES),
    "dramatiq": Recipe(("dramatiq[redis]", "hiredis"), PERSISTENCES),
    "rq": Recipe(("rq", "hiredis"), PERSISTENCES),
    "huey": Recipe(("huey", "redis", "hiredis"), PERSISTENCES),
    "arq": Recipe(("arq",), PERSISTENCES),
    "saq": Recipe(("saq[redis,hiredis]", "typing_extensions"), PERSISTENCES),
    "taskiq": Recipe(("taskiq", "taskiq-redis", "hiredis", "uvloop"), PERSISTENCES),
}

OURS = "eventmq"
PEERS = tuple(name for name in SYSTEMS if name != OURS)
