"""Which queue of a crew is served next: by rank, or by share. Pure: knows names of queues, their weights and the time.

`Ranked`, as ever: of the heaviest weight that has work, and equal weights take turns.

`Fair`: the queues with work share the crew's slots in proportion to their weights. Next is the one that holds the
fewest slots for its weight; of several that hold as few, the one that has had the least slot time for its weight, so
shares hold even where there are fewer slots than queues. A queue without work saves up nothing. What is held is counted
as it is lent and given back, and the queues stand in a heap, so a choice costs the same with ten jobs running or ten
thousand.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from typing import NamedTuple

LEAST_WEIGHT = 1e-3
"""What weight 0 counts for in shares: next to nothing, but never nothing."""

STALE_PLACES = 64
"""Places in the heap that may be out of date, besides as many as there are good ones."""


class Ranked:
    """The heaviest first.

    Attributes:
        levels: For each weight, heaviest first, its queues that have waiting jobs, next one first.
    """

    __slots__ = ("_weights", "levels")

    def __init__(self, weights: dict[str, int]) -> None:
        self._weights = weights
        self.levels: dict[int, dict[str, None]] = {weight: {} for weight in weights.values()}

    def next(self, now: float) -> str | None:
        """The queue to serve; None = none has work."""
        for level in self.levels.values():
            for queue in level:
                return queue
        return None

    def has_work(self, queue: str) -> None:
        self.levels[self._weights[queue]].setdefault(queue)

    def no_work(self, queue: str) -> None:
        self.levels[self._weights[queue]].pop(queue, None)

    def served(self, queue: str) -> None:
        """The queue had its turn: others of its weight come first now."""
        level = self.levels[self._weights[queue]]
        if queue in level:
            del level[queue]
            level[queue] = None


class Place(NamedTuple):
    """Where a queue stands in line.

    Attributes:
        share: Slots held for each unit of weight.
        used: Slot-seconds for each unit of weight, less those since time 0 at the present share: so the order of queues
            with equal shares stays the same while time goes on.
        queue: Its name.
    """

    share: float
    used: float
    queue: str


class Fair:
    """Each its share."""

    __slots__ = ("_changed", "_floor", "_heap", "_held", "_looked", "_places", "_weights")

    def __init__(self, weights: dict[str, int]) -> None:
        self._weights = {queue: max(weight, LEAST_WEIGHT) for queue, weight in weights.items()}
        self._held: Counter[str] = Counter()  # slots, now
        self._looked: dict[str, tuple[float, float, int]] = {}  # when last looked at: time, slot time so far, slots
        self._changed: dict[str, None] = {}  # to be looked at
        self._places: dict[str, Place | None] = {}  # of queues with work
        self._heap: list[Place] = []
        self._floor = 0.0  # slot time of the queue that was chosen last

    @property
    def contested(self) -> bool:
        """Whether more than one queue has work."""
        return len(self._places) > 1

    def next(self, now: float) -> str | None:
        """The queue to serve; None = none has work."""
        for queue in self._changed:
            self._stand_in_line(queue, now)
        self._changed.clear()
        heap = self._heap
        if len(heap) > 2 * len(self._places) + STALE_PLACES:
            heap[:] = [place for place in self._places.values() if place is not None]
            heapify(heap)
        while heap and self._places.get(heap[0].queue) is not heap[0]:
            heappop(heap)
        if not heap:
            return None
        place = heap[0]
        self._floor = max(self._floor, place.used + place.share * now)
        return place.queue

    def _stand_in_line(self, queue: str, now: float) -> None:
        """A queue that has work, or holds another number of slots, may have another place."""
        used = self._count_time(queue, now)
        if queue in self._places:
            if self._places[queue] is None and not self._held[queue]:  # it comes from having none
                used = max(used, self._floor)
                self._looked[queue] = (now, used, 0)
            share = self._held[queue] / self._weight(queue)
            place = self._places[queue] = Place(share, used - share * now, queue)
            heappush(self._heap, place)

    def _count_time(self, queue: str, now: float) -> float:
        """Slot time until now for each unit of weight. What was given back since the last look counts until now."""
        since, used, held = self._looked.get(queue, (now, 0.0, 0))
        used += held * (now - since) / self._weight(queue)
        self._looked[queue] = (now, used, self._held[queue])
        return used

    def _weight(self, queue: str) -> float:
        """A manager that came back may still hold jobs of a queue that it serves no more."""
        return self._weights.get(queue, LEAST_WEIGHT)

    def has_work(self, queue: str) -> None:
        if queue not in self._places:
            self._places[queue] = None
            self._changed[queue] = None

    def no_work(self, queue: str) -> None:
        self._places.pop(queue, None)

    def served(self, queue: str) -> None:
        """Nothing by itself: what counts are slots."""

    def lent(self, queue: str, slots: int, now: float) -> None:
        """The queue holds so many slots more."""
        self._count_time(queue, now)
        self._held[queue] += slots
        self._count_time(queue, now)
        self._changed[queue] = None

    def given_back(self, queue: str) -> None:
        """The queue holds one slot less."""
        self._held[queue] -= 1
        self._changed[queue] = None
