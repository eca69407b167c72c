"""Defaults that depend on the machine and on who uses it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def default_store(environ: Mapping[str, str] = os.environ) -> str:
    """The store in the user's state folder, where programs keep what must outlive them."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support" / "EventMQ"
    else:
        folder = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "eventmq"
    return f"sqlite:///{folder / 'eventmq.db'}"


def make_default_folder(store: str) -> None:
    """Makes the folder of the default store. Any other may be a disk that is not mounted yet, and is not made up."""
    if store == default_store():
        with suppress(OSError):  # opening the store says what is missing
            Path(store.removeprefix("sqlite:///")).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
