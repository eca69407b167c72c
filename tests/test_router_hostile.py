"""What a hostile or broken peer may send, against the Router's turns: each once ended the Router, or held it up."""

from __future__ import annotations

import json
import math

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND
from eventmq.protocol import v1, v2
from eventmq.protocol.v2 import Failure, Outcome
from eventmq.store.open import open_store

DEPTH = 100_000
DEEP = b"\x91" * DEPTH + b"\xc0"
"""msgpack: a list in a list in a list …"""
DEEP_JSON = b"[" * DEPTH + b"]" * DEPTH


@pytest.fixture
def world() -> World:
    return World()


def serves(world: World) -> bool:
    """Whether a job still goes through."""
    world.join(b"good", credit=1)
    world.enqueue(job("after"))
    world.wait(0.2)
    (handed,) = world.handed(b"good")
    world.finish(b"good", handed, value=1)
    return world.router.ledger.counts["succeeded"] > 0


def old_manager(world: World, slots: int = 1) -> None:
    world.turn((BACKEND, [b"old", *v1.encode(b"INFORM", "1", '[[10, "old"]]', "worker")]))
    for _ in range(slots):
        world.turn((BACKEND, [b"old", *v1.encode(b"READY", "2")]))


@pytest.mark.parametrize(
    ("socket", "frames"),
    [
        (ADMINISTRATIVE, [b"", b"eMQP/2.0", b"STATUS", b"\x92\x01\x81\xa1a" + DEEP]),
        (BACKEND, [b"", b"eMQP/2.0", b"INFORM", b"\x96\x01\xa1n\xa1o\x90\x90\x81\xa1a" + DEEP]),
        (FRONTEND, [b"", b"eMQP/2.0", b"WAIT", b"\x93\x01\x90" + DEEP]),
        (BACKEND, [b"", b"eMQP/1.0", b"INFORM", b"id", b'[[1, "q", ' + DEEP_JSON + b"]]", b"worker"]),
        (FRONTEND, [b"", b"eMQP/1.0", b"REQUEST", b"id", b"q", b"", b'["run", {"args": ' + DEEP_JSON + b"}]"]),
        (
            FRONTEND,
            [
                b"",
                b"eMQP/1.0",
                b"REQUEST",
                b"id",
                b"q",
                b"",
                b'["run",{"path":"a","callable":"b","args":[%s]}]' % (b"9" * 99),
            ],
        ),
    ],
)
def test_what_is_nested_too_deeply_or_too_large_a_number_is_malformed(
    world: World, socket: str, frames: list[bytes]
) -> None:
    world.turn((socket, [b"peer", *frames]))
    assert world.router.refusals == {"malformed": 1}
    assert serves(world)


def test_a_retry_count_without_end_is_malformed(world: World) -> None:
    call = json.dumps(["run", {"path": "a", "callable": "b"}])
    world.turn((FRONTEND, [b"peer", *v1.encode(b"REQUEST", "id", "q", f"retry-count:{10**30}", call)]))
    assert world.router.refusals == {"malformed": 1}
    assert serves(world)


def test_options_that_are_no_text_are_refused(world: World) -> None:
    (refusal,) = world.enqueue(job("a", options=b"\x81\xa9tim\xe5out_s\x05")).refusals
    assert (refusal.id, refusal.reason) == ("a", "invalid_job")
    assert serves(world)


@pytest.mark.parametrize("payload", [b"\x92" + DEEP + b"\x80", b"\xc1", b"\x92\x91\x81\x90\x01\x80", b""])
def test_arguments_that_json_cannot_carry_end_their_job_alone(world: World, payload: bytes) -> None:
    world.enqueue(job("a", queue="old", payload=payload))
    old_manager(world)
    world.wait(0.2)
    assert world.router.ledger.counts["dead"] == 1
    assert serves(world)


@pytest.mark.parametrize("value", ['{"value": "\\ud800"}', '{"value": %s}' % ("9" * 99)])
def test_a_value_that_cannot_be_kept_is_a_failure_of_its_job(world: World, value: str) -> None:
    world.enqueue(job("a", queue="old"))
    old_manager(world)
    world.turn((BACKEND, [b"old", *v1.encode(b"REPLY", "3", value, "a")]))
    assert world.router.ledger.counts["dead"] == 1
    assert serves(world)


def test_a_reply_nested_too_deeply_is_malformed(world: World) -> None:
    old_manager(world)
    world.turn((BACKEND, [b"old", *v1.encode(b"REPLY", "3", DEEP_JSON, "a")]))
    assert world.router.refusals == {"malformed": 1}


@pytest.mark.parametrize("value", [DEEP, b"\xc1", b"\xa1\xff"])
def test_a_value_that_cannot_be_read_reaches_a_2020_client_as_text(world: World, value: bytes) -> None:
    call = '["run", {"path": "a", "callable": "b"}]'
    world.turn((FRONTEND, [b"old client", *v1.encode(b"REQUEST", "a", "default", "reply-requested", call)]))
    world.join(b"m", credit=1)
    (handed,) = world.handed(b"m")
    world.sent.clear()
    world.manager(b"m", b"REPLY", v2.Reply(1, [Outcome(handed.id, handed.lease, "succeeded", value)], 1))
    (reply,) = [sent.frames for sent in world.sent if sent.peer == b"old client"]
    assert "cannot be read" in json.loads(reply[4])["value"]


def test_credit_without_end_is_cut(world: World) -> None:
    world.join(b"m", credit=2**62)
    assert world.router.workers[b"m"]["available_slots"] == limits.CREDIT_MAX
    world.client(b"admin", b"REQUEST", v2.Request(1, []))
    assert len(world.router.queues["default"]) == limits.CREDIT_MAX


def test_a_delay_that_is_no_number_is_none() -> None:
    world = World(open_store("memory:", "none"))
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=v2.pack_options(v2.Options(retries=1))))
    (handed,) = world.handed(b"m")
    outcome = Outcome("a", handed.lease, "retry", b"", Failure("x", "y"), math.nan, math.nan)
    world.manager(b"m", b"REPLY", v2.Reply(1, [outcome], 2))
    assert [each.attempt for each in world.handed(b"m")] == [1, 2]


@pytest.mark.parametrize("run_s", [math.nan, math.inf, -math.inf, -1.0, 1e308])
@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_time_that_nothing_can_have_is_not_told(run_s: float, state: str) -> None:
    world = World(open_store("memory:", "none"))
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    world.manager(b"m", b"REPLY", v2.Reply(1, [Outcome("a", handed.lease, state, run_s=run_s)], 1))
    assert world.store.find(["a"])[0].run_s == 0.0


def test_a_grace_that_is_no_number_is_none(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    world.client(b"c", b"CANCEL", v2.Cancel(1, ["a"], math.nan))
    world.wait(limits.CANCEL_ANSWER_S + 0.2)
    assert [v2.decode(each.frames[3], v2.Answer).answer for each in world.sent if each.frames[2] == b"REPLY"] == [
        {"a": "unconfirmed"}
    ]


def test_lines_that_were_left_out_are_counted_as_far_as_there_are_numbers(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a"))
    (handed,) = world.handed(b"m")
    for skipped in (limits.JOB_LOG_SKIPPED_MAX, 2**64 - 1, 2**64 - 1):
        report = v2.Report("a", handed.lease, b"", [v2.LogLine(0.0, "INFO", "x")], skipped)
        world.manager(b"m", b"PROGRESS", v2.Progress([report]))
    assert world.router.refusals == {"malformed": 2}
    (reply,) = world.turn((ADMINISTRATIVE, [b"op", *v2.encode(b"LOGS", v2.Question(1, {"id": "a"}))]))
    assert v2.decode(reply.frames[3], v2.Answer).answer["next"] == limits.JOB_LOG_SKIPPED_MAX + 1


def test_a_weight_that_no_message_could_carry_is_refused(world: World) -> None:
    world.turn((BACKEND, [b"old", *v1.encode(b"INFORM", "1", f'[[{"9" * 30}, "old"]]', "worker")]))
    assert world.router.refusals == {"malformed": 1}
    (reply,) = world.turn((ADMINISTRATIVE, [b"op", *v2.encode(b"WORKERS", v2.Question(1))]))
    assert v2.decode(reply.frames[3], v2.Answer).answer["connected_workers"] == {}


def test_managers_that_claim_more_workers_than_there_can_be_are_not_counted(world: World) -> None:
    for name in ("a", "b"):
        about = {"workers": 2**64 - 1}
        world.manager(name.encode(), b"INFORM", v2.Inform(1, name, "nonce", about=about, queues=[]))
    world.manager(b"c", b"INFORM", v2.Inform(1, "c", "nonce", about={"workers": 3}, queues=[]))
    (reply,) = world.turn((ADMINISTRATIVE, [b"op", *v2.encode(b"METRICS", v2.Question(1))]))
    assert v2.decode(reply.frames[3], v2.Answer).answer["workers"] == 3


def test_looking_at_a_job_that_is_just_due_leaves_it_where_it_is(world: World) -> None:
    """More are due at once than begin to wait in one turn: the last one is seen as waiting, and can be cancelled."""
    later = v2.pack_options(v2.Options(delay_s=1.0))
    world.enqueue(*(job(f"{n:04}", options=later) for n in range(limits.PAGE_JOBS)))
    world.enqueue(job("last", options=later))
    (reply,) = world.turn((FRONTEND, [b"asker", *v2.encode(b"INFO", v2.Info(1, "last"))]), after=2.0)
    answer = v2.decode(reply.frames[3], v2.Answer).answer
    assert (answer["state"], answer["due"]) == ("waiting", None)
    world.client(b"c", b"CANCEL", v2.Cancel(1, ["last"]))
    assert world.router.ledger.counts["cancelled"] == 1
    world.wait(0.2)
    assert serves(world)


def test_of_many_names_on_one_connection_the_last_one_is_remembered(world: World) -> None:
    for nonce in "abc":
        world.join(b"m", nonce=nonce)
    assert [name for name in world.store.load().facts if name.startswith("manager:")] == ["manager:m:c"]


@pytest.mark.parametrize(
    "about", [b"\x81\xa1a\xc4\x02\xff\xff", b"\x81\xa1a\x81\x90\x01", b"\x81\xa1a\xdb\0\0\x20\0" + b"x" * 8192]
)
def test_what_a_manager_tells_of_itself_is_short_and_can_be_shown(world: World, about: bytes) -> None:
    world.turn((BACKEND, [b"m", b"", b"eMQP/2.0", b"INFORM", b"\x96\x01\xa1n\xa1o\x90\x90" + about]))
    assert world.router.refusals.total() == 1
    world.turn((ADMINISTRATIVE, [b"a", *v1.encode(b"ROUTER_SHOW_WORKERS", "1")]))
    assert serves(world)


def test_options_are_short(world: World) -> None:
    repeated = b"\xde\x01\x00" + b"\xabcrash_limit\x01" * 256
    (refusal,) = world.enqueue(job("a", options=repeated)).refusals
    assert refusal.reason == "too_large"


def test_long_failures_come_in_messages_that_a_client_can_receive(world: World) -> None:
    ids = [f"job-{n}" for n in range(1000)]
    world.enqueue(*(job(id) for id in ids))
    world.client(b"client", b"WAIT", v2.Wait(1, ids))
    world.join(b"m", credit=1000)
    failure = Failure("builtins.ValueError", "m" * 30_000, "t" * 30_000)
    for one in world.handed(b"m"):
        world.manager(b"m", b"REPLY", v2.Reply(one.seq, [Outcome(one.id, one.lease, "failed", b"", failure)], 1000))
    world.client(b"other", b"WAIT", v2.Wait(1, ids))
    while world.router.questions:
        world.turn()
    replies = [sent.frames[3] for sent in world.sent if sent.peer == b"other"]
    assert sum(len(v2.decode(reply, v2.Results).results) for reply in replies) == len(ids)
    assert max(map(len, replies)) < limits.FRAME_BYTES_MAX


def test_forgetting_keeps_pace_with_many_jobs(world: World) -> None:
    world = World(results_max=0)
    world.join(b"m", credit=10_000)
    for start in range(0, 10_000, 1000):
        world.enqueue(*(job(f"job-{n}") for n in range(start, start + 1000)))
    world.finish(b"m", *world.handed(b"m"))
    assert world.store.info()["results"] == 10_000
    world.wait(limits.SWEEP_S + 1)
    assert world.store.info()["results"] == 0
