"""CANCEL as the Router decides it: jobs end wherever they are, the answer waits for runs that have to be stopped."""

from __future__ import annotations

from typing import Any

import pytest
from model_store import ModelStore
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import BACKEND
from eventmq.errors import StorageFull
from eventmq.protocol import v1, v2
from eventmq.protocol.v2 import Held

CLIENT, OTHER = b"c", b"d"


@pytest.fixture
def world() -> World:
    return World()


def options(**given: Any) -> bytes:
    return v2.pack_options(v2.Options(**given))


def state(world: World, id: str) -> str:
    info = world.info(id)
    return "unknown" if info is None else str(info["state"])


def ask(world: World, *ids: str, n: int = 1, peer: bytes = CLIENT, grace_s: float = 5.0) -> None:
    world.client(peer, b"CANCEL", v2.Cancel(n, list(ids), grace_s))


def answers(world: World, peer: bytes = CLIENT) -> list[tuple[int, dict[str, str]]]:
    """What a client was told since last asked, by number of its question; a receipt is an empty answer."""
    mine = [each for each in world.sent if each.peer == peer]
    world.sent = [each for each in world.sent if each.peer != peer]
    found = []
    for each in mine:
        if each.frames[2] == b"ACK":
            found.append((v2.decode(each.frames[3], v2.Ack).n, {}))
        else:
            answer = v2.decode(each.frames[3], v2.Answer)
            found.append((answer.n, answer.answer))
    return found


def kills(world: World) -> list[tuple[bytes | str, v2.Kill]]:
    """KILLs since last asked."""
    mine = [each for each in world.sent if each.socket == BACKEND and each.frames[2] == b"KILL"]
    world.sent = [each for each in world.sent if each not in mine]
    return [(each.peer, v2.decode(each.frames[3], v2.Kill)) for each in mine]


def cancel(world: World, *ids: str) -> dict[str, str]:
    """The answer when nothing has to be stopped."""
    ask(world, *ids)
    ((_, answer),) = answers(world)
    return answer


def running(world: World, *ids: str, manager: bytes = b"m") -> list[v2.Job]:
    """Jobs that are handed out to a manager."""
    world.join(manager, credit=len(ids))
    world.enqueue(*(job(id) for id in ids))
    handed = world.handed(manager)
    assert [each.id for each in handed] == list(ids)
    world.clear()
    return handed


def tell(world: World, state: str, *jobs: v2.Job, manager: bytes = b"m") -> None:
    """How a manager says that runs were stopped."""
    outcomes = [v2.Outcome(job.id, job.lease, state) for job in jobs]
    world.manager(manager, b"REPLY", v2.Reply(1, outcomes, 0))


# ---- jobs that do not run -------------------------------------------------------------------------------


def test_what_does_not_run_is_answered_at_once(world: World) -> None:
    world.enqueue(job("ended"))
    world.join(b"m", credit=1)
    world.finish(b"m", *world.handed(b"m"))
    world.enqueue(job("waiting"), job("delayed", options=options(delay_s=60.0)))
    world.clear()
    assert cancel(world, "ended", "waiting", "delayed", "nowhere") == {
        "ended": "succeeded",
        "waiting": "cancelled",
        "delayed": "cancelled",
        "nowhere": "unknown",
    }
    world.manager(b"m", b"READY", v2.Ready(100))
    world.wait(61)
    assert world.handed(b"m") == []
    assert {state(world, id) for id in ("waiting", "delayed")} == {"cancelled"}
    assert cancel(world, "waiting") == {"waiting": "cancelled"}


def test_how_long_a_job_ran_that_was_cancelled_is_not_known(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    assert state(world, "a") == "running"
    ask(world, "a")
    told = world.info("a")
    assert told is not None
    assert (told["state"], told["run_s"]) == ("cancelled", None)


def test_a_job_that_is_only_in_the_store_can_be_called_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 2)
    monkeypatch.setattr(limits, "TIMERS_MAX", 2)
    world.enqueue(*(job(f"w{i}") for i in range(6)))
    world.enqueue(*(job(f"d{i}", options=options(delay_s=5.0 + i)) for i in range(6)))
    assert cancel(world, "w5", "d5", "w3") == {"w5": "cancelled", "d5": "cancelled", "w3": "cancelled"}
    world.restart()
    world.join(b"m", credit=100)
    for _ in range(4):
        world.wait(5)
        world.manager(b"m", b"HEARTBEAT", v2.Beat(0.0, 100))
    assert [j.id for j in world.handed(b"m")] == ["w0", "w1", "w2", "w4", "d0", "d1", "d2", "d3", "d4"]


def test_many_are_looked_up_at_once(world: World) -> None:
    asked: list[list[str]] = []
    find = world.store.find
    world.store.find = lambda ids: asked.append(ids) or find(ids)  # type: ignore[method-assign, func-returns-value]
    assert set(cancel(world, *(f"nowhere{n}" for n in range(500))).values()) == {"unknown"}
    assert len(asked) == 1


# ---- jobs that run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ("stopped", "stopped"),
        ("terminated", "terminated"),
        ("killed", "killed"),
        ("returned", "cancelled"),
        ("succeeded", "stopped"),
        ("crashed", "stopped"),
    ],
)
def test_what_runs_ends_at_once_and_the_answer_comes_when_its_run_is_over(world: World, told: str, word: str) -> None:
    (handed,) = running(world, "a")
    world.enqueue(job("waiting"))
    world.client(CLIENT, b"WAIT", v2.Wait(7, ["a"]))
    world.clear()
    ask(world, "a", "waiting", grace_s=3.0)
    assert kills(world) == [(b"m", v2.Kill([Held("a", handed.lease)], 3.0))]
    assert [each.state for each in world.results(CLIENT)] == ["cancelled"], "whoever waits is told now"
    world.clear()
    assert state(world, "a") == "cancelled"
    tell(world, told, handed)
    assert answers(world) == [(1, {"a": word, "waiting": "cancelled"})]
    assert state(world, "a") == "cancelled"
    assert world.router.ledger.counts["stale"] == 0


def test_the_receipt_is_durable_and_comes_again_for_the_same_question(world: World) -> None:
    (handed,) = running(world, "a")
    ask(world, "a")
    assert answers(world) == [(1, {})]
    ask(world, "a")
    assert answers(world) == [(1, {})]
    assert [kill.held for _, kill in kills(world)] == [[Held("a", handed.lease)]] * 2, "one may have been lost"
    tell(world, "stopped", handed)
    assert answers(world) == [(1, {"a": "stopped"})], "once"
    ask(world, "a")
    assert answers(world) == [(1, {"a": "cancelled"})], "what came of its run is not remembered"


def test_many_may_ask_about_many(world: World) -> None:
    a, b = running(world, "a", "b")
    ask(world, "a", "b")
    ask(world, "b", peer=OTHER, grace_s=0.0)
    assert [(len(kill.held), kill.grace_s) for _, kill in kills(world)] == [(1, 5.0), (1, 5.0), (1, 0.0)]
    tell(world, "killed", b)
    assert answers(world, OTHER) == [(1, {}), (1, {"b": "killed"})]
    tell(world, "stopped", a)
    assert answers(world) == [(1, {}), (1, {"a": "stopped", "b": "killed"})]


def test_only_who_runs_it_can_say_how_it_was_stopped(world: World) -> None:
    (handed,) = running(world, "a")
    world.join(b"other")
    ask(world, "a")
    tell(world, "killed", handed, manager=b"other")
    handed.lease -= 1
    tell(world, "killed", handed)
    assert answers(world) == [(1, {})]
    assert world.router.ledger.counts["stale"] == 2


@pytest.mark.parametrize("how", ["silent", "gone", "goodbye"])
def test_when_nobody_says_no_claim_is_made(world: World, how: str) -> None:
    running(world, "a")
    ask(world, "a", grace_s=2.0)
    answers(world)
    if how == "goodbye":
        world.manager(b"m", b"KBYE", v2.Empty())
    elif how == "gone":
        world.turn(gone=[(BACKEND, b"m")])
        world.wait(limits.SUSPECT_GRACE_S + 0.2)
    else:
        world.wait(2.0 + limits.CANCEL_ANSWER_S - 0.3)
        assert answers(world) == []
        world.wait(0.6)
    assert answers(world) == [(1, {"a": "unconfirmed"})]


def test_a_manager_of_2020_cannot_be_told(world: World) -> None:
    world.turn((BACKEND, [b"old", *v1.encode(b"INFORM", "i", "", "worker")]))
    world.turn((BACKEND, [b"old", *v1.encode(b"READY", "r")]))
    world.enqueue(job("a"))
    world.clear()
    assert cancel(world, "a") == {"a": "unconfirmed"}
    world.turn((BACKEND, [b"old", *v1.encode(b"REPLY", "x", v1.format_value(1), "a")]))
    assert state(world, "a") == "cancelled"


def test_a_manager_that_comes_back_goes_on_stopping_it(world: World) -> None:
    a, _ = running(world, "a", "b")
    ask(world, "a", "b", grace_s=4.0)
    answers(world)
    kills(world)
    world.wait(1.0)
    (verdict,) = world.join(b"m2", held=[Held("a", a.lease)], name="m")
    assert verdict.verdict == "keep", "its outcome is awaited"
    ((peer, kill),) = kills(world)
    assert (peer, kill.held) == (b"m2", [Held("a", a.lease)])
    assert kill.grace_s == pytest.approx(3.0, abs=0.1)
    tell(world, "terminated", a, manager=b"m2")
    assert answers(world) == [(1, {"a": "terminated", "b": "cancelled"})], "b had never arrived there"


def test_it_survives_a_restart_and_the_question_does_not(world: World) -> None:
    (handed,) = running(world, "a")
    ask(world, "a")
    world.restart()
    assert cancel(world, "a") == {"a": "cancelled"}
    (verdict,) = world.join(b"m", held=[Held("a", handed.lease)])
    assert verdict.verdict == "done"
    assert kills(world) == []
    assert state(world, "a") == "cancelled"


def test_a_turn_that_does_not_become_durable_stops_nothing() -> None:
    class Full(ModelStore):
        full = False

        def apply(self, changes: Any) -> None:
            if self.full and changes.added:
                raise StorageFull("no room")
            super().apply(changes)

    store = Full()
    world = World(store)
    running(world, "a")
    store.full = True
    request = v2.encode(b"REQUEST", v2.Request(1, [job("too much")]))
    question = v2.encode(b"CANCEL", v2.Cancel(1, ["a"]))
    world.turn(*[("frontend", [CLIENT, *frames]) for frames in (question, request)])
    assert (answers(world), kills(world)) == ([], [])
    assert state(world, "a") == "waiting"


# ---- bounds ---------------------------------------------------------------------------------------------


def test_questions_beyond_the_bound_do_not_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANCELS_MAX", 2)
    (handed,) = running(world, "a")
    ask(world, "a")
    ask(world, "a", "b", n=2)
    assert answers(world) == [(1, {}), (2, {"a": "unconfirmed", "b": "unknown"})]
    tell(world, "stopped", handed)
    assert answers(world) == [(1, {"a": "stopped"})]


def test_a_grace_has_bounds(world: World) -> None:
    running(world, "a")
    for grace_s in (1e9, -1.0):
        ask(world, "a", grace_s=grace_s)
    assert [kill.grace_s for _, kill in kills(world)] == [limits.CANCEL_GRACE_S_MAX, 0.0]


# ---- progress ------------------------------------------------------------------------------------------


def report(world: World, handed: v2.Job, value: bytes, manager: bytes = b"m") -> None:
    reports = [v2.Report(handed.id, handed.lease, value)]
    world.manager(manager, b"PROGRESS", v2.Progress(reports))


def progress(world: World, id: str = "a") -> Any:
    info = world.info(id)
    assert info is not None
    return info["progress"]


def test_progress_is_shown_until_the_run_ends(world: World) -> None:
    (handed,) = running(world, "a")
    assert progress(world) is None
    report(world, handed, v2.pack({"done": 1}))
    report(world, handed, v2.pack({"done": 2}))
    assert progress(world) == {"done": 2}
    world.finish(b"m", handed, state="returned")
    assert progress(world) is None
    assert world.router.ledger.progress == {}


def test_progress_of_a_hand_out_that_is_not_current_is_ignored(world: World) -> None:
    (handed,) = running(world, "a")
    world.join(b"other")
    report(world, handed, v2.pack(1), manager=b"other")
    report(world, v2.Job("b", "", "", b"", lease=handed.lease), v2.pack(1))
    report(world, v2.Job("a", "", "", b"", lease=handed.lease - 1), v2.pack(1))
    assert world.router.ledger.progress == {}


def test_progress_may_be_anything_but_large(world: World) -> None:
    (handed,) = running(world, "a")
    report(world, handed, b"\xc1")
    assert "cannot be read" in progress(world)
    report(world, handed, bytes(limits.PROGRESS_BYTES_MAX + 1))
    assert world.router.refusals["malformed"] == 1
    assert "cannot be read" in progress(world)
