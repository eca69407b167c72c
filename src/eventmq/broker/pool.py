"""The job managers that are connected: what they serve, their credit, when they were last heard.

Owns each manager's credit; knows nothing of jobs. Managers that announced the same queues form one
crew, and a crew knows which of its queues have waiting jobs, so finding work for a manager and a manager for work costs
the same with one queue or ten thousand. Within a crew the least recently used manager comes first; which queue does,
`turns` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from eventmq.broker.turns import Fair, Ranked

Queues = tuple[tuple[int, str], ...]
"""(weight, name), heaviest first."""

PeerId = bytes | str
"""What a ROUTER socket calls a connection; callers of the published API may use text."""


class Incarnation(NamedTuple):
    """One run of one manager process: its stable name, and a nonce made when it started."""

    name: str
    nonce: str


MANAGER_FACT = "manager:"
"""Facts `manager:<name>:<nonce>`: who was connected, so that a restarted Router knows for whom to wait."""


def fact_of(incarnation: Incarnation) -> str:
    """The name of the fact that a manager is connected."""
    return f"{MANAGER_FACT}{incarnation.name}:{incarnation.nonce}"


def remembered(facts: Iterable[str]) -> set[Incarnation]:
    """The managers that were connected."""
    ours = (fact for fact in facts if fact.startswith(MANAGER_FACT))
    return {Incarnation(*fact.removeprefix(MANAGER_FACT).rsplit(":", 1)) for fact in ours}


class Manager:
    """One connected job manager.

    The published API reads it as a mapping: `queues`, `hb`, `available_slots`.

    Attributes:
        id: Its connection.
        wire: 1 or 2, the major version it speaks.
        incarnation: Its name and nonce; a 2020 manager has its connection for both.
        crew: Those that serve the same queues.
        limit: Jobs it has allowed us to send in this session.
        sent: Jobs sent in this session.
        recalled: The same when it was asked last for what has not begun.
        heard: Monotonic time of its last frame.
        clock: Its own monotonic time in its last beat; it is told, so that it knows what we have heard.
        skew_s: How far its wall clock was ahead of ours in its last beat, with the time that this took.
        told: Monotonic time of our last beat.
        suspect_since: Monotonic time at which its connection was found gone; None = it is there.
        draining: It takes no more jobs.
        about: What it told of itself, for people.
        informed: Number of the INFORM that began this session.
        finished: Jobs that it has brought to an end.
    """

    __slots__ = (
        "about", "clock", "crew", "draining", "finished", "heard", "id",
        "incarnation", "informed", "limit", "recalled", "sent", "skew_s", "suspect_since", "told", "wire",
    )  # fmt: skip

    def __init__(self, id: PeerId, wire: int, incarnation: Incarnation, crew: Crew, now: float) -> None:
        self.id = id
        self.wire = wire
        self.incarnation = incarnation
        self.crew = crew
        self.limit = 0
        self.sent = self.recalled = 0
        self.heard = now
        self.clock = 0.0
        self.skew_s = 0.0
        self.told = now
        self.suspect_since: float | None = None
        self.draining = False
        self.about: dict[str, Any] = {}
        self.informed = 0
        self.finished = 0

    @property
    def credit(self) -> int:
        """Jobs that may be sent now."""
        if self.draining or self.suspect_since is not None:
            return 0
        return max(0, self.limit - self.sent)

    def __getitem__(self, key: str) -> Any:
        match key:
            case "queues":
                return list(self.crew.queues)
            case "hb":
                return self.heard
            case "available_slots":
                return self.credit
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        match key:
            case "hb":
                self.heard = value
            case "available_slots":
                self.limit = self.sent + value
                self.crew.rested(self)
            case _:
                raise KeyError(key)


class Crew:
    """The managers that serve one set of queues, in one way.

    Attributes:
        queues: What they serve.
        fair: The weights share the slots instead of ranking the queues: the counting `Fair`, else None.
        turns: Which queue is next.
        members: All of them.
        idle: Those with credit, least recently used first, and how much they have.
        credit: The same together.
    """

    __slots__ = ("credit", "fair", "idle", "members", "queues", "turns", "weights")

    def __init__(self, queues: Queues, fair: bool = False) -> None:
        self.queues = queues
        self.members: dict[PeerId, Manager] = {}
        self.idle: dict[Manager, int] = {}
        self.credit = 0
        self.weights = {name: weight for weight, name in queues}
        self.fair = Fair(self.weights) if fair else None
        self.turns = self.fair or Ranked(self.weights)

    def rested(self, manager: Manager) -> None:
        """The manager's credit may have changed; it keeps its place in line, or joins at the end."""
        credit = manager.credit
        self.credit += credit - self.idle.get(manager, 0)
        if credit:
            self.idle[manager] = credit
        else:
            self.idle.pop(manager, None)

    def used(self, manager: Manager) -> None:
        """The manager was handed something: it goes to the end of the line."""
        self.credit -= self.idle.pop(manager, 0)
        self.rested(manager)

    def next_idle(self) -> Manager | None:
        """The least recently used manager with credit."""
        return next(iter(self.idle), None)

    def part(self, credit: int, waiting: int) -> int:
        """How many of a queue's `waiting` jobs the next manager gets, which has this credit: all it may have when there
        is plenty, else its part of all credit, for who has a worker busy for long has less; and one after the other
        while queues share."""
        if self.fair is not None and self.fair.contested:
            return 1
        return max(1, min(credit, waiting * credit // self.credit))

    def full(self) -> list[Manager]:
        """Those without credit, while others have some and nothing to do."""
        return [each for each in self.members.values() if each not in self.idle] if self.idle else []

    def slots(self) -> Iterator[PeerId]:
        """Free slots as the published API shows them: in the order in which they would be used."""
        left = {manager: manager.credit for manager in self.idle}
        while left:
            for manager in list(left):
                yield manager.id
                left[manager] -= 1
                if not left[manager]:
                    del left[manager]


class Pool:
    """All connected managers, by connection, by incarnation, by what they serve."""

    def __init__(self) -> None:
        self.managers: dict[PeerId, Manager] = {}
        self.incarnations: dict[Incarnation, Manager] = {}
        self.crews: dict[tuple[Queues, bool], Crew] = {}
        self.serving: dict[str, list[Crew]] = {}

    def add(
        self, id: PeerId, wire: int, incarnation: Incarnation, queues: Queues, now: float, fair: bool = False
    ) -> Manager:
        """A new manager, without credit yet."""
        crew = self.crews.get((queues, fair))
        if crew is None:
            crew = self.crews[queues, fair] = Crew(queues, fair)
            for name in crew.weights:
                self.serving.setdefault(name, []).append(crew)
        manager = Manager(id, wire, incarnation, crew, now)
        crew.members[id] = manager
        self.managers[id] = manager
        self.incarnations[incarnation] = manager
        return manager

    def remove(self, manager: Manager) -> None:
        """Forgets a manager; whoever calls has taken care of what it held."""
        crew = manager.crew
        del self.managers[manager.id]
        del crew.members[manager.id]
        crew.credit -= crew.idle.pop(manager, 0)
        if self.incarnations.get(manager.incarnation) is manager:
            del self.incarnations[manager.incarnation]
        if not crew.members:
            del self.crews[crew.queues, crew.fair is not None]
            for name in crew.weights:
                self.serving[name].remove(crew)
                if not self.serving[name]:
                    del self.serving[name]

    def crews_of(self, queue: str) -> list[Crew]:
        """Who serves a queue; empty when nobody does."""
        return self.serving.get(queue, [])

    def slots(self) -> dict[str, list[PeerId]]:
        """Free slots by queue, least recently used first: the published `Router.queues`."""
        return {queue: [id for crew in crews for id in crew.slots()] for queue, crews in self.serving.items()}

    def forgive(self, seconds: float) -> None:
        """The Router itself was stalled this long: nobody is blamed for the silence."""
        for manager in self.managers.values():
            manager.heard += seconds
            if manager.suspect_since is not None:
                manager.suspect_since += seconds


def ordered(queues: Iterable[tuple[int, str]]) -> Queues:
    """Queues heaviest first, each name once (its heaviest weight counts)."""
    best: dict[str, int] = {}
    for weight, name in queues:
        best[name] = max(weight, best.get(name, weight))
    return tuple(sorted(((weight, name) for name, weight in best.items()), key=lambda queue: (-queue[0], queue[1])))


def text_of(id: PeerId) -> str:
    """A connection's name for people: its text, or hexadecimal where it is none."""
    if isinstance(id, str):
        return id
    try:
        text = id.decode()
    except UnicodeDecodeError:
        return id.hex()
    return text if text.isprintable() else id.hex()
