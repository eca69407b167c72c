"""One process in the foreground: a Router, a job manager or a scheduler, with its log on stderr."""

from __future__ import annotations

import importlib.machinery
import logging
import os
import sys
from collections.abc import Iterable
from importlib import import_module

from eventmq import logs
from eventmq.errors import SettingsError
from eventmq.settings import Settings

log = logging.getLogger("eventmq")


def run(component: str, settings: Settings) -> int:
    """Runs a `router`, `jobmanager` or `scheduler` until it is told to end.

    Raises:
        SettingsError: A module that a job manager's workers shall import is not there.
    """
    if component == "jobmanager":
        import_from_here()
        require_modules(settings.modules)
    logs.setup(settings.least_level, settings.log_format)
    for note in settings.source.notes if settings.source else ():
        log.warning("%s", note)
    code: int = import_module(f"eventmq.{component}").run(settings)
    return code


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
