"""The published API of `eventmq.router.Router`, and what peers of the 2020 release get from it."""

from __future__ import annotations

import json

import pytest
from world import World, job

from eventmq import limits
from eventmq.broker.outbox import ADMINISTRATIVE, BACKEND, FRONTEND, Send
from eventmq.protocol import v1, v2
from eventmq.router import InvalidMessageError, NoAvailableWorkerSlotsError, Router, UnknownQueueError

PAYLOAD = json.dumps(
    ["run", {"path": "tasks", "callable": "add", "args": [2], "kwargs": {"b": 3}, "class_args": [], "class_kwargs": {}}]
)


@pytest.fixture
def router() -> Router:
    return Router()


@pytest.fixture
def world() -> World:
    return World()


def manager_1_0(world: World, sender: bytes, command: bytes, *frames: str) -> list[Send]:
    return world.turn((BACKEND, [sender, *v1.encode(command, "id-of-" + sender.decode(), *frames)]))


def client_1_0(world: World, id: str, headers: str = "", payload: str = PAYLOAD, queue: str = "default") -> None:
    world.turn((FRONTEND, [b"c", *v1.encode(b"REQUEST", id, queue, headers, payload)]))


def admin_1_0(world: World, command: bytes) -> dict[str, object]:
    (sent,) = [s for s in world.turn((ADMINISTRATIVE, [b"a", *v1.encode(command, "q")])) if s.peer == b"a"]
    assert sent.frames[:3] == [b"", b"eMQP/1.0", b"REPLY"]
    assert sent.frames[5] == b"q"
    answer: dict[str, object] = json.loads(sent.frames[4])
    return answer


def test_a_full_queue_refuses_a_client_of_2020_and_counts_it() -> None:
    world = World(queue_jobs_max=(("default", 1),))
    client_1_0(world, "a")
    client_1_0(world, "b")
    client_1_0(world, "a")
    assert [frames[0] for frames in world.frames_1_0(b"c", b"REPLY")] == [b"a", b"a"], "a receipt, again for the resend"
    assert world.router.refusals["queue_full"] == 1
    assert any("queue_full" in note.text for note in world.router.notes)


# ---- the class -----------------------------------------------------------------------------------------


def test_workers_and_their_slots_are_seen_as_published(router: Router) -> None:
    router.add_worker("w1", queues=[(10, "default"), (15, "email")])
    router.add_worker("w2")
    assert router.workers["w1"]["queues"] == [(15, "email"), (10, "default")]
    assert router.workers["w1"]["available_slots"] == 0
    assert router.workers["w2"]["queues"] == [(10, "default")]
    assert isinstance(router.workers["w1"]["hb"], float)
    for worker in ("w1", "w2", "w1"):
        router.requeue_worker(worker)
    assert router.workers["w1"]["available_slots"] == 2
    assert router.queues["email"] == ["w1", "w1"]
    assert sorted(router.queues["default"]) == ["w1", "w1", "w2"]


def test_queues_show_the_least_recently_used_worker_first(router: Router) -> None:
    for worker in ("w1", "w2"):
        router.add_worker(worker)
    for worker in ("w1", "w2", "w1"):
        router.requeue_worker(worker)
    assert router.queues == {"default": ["w1", "w2", "w1"]}
    assert router.get_available_worker() == "w1"
    assert router.queues == {"default": ["w2", "w1"]}
    assert [router.get_available_worker(), router.get_available_worker()] == ["w2", "w1"]
    with pytest.raises(NoAvailableWorkerSlotsError):
        router.get_available_worker("default")
    with pytest.raises(UnknownQueueError):
        router.get_available_worker("nobody")


def test_prioritize_queue_list() -> None:
    unordered = ((14, "b"), (20, "a"), (12, "c"))
    assert Router.prioritize_queue_list(unordered) == ((20, "a"), (14, "b"), (12, "c"))
    assert Router.prioritize_queue_list([]) == ()
    with pytest.raises(IndexError):
        Router.prioritize_queue_list([(1, "a"), ()])


def test_handlers_can_be_called_as_published(router: Router) -> None:
    router.on_inform("w1", "m1", [b'[[10, "default"]]', b"worker"])
    router.on_ready("w1", "m2", [])
    router.on_request("client", "job-1", [b"default", b"", PAYLOAD.encode()])
    router.hand_out()
    assert list(router.job_latencies) == ["job-1"]
    assert router.job_latencies["job-1"][1] == "default"
    router.on_heartbeat("w1", "m3", [])
    router.on_reply("w1", "m4", [b'{"value": 5}', b"job-1"])
    assert router.job_latencies == {}
    router.on_request("client", "job-2", [b"default", b"", PAYLOAD.encode()])
    assert [waiting.id for waiting in router.waiting_messages["default"]] == ["job-2"]
    assert json.loads(router.get_status())["waiting_messages_by_queue"] == {"default": 1}


def test_messages_that_cannot_be_parsed_raise_or_warn(router: Router) -> None:
    with pytest.raises(InvalidMessageError):
        router.process_client_message([b"c", b"", b"eMQP/1.0"])
    with pytest.raises(InvalidMessageError):
        router.process_client_message([b"c", b"", b"eMQP/1.0", b"REQUEST", b"id", b"default"])
    router.process_worker_message([b"w", b"", b"eMQP/1.0", b"NO_SUCH", b"id"])
    assert router.refusals["unknown_command"] == 1


def test_dead_peers_are_cleaned_up(router: Router) -> None:
    router.add_worker("w1")
    router.add_worker("w2")
    router.add_scheduler("s1")
    assert router.scheduler_queue == ["s1"]
    assert router.schedulers["s1"]["hb"] == router.now
    router.workers["w1"]["hb"] -= limits.SILENCE_S + 1
    router.clean_up_dead_workers()
    assert list(router.workers) == ["w2"]
    router.now += limits.SILENCE_S + 1
    router.clean_up_dead_schedulers()
    assert router.schedulers == {}
    assert router.scheduler_queue == []


def test_heartbeats_and_acks_are_sent_and_their_ids_returned(router: Router) -> None:
    router.add_worker("w1")
    router.add_scheduler("s1")
    router.send_workers_heartbeats()
    router.send_schedulers_heartbeats()
    id = router.send_heartbeat(BACKEND, "w1")
    ack = router.send_ack(BACKEND, "w1", "some-id")
    sent = router.outbox.drain()
    assert [(s.peer, s.frames[2]) for s in sent] == [
        ("w1", b"HEARTBEAT"),
        ("w1", b"HEARTBEAT"),
        ("w1", b"ACK"),
        ("s1", b"HEARTBEAT"),
    ]
    assert sent[1].frames[3] == id.encode()
    assert sent[2].frames[3:] == [ack.encode(), b"some-id"]
    assert router.beats["sent"] == 3
    router.reset_heartbeat_counters()
    assert not router.beats


def test_disconnect_makes_the_router_end(router: Router) -> None:
    assert not router.received_disconnect
    router.on_disconnect("id", [])
    assert router.received_disconnect


# ---- eMQP/1.0 ------------------------------------------------------------------------------------------


def test_a_1_0_client_gets_a_receipt_and_its_result(world: World) -> None:
    client_1_0(world, "job-1", "reply-requested")
    assert world.frames_1_0(b"c", b"REPLY") == [[b"job-1"]]
    world.join(b"m", credit=1)
    (handed,) = world.handed(b"m")
    assert handed.name == "tasks.add"
    assert v2.unpack(handed.payload) == [[2], {"b": 3}]
    world.finish(b"m", handed, value=5)
    assert world.frames_1_0(b"c", b"REPLY")[1:] == [[b'{"value":5}', b"job-1"]]


def test_a_1_0_client_that_asks_for_no_result_gets_none(world: World) -> None:
    client_1_0(world, "job-1")
    world.join(b"m", credit=1)
    world.finish(b"m", *world.handed(b"m"), value=5)
    assert world.frames_1_0(b"c", b"REPLY") == [[b"job-1"]]


def test_what_a_job_returned_or_raised_reaches_a_1_0_client_as_a_value(world: World) -> None:
    world.join(b"m", credit=9)
    client_1_0(world, "nothing", "reply-requested")
    client_1_0(world, "raises", "reply-requested")
    nothing, raises = world.handed(b"m")
    world.clear()
    world.finish(b"m", nothing)
    world.finish(b"m", raises, state="failed")
    assert world.frames_1_0(b"c", b"REPLY") == [
        [b'{"value":true}', b"nothing"],
        [b'{"value":"builtins.ValueError: no"}', b"raises"],
    ]


def test_a_1_0_manager_is_acknowledged_beaten_and_given_one_job_for_each_ready(world: World) -> None:
    manager_1_0(world, b"m", b"INFORM", '[[10, "default"]]', "worker")
    assert world.frames_1_0(b"m", b"ACK") == [[b"id-of-m"]]
    assert len(world.frames_1_0(b"m", b"HEARTBEAT")) == 1
    world.enqueue(*(job(f"j{i}", options=v2.pack(v2.Options(timeout_s=60.0))) for i in range(3)))
    manager_1_0(world, b"m", b"READY")
    manager_1_0(world, b"m", b"READY")
    handed = world.frames_1_0(b"m", b"REQUEST")
    assert len(handed) == 2
    queue, headers, payload = handed[0]
    assert (queue, headers) == (b"default", b"reply-requested,timeout:60")
    assert json.loads(payload) == [
        "run",
        {"path": "tasks", "callable": "add", "args": [1, 2], "kwargs": {}, "class_args": [], "class_kwargs": {}},
    ]
    manager_1_0(world, b"m", b"REPLY", '{"value": 3}', "j0")
    info = world.info("j0")
    assert info is not None
    assert info["state"] == "succeeded"
    manager_1_0(world, b"m", b"READY")
    assert len(world.frames_1_0(b"m", b"REQUEST")) == 3


def test_a_1_0_managers_timeout_is_a_timeout(world: World) -> None:
    manager_1_0(world, b"m", b"INFORM", "", "worker")
    world.enqueue(job("j0"))
    manager_1_0(world, b"m", b"READY")
    manager_1_0(world, b"m", b"REPLY", '{"value": "TimeoutError"}', "j0")
    info = world.info("j0")
    assert info is not None
    assert info["failure"]["type"] == "eventmq.JobTimeout"


def test_arguments_without_a_form_in_json_are_not_sent_to_a_1_0_manager(world: World) -> None:
    manager_1_0(world, b"m", b"INFORM", "", "worker")
    world.enqueue(job("j0", payload=b"\xc1"))
    manager_1_0(world, b"m", b"READY")
    info = world.info("j0")
    assert info is not None
    assert info["state"] == "dead"
    assert "JSON" in info["failure"]["message"]


def test_a_1_0_manager_that_says_goodbye_gives_its_jobs_back(world: World) -> None:
    for kbye in (b"KBYE", b"KBAI"):
        manager_1_0(world, b"m", b"INFORM", "", "worker")
        world.enqueue(job(f"j-{kbye.decode()}"))
        manager_1_0(world, b"m", b"READY")
        manager_1_0(world, b"m", kbye)
        assert b"m" not in world.router.workers
    world.join(b"n", credit=5)
    assert [(j.id, j.attempt) for j in world.handed(b"n")] == [("j-KBYE", 3), ("j-KBAI", 1)]


def test_a_draining_router_waits_for_what_a_1_0_manager_runs(world: World) -> None:
    manager_1_0(world, b"m", b"INFORM", "", "worker")
    world.enqueue(job("j0"))
    manager_1_0(world, b"m", b"READY")
    world.router.on_disconnect("", [])
    world.wait(5)
    assert not world.router.ended
    manager_1_0(world, b"m", b"REPLY", '{"value": 3}', "j0")
    assert world.router.ended
    world.router.say_goodbye()
    assert [s.frames[2] for s in world.router.outbox.drain()] == [b"KBYE"]


def test_schedulers_register_beat_and_receive_schedules_in_turn(world: World) -> None:
    for id in (b"s1", b"s2"):
        world.turn((FRONTEND, [id, *v1.encode(b"INFORM", "i", "", "scheduler")]))
        assert world.frames_1_0(id, b"ACK") == [[b"i"]]
    payloads = [PAYLOAD.replace("[2]", f"[{n}]") for n in range(3)]
    for n, payload in enumerate(payloads):
        world.turn((FRONTEND, [b"c", *v1.encode(b"SCHEDULE", f"m{n}", "default", "", "60", payload, "")]))
    assert [len(world.frames_1_0(id, b"SCHEDULE")) for id in (b"s1", b"s2")] == [2, 1]
    world.turn((FRONTEND, [b"c", *v1.encode(b"UNSCHEDULE", "u", "default", "", "60", payloads[1], "")]))
    assert [len(world.frames_1_0(id, b"UNSCHEDULE")) for id in (b"s1", b"s2")] == [0, 1]
    shown = admin_1_0(world, b"ROUTER_SHOW_SCHEDULERS")
    assert sorted(shown["connected_schedulers"]) == ["s1", "s2"]  # type: ignore[call-overload]
    world.wait(3)
    assert world.frames_1_0(b"s1", b"HEARTBEAT")
    for _ in range(10):
        world.turn((FRONTEND, [b"s2", *v1.encode(b"HEARTBEAT", "h", "1790000000.25")]))
        world.wait(2)
    assert list(world.router.schedulers) == [b"s2"]
    assert len(world.frames_1_0(b"s2", b"SCHEDULE")) == 3, "it has taken over what the other one had"


def test_administration_answers_with_the_published_keys(world: World) -> None:
    manager_1_0(world, b"m", b"INFORM", "", "worker")
    world.join(b"\xff\xfe", credit=2, name="binary")
    world.enqueue(job("j0"))
    status = admin_1_0(world, b"STATUS")
    assert {
        "inflight_messages_by_queue",
        "latency_messages_by_queue",
        "max_latency_messages_by_queue",
        "waiting_messages_by_queue",
        "processed_messages_by_queue",
        "processed_messages_by_worker",
    } <= set(status)
    workers = admin_1_0(world, b"ROUTER_SHOW_WORKERS")
    connected = workers["connected_workers"]
    assert isinstance(connected, dict)
    assert set(connected) == {"m", "fffe"}
    assert {"queues", "hb", "available_slots"} <= set(connected["m"])
    assert workers["connected_queues"] == {"default": ["fffe"]}
    world.turn((ADMINISTRATIVE, [b"a", *v1.encode(b"HELLO", "h")]))
    world.clear()
    world.turn((ADMINISTRATIVE, [b"a", *v1.encode(b"DISCONNECT", "d")]))
    assert world.frames_1_0(b"a", b"ACK") == [[b"d"]]
    assert world.router.received_disconnect
