"""From a store's URL to the store. The only place that knows which kinds of store there are."""

from __future__ import annotations

from typing import get_args

from eventmq.errors import StoreError
from eventmq.store.base import Durability, Store
from eventmq.store.sqlite import SqliteStore

SUPPORTED = (
    ("memory:", "jobs are gone when the Router stops"),
    ("sqlite:///relative/path.db", "one file, path relative to the working directory"),
    ("sqlite:////absolute/path.db", "one file"),
)
"""URLs that `open_store` takes, and what they mean."""

_SQLITE = "sqlite:///"


def open_store(url: str, durability: Durability) -> Store:
    """Opens the store that a URL names.

    Args:
        url: One of `SUPPORTED`. What follows `sqlite:///` is a path as it stands: nothing in it is decoded.
        durability: What an applied change survives. `memory:` never gives more than `none`.

    Raises:
        StoreError: Not a URL of a store, or the store is locked, damaged, not ours, newer than this release, or away.
    """
    if durability not in get_args(Durability):
        raise StoreError(f"durability is {durability!r}, expected one of {', '.join(get_args(Durability))}")
    if url == "memory:":
        return SqliteStore(None, "none")
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteStore(url.removeprefix(_SQLITE), durability)
    kinds = "; ".join(f"{form} ({meaning})" for form, meaning in SUPPORTED)
    raise StoreError(f"{url!r} names no store that this release supports, expected one of: {kinds}")
