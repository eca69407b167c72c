"""Fair managers: the weights of their queues share the slots. And order within a queue, which is by priority anyway."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import FRONTEND
from eventmq.broker.turns import Fair
from eventmq.protocol import v2

M = b"m"


class Shop(World):
    """A Router with fair managers whose jobs end when their time is over."""

    def __init__(self, **weights: int) -> None:
        super().__init__()
        self.weights = [(weight, name) for name, weight in weights.items()]
        self.jobs: dict[str, tuple[float, bytes, v2.Job]] = {}
        self.slots: Counter[bytes] = Counter()
        self.slot_s: Counter[str] = Counter()
        self.made = 0

    def come(self, sender: bytes = M, slots: int = 4) -> None:
        self.join(sender, queues=self.weights, fair=True)
        self.slots[sender] = slots
        self.manager(sender, b"READY", v2.Ready(slots))
        self.take()

    def put(self, queue: str, count: int) -> None:
        jobs = [job(f"{queue}-{self.made + n}", queue) for n in range(count)]
        self.made += count
        self.enqueue(*jobs)
        self.take()

    def take(self) -> None:
        """Managers begin what they were sent."""
        for sender in self.slots:
            for handed in self.handed(sender):
                self.jobs[handed.id] = (self.now, sender, handed)
        self.clear()

    def running(self) -> Counter[str]:
        return Counter(each.queue for _, _, each in self.jobs.values())

    def end(self, *ids: str) -> None:
        """These jobs are done."""
        for id in ids:
            since, sender, ended = self.jobs.pop(id)
            self.slot_s[ended.queue] += self.now - since
            limit = self.router.pool.managers[sender].limit + 1
            self.finish(sender, ended, limit=limit)
        self.take()

    def work(self, seconds: float, run_s: dict[str, float], step: float = 0.1) -> None:
        """Time passes; each job ends when it has run as long as jobs of its queue do."""
        for _ in range(round(seconds / step)):
            self.turn(after=step)
            self.end(*(id for id, (since, _, j) in list(self.jobs.items()) if self.now - since >= run_s[j.queue]))
            for sender in self.slots:
                limit = self.router.pool.managers[sender].limit
                self.manager(sender, b"HEARTBEAT", v2.Beat(0.0, limit))
            self.take()


# ---- shares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "slots", "expected"),
    [
        ({"long": 10, "short": 10}, 4, {"long": 2, "short": 2}),
        ({"long": 10, "short": 30}, 8, {"long": 2, "short": 6}),
        ({"a": 1, "b": 2, "c": 5}, 80, {"a": 10, "b": 20, "c": 50}),
        ({"a": 0, "b": 10}, 10, {"a": 1, "b": 9}),
        ({"a": 1_000_000, "b": 1}, 100, {"a": 99, "b": 1}),
    ],
)
def test_slots_are_shared_by_weight(weights: dict[str, int], slots: int, expected: dict[str, int]) -> None:
    shop = Shop(**weights)
    for queue in weights:
        shop.put(queue, 200)
    shop.come(slots=slots)
    assert shop.running() == expected


def test_a_lone_queue_uses_everything_and_another_gets_its_part_as_slots_come_free() -> None:
    shop = Shop(long=10, short=10)
    shop.come(slots=8)
    shop.put("long", 100)
    assert shop.running() == {"long": 8}
    shop.put("short", 100)
    for _ in range(4):
        shop.end(next(id for id in shop.jobs if id.startswith("long")))
    assert shop.running() == {"long": 4, "short": 4}
    for _ in range(20):
        shop.end(next(id for id in shop.jobs if id.startswith("short")))
        assert shop.running() == {"long": 4, "short": 4}


def test_long_jobs_take_no_more_than_their_part_from_short_ones() -> None:
    shop = Shop(long=10, short=10)
    shop.come(slots=4)
    for _ in range(5):
        shop.put("long", 10)
        shop.put("short", 500)
        shop.work(60, {"long": 30.0, "short": 0.5})
    ratio = shop.slot_s["short"] / (shop.slot_s["long"] + shop.slot_s["short"])
    assert 0.4 < ratio < 0.6


@pytest.mark.parametrize("weights", [{"long": 10, "short": 10}, {"long": 10, "short": 30}])
def test_a_single_slot_is_shared_in_time(weights: dict[str, int]) -> None:
    shop = Shop(**weights)
    shop.put("long", 200)
    shop.put("short", 900)
    shop.come(slots=1)
    shop.work(400, {"long": 10.0, "short": 0.5})
    assert shop.slot_s["short"] / shop.slot_s["long"] == pytest.approx(weights["short"] / weights["long"], rel=0.2)


def test_more_queues_than_slots_each_get_their_time() -> None:
    shop = Shop(a=10, b=10, c=10, long=10)
    for queue in ("a", "b", "c", "long"):
        shop.put(queue, 900)
    shop.come(slots=2)
    shop.work(400, {"a": 0.5, "b": 0.5, "c": 0.5, "long": 10.0})
    whole = sum(shop.slot_s.values())
    assert all(0.2 < shop.slot_s[queue] / whole < 0.3 for queue in shop.slot_s), shop.slot_s


def test_a_queue_without_work_saves_up_nothing() -> None:
    shop = Shop(a=10, b=10)
    shop.put("a", 900)
    shop.come(slots=1)
    shop.work(100, {"a": 0.5})
    shop.put("b", 200)
    before = Counter(shop.slot_s)
    shop.work(20, {"a": 0.5, "b": 0.5})
    assert (shop.slot_s - before)["a"] == pytest.approx(10, abs=2)


def test_a_large_credit_is_shared_as_well() -> None:
    """A manager that asks for a hundred jobs at a time gets them by their shares, not a hundred of the first queue."""
    shop = Shop(a=10, b=10)
    shop.put("a", 500)
    shop.put("b", 500)
    shop.come(slots=100)
    assert shop.running() == {"a": 50, "b": 50}


def test_shares_are_of_all_managers_together() -> None:
    shop = Shop(long=10, short=10)
    shop.put("long", 4)
    shop.come(b"one", 4)
    assert shop.running() == {"long": 4}
    shop.put("long", 50)
    shop.put("short", 50)
    shop.come(b"two", 4)
    assert shop.running() == {"long": 4, "short": 4}


def test_one_that_ranks_and_one_that_shares_serve_the_same_queues() -> None:
    shop = Shop(a=20, b=10)
    shop.put("a", 50)
    shop.put("b", 50)
    shop.join(b"ranks", credit=6, queues=shop.weights)
    assert {each.queue for each in shop.handed(b"ranks")} == {"a"}
    shop.come(slots=6)
    assert shop.running() == {"a": 4, "b": 2}


# ---- what is held is counted, not looked up ------------------------------------------------------------


def counted(world: World) -> Counter[str]:
    held: Counter[str] = Counter()
    for crew in world.router.pool.crews.values():
        if crew.fair is not None:
            held.update({queue: count for queue, count in crew.fair._held.items() if count})
    return held


@pytest.mark.parametrize("seed", range(8))
def test_any_history_leaves_the_counts_right(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 5)
    rng, world = Random(seed), World()
    queues = [(10, "a"), (20, "b"), (5, "c")]
    leases = world.router.ledger.leases
    for step in range(200):
        what = rng.choice(["put", "put", "join", "ready", "end", "end", "cancel", "leave", "restart"])
        managers = list(world.router.pool.managers)
        if what == "put":
            retries = v2.pack_options(v2.Options(retries=1, retry_delays_s=rng.choice(((), (1.0,)))))
            world.enqueue(*(job(f"{step}-{n}", rng.choice("abc"), options=retries) for n in range(4)))
        elif what == "join":
            name = rng.choice(["m", "n"]).encode()
            held = [
                v2.Held(id, lease[0].lease)
                for id, lease in leases.items()
                if lease[1].incarnation.name == name.decode()
            ]
            connection = rng.choice([name, name + b"2"])
            world.join(connection, queues=rng.choice([queues, queues[:2]]), held=held, name=name.decode(), fair=True)
        elif what == "ready" and managers:
            sender = rng.choice(managers)
            world.manager(sender, b"READY", v2.Ready(world.router.pool.managers[sender].sent + rng.randint(1, 6)))
        elif what == "end" and leases:
            given, holder, _ = leases[rng.choice(list(leases))]
            world.finish(holder.id, given, state=rng.choice(["succeeded", "failed", "crashed", "returned", "retry"]))
        elif what == "cancel" and leases:
            world.client(b"c", b"CANCEL", v2.Cancel(1, [rng.choice(list(leases))]))
        elif what == "leave" and managers:
            world.manager(rng.choice(managers), b"KBYE", v2.Empty())
        elif what == "restart" and rng.random() < 0.3:
            world.restart()
            leases = world.router.ledger.leases
        assert counted(world) == Counter(held.queue for held, _, _ in leases.values())


def test_a_choice_costs_the_same_however_much_runs() -> None:
    fair = Fair({f"q{n}": 10 for n in range(100)})
    for n in range(100):
        fair.has_work(f"q{n}")
    for step in range(20_000):
        queue = fair.next(step / 10)
        assert queue is not None
        assert step % 97 or fair._held[queue] == min(fair._held[f"q{n}"] for n in range(100))
        fair.lent(queue, 1, step / 10)
        if step % 3:
            fair.given_back(f"q{step % 100}")
    assert len(fair._heap) < 1_000


def test_of_queues_that_hold_as_much_the_one_with_less_time_is_next() -> None:
    fair = Fair({"a": 10, "b": 10})
    for queue in "ab":
        fair.has_work(queue)
    assert fair.next(0.0) == "a"
    fair.lent("a", 1, 0.0)
    assert fair.next(0.0) == "b"
    fair.lent("b", 1, 10.0)
    assert fair.next(10.0) == "b", "a has held its slot for ten seconds"
    fair.lent("b", 1, 10.0)
    assert fair.next(15.0) == "a"


# ---- within a queue --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fair", [False, True])
def test_priorities_hold_over_pages_and_give_backs(fair: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From -100 to 100, with a head of a few jobs; what is returned or crashes goes to its old place."""
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 8)
    monkeypatch.setattr(limits, "PAGE_JOBS", 5)
    rng, world = Random(7), World()
    jobs = [job(f"j{n}", priority=rng.choice((-100, -7, 0, 0, 3, 100))) for n in range(120)]
    for start in range(0, 120, 15):
        requests = [v2.encode(b"REQUEST", v2.Request(n, [jobs[start + n]])) for n in range(15)]
        world.turn(*((FRONTEND, [b"c", *frames]) for frames in requests))
    expected = [each.id for each in sorted(jobs, key=lambda each: -each.priority)]
    world.join(M, queues=[(10, "default"), (10, "other")], fair=fair)
    got: list[str] = []
    while len(got) < 120:
        world.clear()
        world.manager(M, b"READY", v2.Ready(world.router.pool.managers[M].sent + 3))
        batch = world.handed(M)
        assert [each.id for each in batch] == expected[len(got) : len(got) + 3]
        sent = world.router.pool.managers[M].sent
        back = rng.sample(batch, rng.randint(0, 2))
        world.finish(M, *back, state="returned", limit=sent)
        kept = [each for each in batch if each not in back]
        world.finish(M, *kept, limit=sent)
        expected = [
            *expected[: len(got)],
            *[k.id for k in kept],
            *[e for e in expected[len(got) :] if e not in {k.id for k in kept}],
        ]
        got += [each.id for each in kept]
    assert got == expected
