"""One process in the foreground: a Router, a job manager or a scheduler, with its log on stderr."""

from __future__ import annotations

import importlib.machinery
import logging
import os
import sys
from collections.abc import Iterable

from eventmq import logs
from eventmq.errors import SettingsError
from eventmq.settings import Settings

log = logging.getLogger("eventmq")


def router(settings: Settings) -> int:
    """Runs a Router until it is told to end."""
    from eventmq.router import run

    _start_log(settings)
    return run(settings)


def jobmanager(settings: Settings) -> int:
    """Runs a job manager until it is told to end.

    Raises:
        SettingsError: A module that its workers shall import is not there.
    """
    from eventmq.jobmanager import run

    import_from_here()
    require_modules(settings.modules)
    _start_log(settings)
    return run(settings)


def scheduler(settings: Settings) -> int:
    """Runs a scheduler until it is told to end."""
    from eventmq.scheduler import run

    _start_log(settings)
    return run(settings)


def _start_log(settings: Settings) -> None:
    logs.setup(settings.least_level)
    for note in settings.source.notes if settings.source else ():
        log.warning("%s", note)


def import_from_here() -> None:
    """Makes modules of the current directory importable, here and in child processes, as `python -m` does."""
    here = os.getcwd()
    if sys.path[0] not in ("", here):
        sys.path.insert(0, here)
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != here]
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *inherited])


def require_modules(names: Iterable[str]) -> None:
    """Checks that the modules exist, without running any of their code: that is for workers.

    Raises:
        SettingsError: One does not.
    """
    for name in names:
        if not _exists(name):
            raise SettingsError(
                f"there is no module {name} in {os.getcwd()} or elsewhere on Python's path; "
                "give its name as `import` does, and start where it lies"
            )


def _exists(name: str) -> bool:
    """`importlib.util.find_spec` would import the parent packages; this only looks."""
    places = None
    for depth in range(name.count(".") + 1):
        part = ".".join(name.split(".")[: depth + 1])
        spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return depth == 0 and name in sys.builtin_module_names
        if spec.submodule_search_locations is None:
            return part == name
        places = list(spec.submodule_search_locations)
    return True
