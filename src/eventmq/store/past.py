"""The past in the SQLite file: a row for each point, and one for each series. See `base.Past`.

Written apart from the jobs, in transactions of its own, and not at all when the disk has no room for new jobs: what is
left then is for the outcomes of old ones.
"""

from __future__ import annotations

from contextlib import suppress

from eventmq.errors import StorageFull
from eventmq.limits import HISTORY_STEPS
from eventmq.store import sums, tables
from eventmq.store.base import Point, Series
from eventmq.store.database import Database


class SqlitePast:
    """See `base.Past`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at = 0
        with database.trust():
            rows = map(sums.checked, database.db.execute(tables.SERIES))
            self._ids: dict[Series, int] = {(queue, name): id for id, queue, name in rows}

    def series(self) -> list[Series]:
        return list(self._ids)

    def read(self, series: Series, length_s: int, since: int, until: int) -> list[tuple[int, bytes]]:
        id = self._ids.get(series)
        with self._database.trust():
            rows = map(sums.checked, self._database.db.execute(tables.POINTS, (id, length_s, since, until)))
            return [(start, data) for _, _, start, data in rows]

    def write(self, points: list[Point]) -> None:
        if not self._database.has_room():
            return
        ids = dict(self._ids)
        with suppress(StorageFull):
            with self._database.transaction():
                for series, *when, data in points:
                    if series not in ids:
                        id = ids[series] = max(ids.values(), default=0) + 1
                        self._database.db.execute(tables.ADD_SERIES, (id, *series, sums.of(id, *series)))
                    row = (ids[series], *when, data)
                    self._database.db.execute(tables.SET_POINT, (*row, sums.of(*row)))
            self._ids = ids

    def forget(self, now: float) -> list[Series]:
        ids = self._ids.values()
        id = self._looked_at = min((id for id in ids if id > self._looked_at), default=min(ids, default=0))
        with suppress(StorageFull):
            with self._database.transaction():
                for length_s, kept_s in HISTORY_STEPS:
                    self._database.db.execute(tables.FORGET_POINTS, (id, length_s, now - kept_s - length_s))
                gone = self._database.db.execute(tables.DROP_SERIES, (id,)).rowcount
            if gone:
                series = next(series for series, each in self._ids.items() if each == id)
                del self._ids[series]
                return [series]
        return []
