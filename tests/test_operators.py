"""What operators ask and do on the administrative socket, turn by turn, with a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from model_store import ModelStore
from world import World, job

from eventmq import limits
from eventmq.broker import attempts
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND
from eventmq.protocol import calls, v2
from eventmq.protocol.scheduling import Schedule
from eventmq.schedules.rule import Rule
from eventmq.store.base import Store
from eventmq.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return ModelStore() if request.param == "memory" else SqliteStore(str(tmp_path / "jobs.db"), "none")


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def send(world: World, command: str, **params: Any) -> v2.Answer | v2.Refused:
    """A question and what comes back, be it an answer or a refusal."""
    question = v2.encode(command.encode(), v2.Question(7, params))
    (sent,) = [each for each in world.turn((ADMINISTRATIVE, [b"operator", *question])) if each.peer == b"operator"]
    kind: type[v2.Answer | v2.Refused] = v2.Answer if sent.frames[2] == b"REPLY" else v2.Refused
    body = v2.decode(sent.frames[3], kind)
    assert body.n == 7
    return body


def ask(world: World, command: str, **params: Any) -> Any:
    answer = send(world, command, **params)
    assert isinstance(answer, v2.Answer), answer
    return answer.answer


def refused(world: World, command: str, **params: Any) -> tuple[str, str]:
    answer = send(world, command, **params)
    assert isinstance(answer, v2.Refused), answer
    return answer.reason, answer.text


def ids(world: World, **selection: Any) -> list[str]:
    """All ids of a list, through all its pages."""
    found: list[str] = []
    before = None
    while True:
        answer = ask(world, "JOBS", before=before, **selection)
        found += [each["id"] for each in answer["jobs"]]
        before = answer["next"]
        if before is None:
            return found


def every(world: World, command: str, what: str, before: int | None = None, **selection: Any) -> list[int]:
    """An act on everything selected: what each of its slices changed."""
    changed = []
    while True:
        answer = ask(world, command, before=before, **selection)
        changed.append(answer[what])
        before = answer["next"]
        if before is None:
            return changed


def die(world: World, *jobs: v2.Job) -> None:
    """These jobs run and fail for good."""
    if b"m" not in world.router.pool.managers:
        world.join(b"m", credit=10_000, queues=[(10, "default"), (10, "mail")])
    before = len(world.handed(b"m"))
    for start in range(0, len(jobs), 1000):
        world.enqueue(*jobs[start : start + 1000])
    world.finish(b"m", *world.handed(b"m")[before:], state="failed")


# ---- lists -----------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_and_filters_combine(world: World) -> None:
    die(world, job("d1"), job("d2", queue="mail"), job("d3", name="tasks.other"))
    world.enqueue(job("w1"), job("w2", queue="mail"), job("late", options=v2.pack({"delay_s": 60.0})))
    world.finish(b"m", world.handed(b"m")[3])
    assert ids(world) == ["late", "w2", "w1", "d3", "d2", "d1"]
    for selection, found in (
        ({"states": ["dead"]}, ["d3", "d2", "d1"]),
        ({"states": ["dead"], "queue": "mail"}, ["d2"]),
        ({"name": "tasks.other"}, ["d3"]),
        ({"error": "ValueError"}, ["d3", "d2", "d1"]),
        ({"error": ": no", "name": "tasks.add", "states": ["dead"], "queue": "default"}, ["d1"]),
        ({"states": ["running"]}, ["w2"]),
        ({"states": ["running"], "queue": "default"}, []),
        ({"states": ["running"], "ids": ["w1"]}, []),
        ({"states": ["waiting"]}, []),
        ({"states": ["delayed"]}, ["late"]),
        ({"states": ["succeeded"]}, ["w1"]),
        ({"ids": ["d1", "late", "nobody"]}, ["late", "d1"]),
        ({"ids": []}, []),
    ):
        assert ids(world, **selection) == found, selection


def test_a_row_tells_what_there_is_without_opening_the_payload(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", priority=3))
    (row,) = ask(world, "JOBS")["jobs"]
    assert row["worker"] == "m"
    assert row["state"] == "running"
    assert row["started"] == pytest.approx(world.wall, abs=1)
    world.finish(b"m", *world.handed(b"m"), state="failed")
    (row,) = ask(world, "JOBS", states=["dead"])["jobs"]
    assert row == {
        "id": "a", "state": "dead", "queue": "default", "name": "tasks.add", "priority": 3, "attempt": 1,
        "failures": 1, "crashes": 0, "due": None, "created": pytest.approx(world.wall, abs=1), "started": None,
        "finished": pytest.approx(world.wall, abs=1), "run_s": 0.001, "worker": "m",
        "error": "builtins.ValueError: no", "payload_bytes": len(job("a").payload),
    }  # fmt: skip


def test_failures_count_the_one_that_a_job_died_of_and_no_crash(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(job("tried", options=v2.pack({"retries": 1})), job("crashed", options=v2.pack({"crash_limit": 1})))
    world.finish(b"m", world.handed(b"m")[0], state="failed")
    assert world.info("tried")["failures"] == 1
    world.finish(b"m", world.handed(b"m")[-1], state="failed")
    (handed,) = [each for each in world.handed(b"m") if each.id == "crashed"]
    death = v2.Failure("eventmq.JobCrashed", "worker process died: SIGKILL")
    world.manager(b"m", b"REPLY", v2.Reply(3, [v2.Outcome("crashed", handed.lease, "crashed", b"", death)], 1))
    told = {row["id"]: (row["state"], row["failures"], row["crashes"]) for row in ask(world, "JOBS")["jobs"]}
    assert told == {"tried": ("dead", 2, 0), "crashed": ("dead", 0, 1)}
    assert [world.info(id)["failures"] for id in told] == [failures for _, failures, _ in told.values()]


def test_a_long_error_is_cut_in_lists_and_whole_in_the_job(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    failure = v2.Failure("E", "x" * limits.ERROR_CHARS_MAX + "the end")
    world.manager(b"m", b"REPLY", v2.Reply(1, [v2.Outcome("a", handed.lease, "failed", b"", failure)], 1))
    (row,) = ask(world, "JOBS", error="E: x")["jobs"]
    assert row["error"] == f"E: {'x' * (limits.ERROR_CHARS_MAX - 3)}"
    assert ids(world, error="the end") == []
    assert ask(world, "JOB", id="a")["failure"]["message"].endswith("the end")


def test_a_job_that_is_tried_again_is_found_by_what_went_wrong_so_far(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(job("a", options=v2.pack({"retries": 1, "retry_delays_s": [60.0]})), job("b"))
    world.finish(b"m", world.handed(b"m")[0], state="failed")
    assert ids(world, states=["delayed"], error="ValueError") == ["a"]
    world.wait(61, step=10)
    assert ids(world, states=["running"], error="ValueError") == ["a"]


def test_a_delayed_job_whose_time_has_come_waits(world: World) -> None:
    world.enqueue(job("late", options=v2.pack({"delay_s": 5.0})))
    (row,) = ask(world, "JOBS")["jobs"]
    assert (row["state"], row["due"]) == ("delayed", pytest.approx(world.wall + 5, abs=1))
    world.wait(6)
    assert (ids(world, states=["waiting"]), ids(world, states=["delayed"])) == (["late"], [])
    world.join(b"m", credit=1)
    assert (ids(world, states=["waiting"]), ids(world, states=["running"])) == ([], ["late"])


@pytest.mark.parametrize("limit", [1, 2, 500])
@pytest.mark.parametrize("state", ["", "dead", "waiting", "running"])
def test_pages_follow_each_other_without_gap(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, limit: int
) -> None:
    monkeypatch.setattr(limits, "LIST_ROWS", 3)
    die(world, *(job(f"d{n}") for n in range(4)))
    world.finish(b"m", limit=len(world.handed(b"m")) + 5)
    world.enqueue(*(job(f"r{n}") for n in range(5)), *(job(f"w{n}") for n in range(4)))
    all_of_it = [f"w{n}" for n in (3, 2, 1, 0)], [f"r{n}" for n in (4, 3, 2, 1, 0)], [f"d{n}" for n in (3, 2, 1, 0)]
    waiting, running, dead = all_of_it
    right = {"": waiting + running + dead, "dead": dead, "waiting": waiting, "running": running}[state]
    assert ids(world, states=[state] if state else [], limit=limit) == right


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_a_list_of_several_states_mixes_what_runs_with_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(limits, "LIST_ROWS", 3)
    world.join(b"m", credit=3)
    world.enqueue(job("d0"), job("r1"), job("d2"))
    failed = [each for each in world.handed(b"m") if each.id != "r1"]
    world.finish(b"m", *failed, state="failed", limit=4)
    world.enqueue(job("r3"), job("w4"), job("w5"))
    for states, right in (
        (["running", "dead"], ["r3", "d2", "r1", "d0"]),
        (["waiting", "running"], ["w5", "w4", "r3", "r1"]),
        (["waiting", "dead"], ["w5", "w4", "d2", "d0"]),
        (["lost", "running"], ["r3", "r1"]),
    ):
        assert ids(world, states=states, limit=limit) == right, states
    world.join(b"n", credit=1)
    assert ids(world, worker="m", limit=limit) == ["r3", "d2", "r1", "d0"], "it runs these, or has"
    assert ids(world, worker="n", limit=limit) == ["w4"]
    assert ids(world, worker="m", states=["running", "succeeded", "waiting"], limit=limit) == ["r3", "r1"]
    assert ids(world, worker="m", states=["waiting"], limit=limit) == []


def test_jobs_are_found_by_their_arguments_in_every_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks_for(user: int) -> bytes:
        return calls.pack_call((user, "a"), {"user": {"id": user, "tags": ["x", None]}})

    die(world, *(job(f"d{n}", payload=asks_for(n)) for n in range(6)))
    world.finish(b"m", limit=len(world.handed(b"m")) + 1)
    world.enqueue(*(job(f"w{n}", payload=asks_for(n)) for n in range(4)), job("none", payload=b"\xff"))
    for arguments, right in (
        ({"0": "3"}, ["w3", "d3"]),
        ({"user.id": "0"}, ["w0", "d0"]),
        ({"user.tags.1": "null", "user.tags.0": "x", "1": "a", "0": "5"}, ["d5"]),
        ({"user.tags": '["x",null]', "0": "4"}, ["d4"]),
        ({"user.tags.2": ""}, []),
        ({"user": "0"}, []),
        ({"2": "a"}, []),
    ):
        assert ids(world, arguments=arguments) == right, arguments
    assert ids(world, states=["running"], arguments={"0": "0"}) == ["w0"]
    monkeypatch.setattr("eventmq.store.lists.SEARCH_BYTES", 40)
    monkeypatch.setattr("model_store.SEARCH_BYTES", 40)
    page = ask(world, "JOBS", arguments={"0": "0"})
    assert page["next"], "a page ends when it has opened so many bytes"
    assert ids(world, arguments={"0": "0"}) == ["w0", "d0"]


def test_arguments_that_are_too_large_are_not_searched(world: World) -> None:
    world.enqueue(job("a", payload=calls.pack_call((7, "x" * limits.SEARCH_BYTES), {})))
    assert ids(world, arguments={"0": "7"}) == []


def test_a_list_by_time_ends_where_all_others_are_older(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_ROWS", 3)

    def turns(**selection: Any) -> tuple[list[str], int]:
        before = world.router.turns
        return ids(world, **selection), world.router.turns - before

    die(world, *(job(f"old{n:02}") for n in range(30)))
    world.manager(b"m", b"KBYE", v2.Empty())
    world.wall += 1000
    since = world.wall
    world.enqueue(job("new0"), job("new1"))
    world.wall += 500
    middle = world.wall
    world.enqueue(job("new2"))
    all_33 = 33 // limits.LIST_ROWS
    found, few = turns(since=since)
    assert found == ["new2", "new1", "new0"]
    assert few <= 4 < all_33, "a job without a row of its own takes a page here"
    found, few = turns(since=since, until=middle)
    assert found == ["new1", "new0"]
    assert few <= 4 < all_33
    assert turns(since=since, states=["dead"]) == ([], 1)
    assert len(turns(until=since)[0]) == 30
    ask(world, "REQUEUE", ids=["old07"])
    assert turns(since=since)[0] == ["new2", "new1", "new0", "old07"], "it counts as accepted now"
    world.restart()
    assert turns(since=since)[0] == ["new2", "new1", "new0", "old07"]
    world.wall += 1000
    assert turns(since=world.wall) == ([], 1)


# ---- count first, then act on these -----------------------------------------------------------------------


def test_what_was_counted_is_what_is_acted_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_JOBS_MAX", 1)
    die(world, *(job(f"d{n}", queue="mail" if n % 2 else "default") for n in range(10)))
    selection = {"states": ["dead"], "queue": "mail"}
    first = ask(world, "COUNT", **selection)
    assert (first["jobs"], first["newest"] > 0) == (2, True)
    assert sum(every(world, "COUNT", "jobs", **selection)) == 5
    assert ask(world, "COUNT", ids=["d1", "nobody"]) == {"jobs": 1, "newest": first["newest"], "next": None}
    die(world, job("later", queue="mail"))
    assert sum(every(world, "REQUEUE", "requeued", **selection, before=first["newest"])) == 5
    assert ids(world, states=["dead"], queue="mail") == ["later"]
    assert ask(world, "REQUEUE", **selection, before=first["newest"])["requeued"] == 0, "acting twice is harmless"


def test_what_runs_is_cancelled_by_filter_too(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(job("r0"), job("r1"), job("w", queue="mail"))
    told = ask(world, "CANCEL", states=["running", "waiting", "delayed"], worker="m")
    assert told == {"cancelled": 2, "next": None, "told": {"r0": "stopping", "r1": "stopping"}}
    assert ids(world, states=["waiting", "running"]) == ["w"]


# ---- bounds -----------------------------------------------------------------------------------------------


def test_an_answer_is_never_longer_than_its_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_JOBS_MAX", 4)
    world.enqueue(*(job(f"j{n}") for n in range(10)))
    assert len(ask(world, "JOBS")["jobs"]) == 4
    assert len(ask(world, "JOBS", limit=1_000_000)["jobs"]) == 4


def test_one_job_tells_how_its_attempts_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.enqueue(job("a", options=v2.pack({"retries": 1})))
    world.join(b"m", credit=10)
    for state in ("crashed", "failed", "failed"):
        began = world.wall
        world.finish(b"m", world.handed(b"m")[-1], state=state)
        world.turn()
    told = ask(world, "JOB", id="a")
    assert told["state"] == "dead"
    crashed, failed = told["attempts"]
    error, ended = "builtins.ValueError: no", pytest.approx(began, abs=5)
    assert crashed == {"attempt": 1, "started": None, "ended": ended, "worker": "m", "error": error}
    assert (failed["attempt"], failed["ended"] - failed["started"]) == (2, pytest.approx(0.001, abs=1e-4))
    monkeypatch.setattr(attempts, "JOBS_MAX", 1)
    world.enqueue(job("b", options=v2.pack({"retries": 1})))
    world.finish(b"m", world.handed(b"m")[-1], state="failed")
    assert [len(ask(world, "JOB", id=id)["attempts"]) for id in "ab"] == [0, 1]


def test_attempts_of_one_job_and_of_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ALL_MAX", 30)
    kept = attempts.Attempts()
    for id in "abc":
        for n in range(25):
            kept.add(id, attempts.Attempt(n, None, 0.0, "m", "no"))
    assert [len(kept.of(id)) for id in "abc"] == [0, 0, 20]
    kept.add("a", attempts.Attempt(1, None, 0.0, "m", "no"))
    assert [len(kept.of(id)) for id in "abc"] == [1, 0, 20]


def test_one_job_tells_everything(world: World) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    payload = calls.pack_call(("a.png", b"\xff", when), {"width": {1: 2}})
    die(world, job("a", payload=payload, options=v2.pack({"retries": 0, "timeout_s": 5.0})))
    told = ask(world, "JOB", id="a")
    assert told["arguments"] == {"args": ["a.png", "/w==", "2026-01-02T00:00:00Z"], "kwargs": {"width": {"1": 2}}}
    assert told["failure"] == {"type": "builtins.ValueError", "message": "no", "traceback": ""}
    assert told["options"] == {"timeout_s": 5.0}
    assert told["kept_until"] == pytest.approx(world.wall + limits.DEAD_TTL_S, abs=1)
    assert told["value"] is None
    world.enqueue(job("b", payload=calls.pack_call((), {}, (1,))))
    world.finish(b"m", world.handed(b"m")[-1], value=[1, None])
    told = ask(world, "JOB", id="b")
    assert (told["state"], told["value"]) == ("succeeded", [1, None])
    assert told["arguments"] == {"args": [], "kwargs": {}, "class_args": [1], "class_kwargs": {}}
    assert ask(world, "JOB", id="nobody") is None


@pytest.mark.parametrize("odd", [b"", b"\xff", b"\x91" * 2000 + b"\xc0", b"\x92\x90\x80\x00", v2.pack([1, 2])])
def test_arguments_that_are_none_are_told_as_a_sentence(world: World, odd: bytes) -> None:
    world.enqueue(job("a", payload=odd))
    assert str(ask(world, "JOB", id="a")["arguments"]).startswith("cannot be read")


# ---- requeue ---------------------------------------------------------------------------------------------


def test_a_dead_job_waits_again_as_if_it_was_new(world: World) -> None:
    retries = v2.pack({"retries": 1, "expires_s": 60.0})
    world.join(b"m", credit=100)
    world.enqueue(job("a", options=retries))
    for _ in range(2):
        world.finish(b"m", world.handed(b"m")[-1], state="failed")
    world.wait(120, step=10)
    first = world.handed(b"m")[-1]
    assert ask(world, "REQUEUE", ids=["a"]) == {"requeued": 1, "next": None}
    again = world.info("a")
    assert again is not None
    assert (again["attempt"], again["failures"], again["crashes"]) == (3, 0, 0)
    assert again["created"] == pytest.approx(world.wall, abs=1)
    assert again["failure"]["message"] == "no"
    (handed,) = world.handed(b"m")[2:]
    assert (handed.id, handed.attempt) == ("a", 3)
    assert handed.lease > first.lease
    world.finish(b"m", handed, state="failed")
    assert len(world.handed(b"m")) == 4, "it has its retries before it again"
    world.finish(b"m", world.handed(b"m")[-1])
    assert world.store.find(["a"])[0].state == "succeeded"
    assert world.router.ledger.counts["requeued"] == 1


def test_requeueing_is_durable_when_it_is_answered(world: World) -> None:
    die(world, job("a"), job("b"))
    assert ask(world, "REQUEUE", states=["dead"])["requeued"] == 2
    world.restart()
    assert world.router.ledger.backlogs["default"].head == 2
    world.join(b"n", credit=9)
    world.wait(11)
    assert [(each.id, each.attempt) for each in world.handed(b"n")] == [("a", 2), ("b", 2)]


def test_an_expired_job_can_be_requeued_and_its_time_counts_from_now(world: World) -> None:
    world.enqueue(job("a", options=v2.pack({"expires_s": 5.0})))
    world.wall += 10
    world.join(b"m", credit=1)
    assert world.store.find(["a"])[0].state == "expired"
    assert ask(world, "REQUEUE", states=["expired"])["requeued"] == 1
    world.turn()
    assert [each.id for each in world.handed(b"m")] == ["a"]


def test_what_has_not_died_is_not_requeued(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(job("good"), job("running"), job("waiting"))
    world.finish(b"m", world.handed(b"m")[0], limit=2)
    assert ask(world, "REQUEUE", ids=["good", "running", "waiting", "nobody"])["requeued"] == 0
    for selection in ({}, {"states": ["succeeded"]}, {"states": ["waiting"]}, {"queue": "default"}):
        reason, text = refused(world, "REQUEUE", **selection)
        assert reason == "malformed"
        assert "dead, expired, lost" in text


def test_requeue_by_filter_goes_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACT_JOBS_MAX", 100)
    die(world, *(job(f"j{n:04}", queue="mail" if n % 10 == 0 else "default") for n in range(1050)))
    world.manager(b"m", b"KBYE", v2.Empty())
    slices = every(world, "REQUEUE", "requeued", states=["dead"], queue="default", error="ValueError")
    assert sum(slices) == 945
    assert max(slices) == 100
    assert len(slices) >= 10
    assert world.store.info()["dead"] == 105
    world.join(b"n", credit=10_000)
    right = [f"j{n:04}" for n in range(1050) if n % 10]
    assert [each.id for each in world.handed(b"n")] == right, "each at the place of its acceptance"
    assert sum(every(world, "REQUEUE", "requeued", states=["dead"])) == 105


def test_a_slice_reads_no_more_payload_than_it_should(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES", 1000)
    large = calls.pack_call(("x" * 400,), {})
    die(world, *(job(f"j{n}", payload=large) for n in range(7)))
    assert every(world, "REQUEUE", "requeued", states=["dead"]) == [2, 2, 2, 1]


@pytest.mark.parametrize("head", [2, 3, 100])
def test_requeued_jobs_stand_before_what_waits_in_memory_and_only_in_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch, head: int
) -> None:
    die(world, *(job(f"d{n}", priority=n % 2) for n in range(6)))
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", head)
    monkeypatch.setattr(limits, "PAGE_JOBS", 2)
    world.manager(b"m", b"KBYE", v2.Empty())
    world.enqueue(*(job(f"w{n}") for n in range(6)))
    assert every(world, "REQUEUE", "requeued", states=["dead"], limit=4) == [4, 2]
    world.restart()
    world.join(b"n", credit=100)
    world.wait(11)
    right = ["d1", "d3", "d5", "d0", "d2", "d4", *(f"w{n}" for n in range(6))]
    assert [each.id for each in world.handed(b"n")] == right


def test_a_late_outcome_of_the_dead_attempt_changes_nothing(world: World) -> None:
    die(world, job("a"))
    (old,) = world.handed(b"m")
    world.manager(b"m", b"KBYE", v2.Empty())
    ask(world, "REQUEUE", ids=["a"])
    world.restart()
    verdicts = world.join(b"m", held=[v2.Held("a", old.lease)], nonce="other")
    assert [each.verdict for each in verdicts] == ["kill"]


def test_a_requeued_job_does_not_take_a_key_that_another_one_holds(world: World) -> None:
    die(world, job("a", unique="key"))
    world.manager(b"m", b"KBYE", v2.Empty())
    world.enqueue(job("b", unique="key"))
    assert ask(world, "REQUEUE", ids=["a"])["requeued"] == 0
    assert ask(world, "CANCEL", states=["waiting"], queue="default")["cancelled"] == 1
    assert ask(world, "REQUEUE", ids=["a"])["requeued"] == 1
    ack = world.enqueue(job("c", unique="key"))
    assert ask(world, "JOB", id="c") is None, ack


def test_two_dead_jobs_of_one_key_are_requeued_one_at_a_time(world: World) -> None:
    for id in ("a", "b"):
        die(world, job(id, unique="key"))
    world.manager(b"m", b"KBYE", v2.Empty())
    assert ask(world, "REQUEUE", states=["dead"])["requeued"] == 1


# ---- purge -----------------------------------------------------------------------------------------------


def test_dead_jobs_are_purged_and_others_are_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACT_JOBS_MAX", 10)
    die(world, *(job(f"d{n}", queue="mail" if n % 5 == 0 else "default") for n in range(35)))
    world.enqueue(job("good"), job("running"))
    world.finish(b"m", world.handed(b"m")[-2])
    slices = every(world, "PURGE", "purged", states=["dead"], queue="default")
    assert (sum(slices), max(slices)) == (28, 10)
    assert sorted(ids(world)) == sorted(["running", "good", *(f"d{n}" for n in range(0, 35, 5))])
    assert ask(world, "PURGE", ids=["good", "running", "d0", "nobody"])["purged"] == 2
    assert ids(world, states=["running"]) == ["running"]
    world.restart()
    assert world.store.find(["good", "d0", "d1"]) == []
    assert (world.store.info()["results"], world.store.info()["dead"]) == (0, 6)


def test_a_purge_without_words_is_refused(world: World) -> None:
    for selection in ({}, {"states": ["waiting"]}, {"states": ["running"]}, {"queue": "mail"}, {"states": ["delayed"]}):
        reason, text = refused(world, "PURGE", **selection)
        assert reason == "malformed"
        assert "cancelled, dead, expired, lost, succeeded" in text


@pytest.mark.parametrize("head", [2, 100])
def test_a_purged_queue_calls_off_what_waits_and_is_delayed_while_jobs_run(
    world: World, monkeypatch: pytest.MonkeyPatch, head: int
) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", head)
    monkeypatch.setattr(limits, "TIMERS_MAX", head)
    monkeypatch.setattr(limits, "ACT_JOBS_MAX", 7)
    world.join(b"m", credit=3)
    later = v2.pack({"delay_s": 600.0})
    world.enqueue(*(job(f"r{n}") for n in range(3)))
    world.enqueue(*(job(f"j{n}") for n in range(20)), *(job(f"l{n}", options=later) for n in range(5)))
    world.enqueue(job("other", queue="mail"))
    world.client(b"client", b"WAIT", v2.Wait(2, ["j0", "l4"]))
    slices = every(world, "CANCEL", "cancelled", queue="default", states=["waiting", "delayed"])
    assert (sum(slices), max(slices)) == (25, 7)
    assert sorted((each.id, each.state) for each in world.results(b"client")) == [
        ("j0", "cancelled"), ("l4", "cancelled"),
    ]  # fmt: skip
    assert len(ids(world, states=["cancelled"])) == 25, "no accepted job disappears"
    assert ids(world, states=["running"]) == ["r2", "r1", "r0"]
    assert ids(world, states=["waiting"]) == ["other"]
    world.finish(b"m", *world.handed(b"m"), limit=100)
    world.wait(700, step=10)
    assert len(world.handed(b"m")) == 3
    assert [each.state for each in world.store.find(["r0", "r1", "r2"])] == ["succeeded"] * 3
    world.restart()
    assert [len(each) + each.delayed for each in world.router.ledger.backlogs.values()] == [1]


def test_jobs_are_cancelled_here_as_by_a_client(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("running"), job("waiting"))
    told = ask(world, "CANCEL", ids=["running", "waiting", "nobody"])
    assert told == {"cancelled": 2, "next": None, "told": {"running": "stopping", "waiting": "cancelled"}}
    assert ask(world, "CANCEL", ids=["running", "waiting", "nobody"])["cancelled"] == 0, "acting twice is harmless"
    assert any(each.frames[2] == b"KILL" for each in world.sent)
    world.restart()
    assert len(ids(world, states=["cancelled"])) == 2


def test_a_job_that_is_called_off_as_it_is_handed_out_is_killed_behind_that(world: World) -> None:
    """The manager would run a hand-out that comes behind the order to stop it."""
    world.join(b"m")
    world.enqueue(job("a"))
    ready = (BACKEND, [b"m", *v2.encode(b"READY", v2.Ready(1))])
    cancel = v2.encode(b"CANCEL", v2.Question(1, {"ids": ["a"]}))
    sent = world.turn(ready, (ADMINISTRATIVE, [b"operator", *cancel]))
    assert [each.frames[2] for each in sent if each.peer == b"m"] == [b"REQUEST", b"KILL"]


# ---- queues ----------------------------------------------------------------------------------------------


def test_a_paused_queue_hands_out_nothing_and_what_runs_goes_on(world: World) -> None:
    world.join(b"m", credit=1, queues=[(10, "default"), (5, "mail")])
    world.enqueue(job("running"), job("a"), job("b"))
    assert ask(world, "PAUSE", queue="default")["paused"] is True
    world.enqueue(job("c"), job("m1", queue="mail"))
    world.finish(b"m", world.handed(b"m")[0], limit=100)
    world.join(b"n", credit=100)
    world.wait(2)
    assert [each.id for each in world.handed(b"m") + world.handed(b"n")] == ["running", "m1"]
    assert world.store.find(["running"])[0].state == "succeeded"
    assert ask(world, "RESUME", queue="default")["paused"] is False
    world.turn()
    assert sorted(each.id for each in world.handed(b"m") + world.handed(b"n")) == ["a", "b", "c", "m1", "running"]


def test_a_paused_queue_stays_paused_over_a_restart(world: World) -> None:
    world.enqueue(job("a"), job("b", queue="mail"))
    ask(world, "PAUSE", queue="default")
    world.restart()
    world.join(b"m", credit=9, queues=[(10, "default"), (10, "mail")])
    world.wait(1)
    assert [each.id for each in world.handed(b"m")] == ["b"]
    assert ask(world, "QUEUES")["default"]["paused"] is True
    ask(world, "RESUME", queue="default")
    world.restart()
    world.join(b"n", credit=9)
    world.wait(11)
    assert [each.id for each in world.handed(b"n")] == ["a"]
    assert world.router.ledger.rules.by_queue == {}


def test_a_paused_queue_takes_no_turn_of_a_fair_manager(world: World) -> None:
    inform = v2.Inform(1, "m", "nonce", [(10, "default"), (1, "mail")], [], {}, True)
    ask(world, "PAUSE", queue="default")
    world.enqueue(*(job(f"d{n}") for n in range(5)), *(job(f"m{n}", queue="mail") for n in range(5)))
    world.manager(b"m", b"INFORM", inform)
    world.manager(b"m", b"READY", v2.Ready(8))
    assert [each.id for each in world.handed(b"m")] == [f"m{n}" for n in range(5)]
    ask(world, "RESUME", queue="default")
    world.turn()
    assert len(world.handed(b"m")) == 8


def test_given_back_and_woken_jobs_of_a_paused_queue_wait(world: World) -> None:
    world.join(b"m", credit=9)
    world.enqueue(job("a"), job("late", options=v2.pack({"delay_s": 3.0})))
    ask(world, "PAUSE", queue="default")
    world.finish(b"m", *world.handed(b"m"), state="returned")
    world.wait(5)
    assert len(world.handed(b"m")) == 1
    assert ids(world, states=["waiting"]) == ["late", "a"]


def test_a_draining_queue_takes_nothing_new_and_runs_empty(world: World) -> None:
    world.enqueue(job("a"), job("b", queue="mail"))
    assert ask(world, "DRAIN", queue="default")["draining"] is True
    for _ in range(2):
        (refusal,) = world.enqueue(job("c"), job("a"), job("d", queue="mail")).refusals
        assert (refusal.id, refusal.reason) == ("c", "queue_draining")
        assert "until it is resumed" in refusal.text
        world.restart()
    world.join(b"m", credit=9)
    world.wait(11)
    assert [each.id for each in world.handed(b"m")] == ["a"]
    ask(world, "RESUME", queue="default")
    assert world.enqueue(job("c")).refusals == []


def test_over_its_bound_a_queue_refuses_and_a_resend_is_still_acknowledged() -> None:
    world = World(queue_jobs_max=(("default", 3), ("*", 5)))
    later = v2.pack({"delay_s": 60.0})
    ack = world.enqueue(job("a"), job("b", options=later), job("c"), job("d"), job("e", options=later))
    assert [(each.id, each.reason) for each in ack.refusals] == [("d", "queue_full"), ("e", "queue_full")]
    assert "bound" in ack.refusals[0].text
    assert world.router.refusals["queue_full"] == 2
    assert world.enqueue(job("a"), job("c")).refusals == [], "they are stored already"
    assert len(world.enqueue(*(job(f"m{n}", queue="mail") for n in range(7))).refusals) == 2
    world.join(b"m", credit=1)
    assert world.enqueue(job("d")).refusals == [], "what runs does not count"
    assert [each.reason for each in world.enqueue(job("e")).refusals] == ["queue_full"]
    assert world.router.ledger.counts["accepted"] == 3 + 2 + 5 + 1


def test_delayed_jobs_count_over_a_restart_wherever_they_are(
    world: World, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(limits, "TIMERS_MAX", 2)
    world = World(store, queue_jobs_max=(("default", 6),))
    later = v2.pack({"delay_s": 60.0})
    world.enqueue(*(job(f"l{n}", options=later) for n in range(5)))
    world.restart()
    assert [each.id for each in world.enqueue(job("a"), job("b")).refusals] == ["b"]
    assert ask(world, "QUEUES")["default"] | {"free_slots": 0, "oldest_s": 0} == {
        "waiting": 1, "delayed": 5, "running": 0, "processed": 0, "managers": 0, "free_slots": 0, "oldest_s": 0,
        "paused": False, "draining": False, "jobs_max": 6,
    }  # fmt: skip
    world.wait(70, step=10)
    assert world.router.ledger.backlogs["default"].delayed == 0
    ask(world, "CANCEL", ids=["l0", "l4"])
    assert [each.id for each in world.enqueue(job("c"), job("d"), job("e")).refusals] == ["e"]


def test_a_limit_takes_the_place_of_the_setting_until_it_is_taken_back(store: Store) -> None:
    world = World(store, queue_jobs_max=(("*", 2),))
    assert ask(world, "LIMIT", queue="default", jobs_max=4)["jobs_max"] == 4
    world.restart()
    assert [each.id for each in world.enqueue(*(job(f"j{n}") for n in range(6))).refusals] == ["j4", "j5"]
    assert ask(world, "LIMIT", queue="default", jobs_max=None)["jobs_max"] == 2
    assert len(world.enqueue(job("x")).refusals) == 1
    assert ask(world, "LIMIT", queue="other", jobs_max=0)["jobs_max"] == 0
    assert [each.reason for each in world.enqueue(job("y", queue="other")).refusals] == ["queue_full"]


def test_a_call_that_a_full_queue_refuses_takes_no_key_from_one_that_has_ended(store: Store) -> None:
    world = World(store, queue_jobs_max=(("*", 1),))
    world.join(b"m", credit=1)
    world.enqueue(job("a", unique="key", options=v2.pack({"unique_for_s": 60.0})))
    world.finish(b"m", *world.handed(b"m"))
    world.enqueue(job("fills the queue"))
    replacing = v2.pack({"unique_for_s": 60.0, "on_conflict": "replace"})
    ack = world.enqueue(job("b", unique="key", options=replacing))
    assert [each.reason for each in ack.refusals] == ["queue_full"]
    ack = world.enqueue(job("c", unique="key", options=v2.pack({"unique_for_s": 60.0})))
    assert ack.existing == [("c", "a")]


def test_what_was_said_about_queues_is_in_status_and_in_the_log(world: World) -> None:
    ask(world, "PAUSE", queue="mail")
    ask(world, "LIMIT", queue="mail", jobs_max=10)
    assert ask(world, "STATUS")["queues"] == {"mail": {"paused": True, "draining": False, "jobs_max": 10}}
    assert [note.text for note in world.router.notes if "operator" in note.text] == [
        "an operator: queue 'mail' is paused",
        "an operator: queue 'mail' is bound to 10 waiting jobs",
    ]


def test_queues_come_in_pages_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_JOBS_MAX", 2)
    world.enqueue(*(job(f"j{n}", queue=f"q{n}") for n in (3, 1, 4)))
    ask(world, "PAUSE", queue="q2")
    pages = [list(ask(world, "QUEUES", after=after)) for after in ("", "q2", "q4")]
    assert pages == [["q1", "q2"], ["q3", "q4"], []]


def test_one_queue_is_asked_for_among_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_JOBS_MAX", 2)
    world.enqueue(*(job(f"j{n}", queue=f"q{n}") for n in (3, 1, 4)))
    ask(world, "PAUSE", queue="q9")
    assert {name: each["waiting"] for name, each in ask(world, "QUEUES", queue="q4").items()} == {"q4": 1}
    assert ask(world, "QUEUES", queue="q9")["q9"]["paused"] is True
    assert ask(world, "QUEUES", queue="q5") == {}


def test_rules_for_too_many_queues_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUES_MAX", 2)
    for queue in ("a", "b", "a"):
        ask(world, "PAUSE", queue=queue)
    assert refused(world, "PAUSE", queue="c")[0] == "too_large"
    assert ask(world, "RESUME", queue="c")["paused"] is False


# ---- bad questions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "params", "said"),
    [
        ("JOBS", {"states": ["ded"]}, "the states are cancelled, dead"),
        ("JOBS", {"sate": "dead"}, "sate"),
        ("JOBS", {"limit": 0}, ">= 1"),
        ("JOBS", {"before": 1 << 63}, "<= "),
        ("JOBS", {"before": "x"}, "int"),
        ("JOBS", {"ids": ["x"] * 501}, "length <= 250"),
        ("JOBS", {"ids": "x"}, "array"),
        ("JOBS", {"queue": "q" * 201}, "length <= 200"),
        ("JOB", {}, "id"),
        ("JOB", {"id": 7}, "str"),
        ("REQUEUE", {"ids": [""]}, "length >= 1"),
        ("PURGE", {"states": ["dead"], "queu": "mail"}, "queu"),
        ("CANCEL", {}, "delayed, running, waiting"),
        ("CANCEL", {"states": ["waiting", "dead"]}, "delayed, running, waiting"),
        ("JOBS", {"states": "dead"}, "array"),
        ("JOBS", {"arguments": {"0": 7}}, "str"),
        ("PAUSE", {}, "queue"),
        ("PAUSE", {"queue": ""}, "length >= 1"),
        ("LIMIT", {"queue": "mail"}, "jobs_max"),
        ("LIMIT", {"queue": "mail", "jobs_max": -1}, ">= 0"),
        ("LIMIT", {"queue": "mail", "jobs_max": 1.5}, "int"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_with_a_sentence(
    world: World, command: str, params: dict[str, Any], said: str
) -> None:
    reason, text = refused(world, command, **params)
    assert reason == "malformed"
    assert said in text
    assert world.router.refusals["malformed"] == 1


def test_acts_of_one_turn_share_the_loop_with_others(world: World) -> None:
    """One act fills a turn's share of questions: the second one is answered in the next turn."""
    die(world, job("a"), job("b"))
    acts = [v2.encode(b"REQUEUE", v2.Question(n, {"states": ["dead"]})) for n in (1, 2)]
    sent = world.turn(*((ADMINISTRATIVE, [b"operator", *frames]) for frames in acts))
    assert len([each for each in sent if each.peer == b"operator"]) == 1
    assert world.router.next_deadline() == world.now
    assert len([each for each in world.turn() if each.peer == b"operator"]) == 1


# ---- run again --------------------------------------------------------------------------------------------------


def test_a_job_is_run_again_as_a_new_one(world: World) -> None:
    options = v2.pack_options(v2.Options(delay_s=60.0, retries=2, result_ttl_s=5.0))
    first = job("a", queue="mail", name="shop.send", priority=7, options=options)
    world.enqueue(first)
    assert ask(world, "RERUN", id="a", job="b") == {"id": "b"}
    told = ask(world, "JOB", id="b")
    assert (told["state"], told["queue"], told["name"], told["priority"]) == ("waiting", "mail", "shop.send", 7)
    assert told["arguments"] == ask(world, "JOB", id="a")["arguments"]
    assert told["options"] == {"retries": 2, "result_ttl_s": 5.0}
    assert ask(world, "RERUN", id="a", job="b") == {"id": "b"}  # said again, because the answer was lost
    assert len(ids(world, name="shop.send")) == 2
    world.join(b"m", credit=5, queues=[(1, "mail")])
    (handed,) = world.handed(b"m")
    assert (handed.id, handed.payload) == ("b", first.payload)
    assert ask(world, "RERUN", id="nobody", job="c") is None


def test_a_job_is_run_again_with_other_arguments(world: World) -> None:
    world.enqueue(job("a", unique="user:1"))
    given = {"args": [3], "kwargs": {"b": 4}}
    assert ask(world, "RERUN", id="a", job="b", arguments=given) == {"id": "b"}
    assert ask(world, "JOB", id="b")["arguments"] == given
    assert ask(world, "JOB", id="b")["unique"] is None
    assert ask(world, "RERUN", id="a", job="c") == {"id": "a"}  # its key is held: that job stands for it
    assert ask(world, "RERUN", id="b", job="e", arguments={"kwargs": {"b": 5}}) == {"id": "e"}
    assert ask(world, "JOB", id="e")["arguments"] == {"args": [3], "kwargs": {"b": 5}}  # what is not given is as it was
    world.enqueue(job("bytes", payload=b"anything"))
    for id, wrong in (("a", {"args": {}}), ("a", {"args": [], "more": 1}), ("a", [1]), ("bytes", {"args": [1]})):
        assert refused(world, "RERUN", id=id, job="d", arguments=wrong)[0] == "malformed"


@pytest.mark.parametrize("closed", ["storage_full", "draining"])
def test_nothing_is_run_again_while_no_jobs_are_accepted(world: World, closed: str) -> None:
    """With a full store each try would make memory anew."""
    world.enqueue(job("a"))
    world.router.schedules.put(Schedule("s", "t", Rule(interval_s=60.0), job("")), world.wall)
    world.router.storage_full = closed == "storage_full"
    world.router.received_disconnect = closed == "draining"
    assert refused(world, "RERUN", id="a", job="b")[0] == closed
    assert refused(world, "SCHEDULE", id="s", act="run", job="b")[0] == closed
    assert world.info("b") is None


def test_a_schedule_that_is_only_looked_at_is_no_act_of_an_operator(world: World) -> None:
    world.router.schedules.put(Schedule("s", "t", Rule(interval_s=60.0), job("")), world.wall)
    assert ask(world, "SCHEDULE", id="s")["id"] == "s"
    assert not [note for note in world.router.notes if "operator" in note.text]


def test_a_job_is_not_run_again_in_a_queue_that_takes_nothing(world: World) -> None:
    world.enqueue(job("a"))
    ask(world, "DRAIN", queue="default")
    assert refused(world, "RERUN", id="a", job="b")[0] == "queue_draining"
    assert ids(world) == ["a"]


def test_a_queue_says_how_long_the_first_job_has_waited(world: World) -> None:
    world.enqueue(job("a"))
    world.wait(5)
    world.enqueue(job("b", priority=9))
    assert ask(world, "QUEUES")["default"]["oldest_s"] == pytest.approx(5, abs=0.1)
    ask(world, "PAUSE", queue="mail")
    assert ask(world, "QUEUES")["mail"]["oldest_s"] == 0


def test_one_who_asks_too_much_is_refused_and_others_are_answered(world: World) -> None:
    asked = v2.encode(b"JOBS", v2.Question(1, {}))
    many = [(ADMINISTRATIVE, [b"greedy", *asked])] * (limits.ASKER_QUESTIONS_MAX + 5)
    sent = world.turn(*many)
    refusals = [v2.decode(each.frames[3], v2.Refused) for each in sent if each.frames[2] == b"REFUSED"]
    assert [each.reason for each in refusals] == ["too_large"] * 5
    sent = world.turn((ADMINISTRATIVE, [b"modest", *asked]))
    for _ in range(limits.ASKER_QUESTIONS_MAX):
        sent += world.turn()
    answers = [each.peer for each in sent if each.frames[2] == b"REPLY"]
    assert (answers.count(b"greedy"), answers.count(b"modest")) == (limits.ASKER_QUESTIONS_MAX - 1, 1)
    assert not world.router.asking
