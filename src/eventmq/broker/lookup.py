"""Which jobs the store has, asked once for all eMQP/1.0 REQUESTs of a turn: a query costs far more than an id in it."""

from __future__ import annotations

from eventmq.store.base import Record, Store


class Lookup:
    """The store's answers about the ids of new jobs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unknown: set[str] = set()

    def ahead(self, ids: list[str]) -> None:
        """Ids that are about to be asked for."""
        if len(ids) > 1:
            self._unknown = set(ids).difference([record.job.id for record in self._store.find(ids)])

    def find(self, ids: list[str]) -> list[Record]:
        """The jobs with these ids."""
        if self._unknown:
            ids = [id for id in ids if id not in self._unknown]
        return self._store.find(ids) if ids else []

    def applied(self) -> None:
        """The store has more jobs now."""
        self._unknown.clear()
