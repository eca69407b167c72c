"""The client's conversation with the Router, without sockets and with a clock of its own."""

from __future__ import annotations

from itertools import count

import pytest

from eventmq.client.exchange import WAIT_IDS_MAX, WINDOW, Exchange
from eventmq.client.pending import NEVER, Delivery, Query
from eventmq.errors import BrokerUnavailable, JobRefused, QueueFull
from eventmq.limits import (
    BATCH_BYTES,
    BATCH_JOBS_MAX,
    RESEND_S,
    ROOM_AGAIN_S,
    ROOM_JOBS,
    WAIT_AGAIN_S,
    WAITS_PER_CLIENT_MAX,
)
from eventmq.protocol import v2

numbers = count(1)


def jobs(many: int = 1, payload: bytes = b"\x92\x90\x80") -> list[v2.Job]:
    return [v2.Job(f"id-{next(numbers):06}", "default", "tasks.add", payload) for _ in range(many)]


def requests(messages: list[list[bytes]]) -> list[v2.Request]:
    return [v2.decode(frames[3], v2.Request) for frames in messages if frames[2] == b"REQUEST"]


def waits(messages: list[list[bytes]]) -> list[list[str]]:
    return [v2.decode(frames[3], v2.Wait).ids for frames in messages if frames[2] == b"WAIT"]


class World:
    """An exchange and its clock."""

    def __init__(self) -> None:
        self.exchange = Exchange("tcp://router:1")
        self.now = 100.0

    def deliver(self, made: list[v2.Job], timeout_s: float = 5.0, block_for_s: float = 0.0) -> Delivery:
        return self.exchange.deliver(made, self.now, timeout_s, block_for_s)

    def ask(self, id: str, deadline: float) -> Query:
        return self.exchange.query(b"INFO", lambda n: v2.Info(n, id), deadline)

    def out(self, after_s: float = 0.0) -> list[list[bytes]]:
        self.now += after_s
        self.exchange.expire(self.now)
        return self.exchange.outgoing(self.now)

    def hear(self, command: bytes, body: v2.Body) -> None:
        self.exchange.receive(v2.encode(command, body), self.now)

    def ack(self, n: int, *refusals: v2.Refusal) -> None:
        self.hear(b"ACK", v2.Ack(n, list(refusals)))


@pytest.fixture
def world() -> World:
    return World()


# ---- REQUEST and ACK ------------------------------------------------------------------------------


def test_a_job_is_sent_once_and_done_when_acked(world: World) -> None:
    made = jobs()
    delivery = world.deliver(made)
    (request,) = requests(world.out())
    assert request.jobs == made
    assert not delivery.done
    assert world.out() == []
    world.ack(request.n)
    assert delivery.done
    assert delivery.error is None
    assert world.exchange.next_time() == NEVER


def test_a_lost_ack_brings_the_same_message_again(world: World) -> None:
    delivery = world.deliver(jobs())
    first = world.out()
    assert world.out(RESEND_S * 0.99) == []
    assert world.out(RESEND_S * 0.02) == first
    world.ack(requests(first)[0].n)
    assert delivery.done
    assert world.out(RESEND_S * 2) == []


def test_a_late_second_ack_means_nothing(world: World) -> None:
    delivery = world.deliver(jobs())
    n = requests(world.out())[0].n
    world.ack(n)
    world.ack(n)
    world.ack(999)
    assert delivery.error is None


def test_callers_side_by_side_share_a_message(world: World) -> None:
    deliveries = [world.deliver(jobs()) for _ in range(16)]
    (request,) = requests(world.out())
    assert len(request.jobs) == 16
    world.ack(request.n)
    assert all(delivery.done for delivery in deliveries)


def test_each_caller_gets_its_own_refusal(world: World) -> None:
    good, bad = jobs(), jobs()
    fine, refused = world.deliver(good), world.deliver(bad)
    (request,) = requests(world.out())
    world.ack(request.n, v2.Refusal(bad[0].id, "invalid_job", "no such queue can be"))
    assert fine.done
    assert fine.error is None
    assert isinstance(refused.error, JobRefused)
    assert refused.error.reason == "invalid_job"
    assert "no such queue can be" in str(refused.error)


def test_a_full_queue_has_its_own_error(world: World) -> None:
    made = jobs(3)
    delivery = world.deliver(made)
    world.ack(requests(world.out())[0].n, v2.Refusal(made[1].id, "queue_full"))
    assert isinstance(delivery.error, QueueFull)
    assert "1 of 3 jobs" in str(delivery.error)
    assert made[1].id in str(delivery.error)


def test_room_in_a_full_queue_is_waited_for(world: World) -> None:
    made = jobs(3)
    delivery = world.deliver(made, block_for_s=30.0)
    (request,) = requests(world.out())
    world.ack(request.n, *(v2.Refusal(job.id, "queue_full") for job in made[1:]))
    assert world.out(ROOM_AGAIN_S * 0.9) == []
    assert world.exchange.next_time() == pytest.approx(world.now + ROOM_AGAIN_S * 0.1)
    (request,) = requests(world.out(ROOM_AGAIN_S * 0.2))
    assert request.jobs == made[1:], "only those that had no room"
    world.ack(request.n, v2.Refusal(made[2].id, "queue_full"))
    (request,) = requests(world.out(ROOM_AGAIN_S))
    world.ack(request.n)
    assert delivery.done
    assert delivery.error is None


def test_a_queue_that_stays_full_is_given_up_in_time(world: World) -> None:
    """Much later than the enqueue timeout: the Router is there all the while, and says so."""
    (made,) = jobs()
    delivery = world.deliver([made], timeout_s=5.0, block_for_s=30.1)
    began = world.now
    while not delivery.done:
        for request in requests(world.out(max(0.0, world.exchange.next_time() - world.now))):
            world.ack(request.n, v2.Refusal(made.id, "queue_full", "10 jobs wait"))
        assert world.now < began + 31
    assert world.now == pytest.approx(began + 30.1), "with a last try at the end"
    assert isinstance(delivery.error, QueueFull)


def test_many_that_found_no_room_try_in_small_numbers_and_in_more_when_there_is_room(world: World) -> None:
    made = jobs(BATCH_JOBS_MAX + 500)
    delivery = world.deliver(made, block_for_s=30.0)
    room = 200
    sizes = []

    def answer(after_s: float) -> None:
        nonlocal room
        for request in requests(world.out(after_s)):
            sizes.append(len(request.jobs))
            taken, room = min(room, len(request.jobs)), room - min(room, len(request.jobs))
            world.ack(request.n, *(v2.Refusal(job.id, "queue_full") for job in request.jobs[taken:]))

    answer(0.0)
    assert sum(sizes) == len(made)
    sizes.clear()
    for _ in range(3):
        answer(ROOM_AGAIN_S)
    assert sizes == [ROOM_JOBS] * 3, "and not all of them each time"
    room = len(made)
    sizes.clear()
    answer(ROOM_AGAIN_S)
    while not delivery.done:
        answer(0.0)
    assert sizes[0] == ROOM_JOBS
    assert sizes == sorted(sizes) or len(sizes) < 6, "all the rest at once, in few messages"
    assert sum(sizes) == len(made) - 200
    assert delivery.error is None


def test_many_that_find_no_room_to_the_end_are_all_refused_then(world: World) -> None:
    made = jobs(BATCH_JOBS_MAX + 500)
    delivery = world.deliver(made, block_for_s=9.9)
    began = world.now
    while not delivery.done:
        for request in requests(world.out(max(0.0, world.exchange.next_time() - world.now))):
            world.ack(request.n, *(v2.Refusal(job.id, "queue_full") for job in request.jobs))
        assert world.now < began + 11
    assert isinstance(delivery.error, QueueFull)
    assert f"{len(made)} of {len(made)} jobs" in str(delivery.error)


def test_a_router_that_falls_silent_is_not_waited_for_as_a_full_queue_is(world: World) -> None:
    (made,) = jobs()
    delivery = world.deliver([made], timeout_s=5.0, block_for_s=60.0)
    world.ack(requests(world.out())[0].n, v2.Refusal(made.id, "queue_full"))
    for _ in range(11):
        world.out(0.5)
    assert isinstance(delivery.error, BrokerUnavailable)


def test_one_caller_waits_for_room_and_the_other_does_not(world: World) -> None:
    patient, hasty = jobs(), jobs()
    waits, fails = world.deliver(patient, block_for_s=9.0), world.deliver(hasty)
    (request,) = requests(world.out())
    world.ack(request.n, *(v2.Refusal(job.id, "queue_full") for job in (*patient, *hasty)))
    assert isinstance(fails.error, QueueFull)
    assert not waits.done


def test_a_full_queue_is_asked_again_sooner_than_a_draining_router(world: World) -> None:
    first, second = jobs(), jobs()
    world.deliver(first)
    world.hear(b"REFUSED", v2.Refused(requests(world.out())[0].n, "draining", ""))
    world.deliver(second, block_for_s=9.0)
    world.ack(requests(world.out())[0].n, v2.Refusal(second[0].id, "queue_full"))
    assert [request.jobs for request in requests(world.out(ROOM_AGAIN_S))] == [second]
    assert [request.jobs for request in requests(world.out(RESEND_S - ROOM_AGAIN_S))] == [first]


def test_no_jobs_are_delivered_at_once(world: World) -> None:
    assert world.deliver([]).done


# ---- many jobs ----------------------------------------------------------------------------------------


def test_many_jobs_go_in_full_messages_and_a_window(world: World) -> None:
    made = jobs(BATCH_JOBS_MAX * (WINDOW + 2) + 1)
    delivery = world.deliver(made)
    sent = requests(world.out())
    assert [len(request.jobs) for request in sent] == [BATCH_JOBS_MAX] * WINDOW
    world.ack(sent[0].n)
    world.ack(sent[1].n)
    sent += requests(world.out())
    assert len(sent) == WINDOW + 2
    for request in sent[2:]:
        world.ack(request.n)
    assert not delivery.done
    (last,) = requests(world.out())
    assert len(last.jobs) == 1
    world.ack(last.n)
    assert delivery.done
    assert [job.id for request in [*sent, last] for job in request.jobs] == [job.id for job in made]


def test_messages_are_bounded_in_bytes_and_a_big_job_goes_alone(world: World) -> None:
    world.deliver(jobs(10, b"x" * (BATCH_BYTES // 4)))
    world.deliver(jobs(1, b"x" * (BATCH_BYTES * 2)))
    sent = requests(world.out())
    assert sum(len(request.jobs) for request in sent) == 11
    for request in sent:
        assert len(request.jobs) == 1 or sum(len(job.payload) for job in request.jobs) < BATCH_BYTES


def test_a_single_job_does_not_wait_behind_a_long_map(world: World) -> None:
    world.deliver(jobs(BATCH_JOBS_MAX * WINDOW * 3))
    sent = requests(world.out())
    single = jobs()
    world.deliver(single)
    for request in sent:
        world.ack(request.n)
    following = requests(world.out())
    assert single[0] in [job for request in following[:2] for job in request.jobs]


def test_each_ack_gives_a_long_map_new_time(world: World) -> None:
    delivery = world.deliver(jobs(BATCH_JOBS_MAX * (WINDOW + 4)), timeout_s=5.0)
    sent = requests(world.out())
    for _ in range(4):
        world.now += 4.0
        world.ack(sent.pop(0).n)
        sent += requests(world.out())
        assert not delivery.done
    world.out(5.1)
    assert isinstance(delivery.error, BrokerUnavailable)
    assert "4000 of 12000 jobs were stored" in str(delivery.error)


# ---- no answer -------------------------------------------------------------------------------------------


def test_silence_ends_in_broker_unavailable(world: World) -> None:
    delivery = world.deliver(jobs(), timeout_s=5.0)
    world.out()
    assert world.exchange.next_time() == world.now + RESEND_S
    for _ in range(4):
        assert len(world.out(RESEND_S)) == 1
    assert not delivery.done
    world.out(1.0)
    assert isinstance(delivery.error, BrokerUnavailable)
    assert "tcp://router:1 did not answer within 5 s" in str(delivery.error)
    assert world.out(RESEND_S) == []


def test_silence_makes_the_socket_suspect_and_a_new_one_gets_everything_at_once(world: World) -> None:
    world.deliver(jobs(), timeout_s=30.0)
    world.exchange.wait(["a"], world.now + 30.0)
    first = requests(world.out())
    world.out(RESEND_S)
    world.out(RESEND_S)
    assert not world.exchange.suspect
    world.out(RESEND_S)
    assert world.exchange.suspect
    world.exchange.reopened()
    again = world.out()
    assert requests(again) == first
    assert waits(again) == [["a"]]
    assert not world.exchange.suspect


def test_a_router_that_is_heard_keeps_its_socket(world: World) -> None:
    world.deliver(jobs(), timeout_s=30.0)
    world.out()
    for _ in range(6):
        world.hear(b"REPLY", v2.Results([]))
        world.out(RESEND_S)
    assert not world.exchange.suspect


def test_a_socket_without_a_word_is_given_up_with_its_job(world: World) -> None:
    world.deliver(jobs(), timeout_s=0.5)
    world.out()
    world.out(0.6)
    assert world.exchange.suspect


def test_what_was_withdrawn_before_it_was_sent_is_not_sent(world: World) -> None:
    delivery = world.deliver(jobs())
    world.exchange.withdraw(delivery)
    assert world.out() == []


def test_what_was_withdrawn_is_not_sent_again(world: World) -> None:
    delivery = world.deliver(jobs())
    n = requests(world.out())[0].n
    world.exchange.withdraw(delivery)
    assert world.out(RESEND_S) == []
    world.ack(n)
    assert world.exchange.next_time() == NEVER


# ---- refused for now -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["draining", "storage_full"])
def test_a_passing_refusal_is_tried_again_with_the_same_ids(world: World, reason: str) -> None:
    made = jobs(3)
    delivery = world.deliver(made)
    world.ack(requests(world.out())[0].n, v2.Refusal(made[1].id, reason))
    assert not delivery.done
    assert world.out(RESEND_S * 0.5) == []
    (again,) = requests(world.out(RESEND_S * 0.6))
    assert again.jobs == [made[1]]
    world.ack(again.n)
    assert delivery.done
    assert delivery.error is None


def test_a_refused_message_is_as_if_each_job_in_it_was(world: World) -> None:
    made = jobs(2)
    delivery = world.deliver(made)
    world.hear(b"REFUSED", v2.Refused(requests(world.out())[0].n, "draining", "shutting down"))
    assert not delivery.done
    assert requests(world.out(RESEND_S))[0].jobs == made


def test_a_refusal_that_does_not_pass_in_time_is_raised_as_such(world: World) -> None:
    delivery = world.deliver(jobs(), timeout_s=5.0)
    while not delivery.done:
        for request in requests(world.out(0.1)):
            world.hear(b"REFUSED", v2.Refused(request.n, "draining", "shutting down"))
    assert isinstance(delivery.error, JobRefused)
    assert delivery.error.reason == "draining"
    assert world.now == pytest.approx(105.0, abs=0.2)


def test_a_router_that_refuses_is_not_flooded(world: World) -> None:
    world.deliver(jobs(BATCH_JOBS_MAX * 4), timeout_s=5.0)
    sent = 0
    for _ in range(49):
        for request in requests(world.out(0.1)):
            sent += 1
            world.hear(b"REFUSED", v2.Refused(request.n, "draining", ""))
    assert sent <= 4 * 5


# ---- outcomes ----------------------------------------------------------------------------------------------------


def test_an_outcome_reaches_everyone_who_waits_for_it(world: World) -> None:
    one = world.exchange.wait(["a", "b"], world.now + 60)
    other = world.exchange.wait(["b"], world.now + 60)
    assert sorted(id for ids in waits(world.out()) for id in ids) == ["a", "b"]
    world.hear(b"REPLY", v2.Results([v2.Result("b", "succeeded", b"\x05")]))
    assert other.done
    assert not one.done
    world.hear(b"REPLY", v2.Results([v2.Result("a", "dead"), v2.Result("nobody's", "dead")]))
    assert one.done
    assert {id: result.state for id, result in one.results.items()} == {"a": "dead", "b": "succeeded"}
    assert world.exchange.next_time() == NEVER


def test_outcomes_are_asked_for_again_because_a_restarted_router_has_forgotten(world: World) -> None:
    world.exchange.wait(["a"], world.now + 60)
    assert waits(world.out()) == [["a"]]
    world.now += WAIT_AGAIN_S / 2
    world.exchange.wait(["b"], world.now + 60)
    assert waits(world.out()) == [["b"]]
    assert waits(world.out(WAIT_AGAIN_S / 2)) == [["a"]]
    assert waits(world.out(WAIT_AGAIN_S / 2)) == [["b"]]


def test_waiting_ends_with_what_has_come(world: World) -> None:
    waiting = world.exchange.wait(["a", "b"], world.now + 10)
    world.out()
    world.hear(b"REPLY", v2.Results([v2.Result("a", "succeeded")]))
    world.out(10)
    assert waiting.done
    assert list(waiting.results) == ["a"]
    assert world.out(WAIT_AGAIN_S) == []


def test_one_who_gives_up_does_not_end_the_waiting_of_another(world: World) -> None:
    impatient = world.exchange.wait(["a"], world.now + 1)
    patient = world.exchange.wait(["a"], world.now + 60)
    world.out()
    world.out(1)
    assert impatient.done
    world.hear(b"REPLY", v2.Results([v2.Result("a", "succeeded")]))
    assert patient.done


def test_waits_are_bounded_and_the_rest_follows(world: World) -> None:
    ids = [str(i) for i in range(WAITS_PER_CLIENT_MAX + 7)]
    waiting = world.exchange.wait(ids, world.now + 60)
    asked = waits(world.out())
    assert max(map(len, asked)) <= WAIT_IDS_MAX
    assert sum(map(len, asked)) == WAITS_PER_CLIENT_MAX
    for some in asked:
        world.hear(b"REPLY", v2.Results([v2.Result(id, "succeeded") for id in some]))
    rest = waits(world.out())
    assert sum(map(len, rest)) == 7
    world.hear(b"REPLY", v2.Results([v2.Result(id, "succeeded") for id in rest[0]]))
    assert waiting.done


# ---- questions -----------------------------------------------------------------------------------------------------


def test_a_question_is_repeated_until_its_answer_comes(world: World) -> None:
    query = world.ask("a", world.now + 5)
    first = world.out()
    assert world.out(RESEND_S) == first
    n = v2.decode(first[0][3], v2.Info).n
    world.hear(b"REPLY", v2.Answer(n + 1, {"not": "mine"}))
    assert not query.done
    world.hear(b"REPLY", v2.Answer(n, {"state": "running"}))
    assert query.answer == {"state": "running"}
    assert query.done


def test_a_cancel_is_repeated_on_its_socket_while_the_router_says_that_it_waits(world: World) -> None:
    query = world.exchange.query(b"CANCEL", lambda n: v2.Cancel(n, ["a"], 30.0), world.now + 60)
    first = world.out()
    cancel = v2.decode(first[0][3], v2.Cancel)
    assert (cancel.ids, cancel.grace_s) == (["a"], 30.0)
    for _ in range(10):
        world.ack(cancel.n)
        assert not query.done
        assert world.out(RESEND_S) == first
        assert not world.exchange.suspect
    world.hear(b"REPLY", v2.Answer(cancel.n, {"a": "stopped"}))
    assert query.answer == {"a": "stopped"}


def test_a_large_message_number_is_no_list_of_outcomes(world: World) -> None:
    world.exchange._n = 1 << 40
    query = world.ask("a", world.now + 5)
    n = v2.decode(world.out()[0][3], v2.Info).n
    world.hear(b"REPLY", v2.Answer(n, None))
    assert query.done
    assert query.answer is None


def test_a_question_without_an_answer_ends(world: World) -> None:
    query = world.ask("a", world.now + 1)
    world.out()
    world.out(1)
    assert isinstance(query.error, BrokerUnavailable)


def test_closing_ends_everything(world: World) -> None:
    calls = [world.deliver(jobs()), world.exchange.wait(["a"], 200.0), world.ask("a", 200.0)]
    world.out()
    world.exchange.fail(BrokerUnavailable("closed"))
    assert all(isinstance(call.error, BrokerUnavailable) for call in calls)
    assert world.out(100) == []


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"", v2.VERSION, b"ACK"],
        [b"", v2.VERSION, b"ACK", b""],
        [b"", v2.VERSION, b"ACK", b"\xff\xff"],
        [b"", v2.VERSION, b"REPLY", b"\x92\x01"],
        [b"", v2.VERSION, b"REFUSED", b"\x91\xa1x"],
        [b"", b"eMQP/1.0", b"ACK", b"\x91\x01"],
        [b"", v2.VERSION, b"\xff\x00", b"\x91\x01"],
        [b"", v2.VERSION, b"KBYE", b"\x90"],
        [b"x"] * 9,
    ],
)
def test_what_cannot_be_read_harms_nothing(world: World, frames: list[bytes]) -> None:
    delivery = world.deliver(jobs())
    n = requests(world.out())[0].n
    world.exchange.receive(frames, world.now)
    world.ack(n)
    assert delivery.done
    assert delivery.error is None
