"""Why a job is where it is, in every situation that the Router knows, turn by turn with a clock of the test's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_operators import ask
from world import World, job

from eventmq import limits
from eventmq.broker.lifecycle import TERMINAL
from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.broker.why import ENDS, REASONS
from eventmq.protocol import v2

QUEUES = [(10, "default"), (10, "mail")]


def why(world: World, id: str) -> tuple[str, str, dict[str, Any]]:
    told = ask(world, "WHY", id=id)
    assert told["id"] == id
    assert told["reason"] in REASONS
    if told["state"] not in ("unknown", "running") and told["reason"] != "stopping":
        assert told["state"] == ask(world, "JOB", id=id)["state"]
    return told["reason"], told["text"], told["details"]


@pytest.fixture
def world() -> World:
    return World()


# ---- what holds a queue ------------------------------------------------------------------------------------


def test_nobody_serves_its_queue(world: World) -> None:
    world.enqueue(job("a", queue="mial"))
    assert why(world, "a")[:2] == ("no_worker", "no job manager serves queue 'mial'; served are: none")
    world.join(b"m", credit=9, queues=QUEUES)
    reason, text, details = why(world, "a")
    assert (reason, details) == ("no_worker", {"queue": "mial", "served": ["default", "mail"], "total": 2})
    assert "served are: 'default', 'mail'" in text


def test_its_queue_is_paused(world: World) -> None:
    world.join(b"m", credit=9, queues=QUEUES)
    ask(world, "PAUSE", queue="mail")
    world.enqueue(job("a", queue="mail"))
    assert why(world, "a")[0] == "paused"
    ask(world, "RESUME", queue="mail")
    world.turn()
    assert why(world, "a")[0] == "running"


def test_a_paused_queue_that_nobody_serves_is_paused_first(world: World) -> None:
    ask(world, "PAUSE", queue="mail")
    world.enqueue(job("a", queue="mail"))
    assert why(world, "a")[0] == "paused"


def test_those_that_serve_its_queue_leave(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    ask(world, "DRAIN_MANAGER", manager="web-1")
    world.enqueue(job("a"))
    reason, text, details = why(world, "a")
    assert (reason, details) == ("managers_leaving", {"managers": ["web-1"]})
    assert text.endswith(": web-1")


def test_the_connection_of_those_that_serve_its_queue_is_gone(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.turn(gone=[("backend", b"m")])
    world.enqueue(job("a"))
    assert why(world, "a")[0] == "managers_silent"


def test_what_those_run_who_leave_or_are_silent_holds_up_nobody(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.join(b"n", credit=0, name="web-2")
    world.enqueue(job("long"))
    world.enqueue(job("a"))
    assert why(world, "a")[0] == "no_free_slot"
    ask(world, "DRAIN_MANAGER", manager="web-1")
    reason, _, details = why(world, "a")
    assert (reason, details["managers"]) == ("no_credit", ["web-2"]), "when `long` has ended, web-1 takes no other"


# ---- slots ---------------------------------------------------------------------------------------------------


def test_all_slots_are_taken_and_by_what(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.enqueue(job("long", name="shop.slow"))
    world.wait(90, step=1)
    world.join(b"n", credit=1, name="web-2")
    world.enqueue(job("short"))
    world.enqueue(job("a"))
    reason, text, details = why(world, "a")
    assert reason == "no_free_slot"
    assert text == (
        "it is next; those that serve it are taken with 2 jobs, the longest for 1 m 30 s: shop.slow (long) at web-1"
    )
    assert [(each["id"], each["worker"]) for each in details["running"]] == [("long", "web-1"), ("short", "web-2")]
    assert (details["ahead"], details["exact"], details["taken"]) == (0, True, 2)


def test_its_place_in_line_is_by_priority_and_order(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("runs"))
    world.enqueue(job("w0"), job("w1"), job("first", priority=5), job("w2"), job("last", priority=-1))
    places = {id: why(world, id)[2]["ahead"] for id in ("first", "w0", "w1", "w2", "last")}
    assert places == {"first": 0, "w0": 1, "w1": 2, "w2": 3, "last": 4}
    reason, text, _ = why(world, "w1")
    assert (reason, text[:33]) == ("in_line", "2 jobs of its queue before it; th")
    world.finish(b"m", *world.handed(b"m"), limit=2)
    assert why(world, "w1")[2]["ahead"] == 1


def test_a_job_that_is_only_in_the_store_is_behind_all_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_JOBS_MAX", 3)
    world.join(b"m", credit=1)
    world.enqueue(*(job(f"j{n}") for n in range(9)))
    reason, text, details = why(world, "j8")
    assert (reason, details["exact"], details["ahead"] > 0) == ("in_line", False, True)
    assert text.startswith("more than ")


def test_heavier_queues_come_first(world: World) -> None:
    world.join(b"m", credit=1, queues=[(20, "urgent"), (10, "default"), (1, "bulk")])
    world.enqueue(job("runs"))
    world.enqueue(job("u", queue="urgent"), job("b", queue="bulk"), job("d"))
    reason, text, details = why(world, "b")
    assert (reason, details["queues"]) == ("other_queues", ["default", "urgent"])
    assert text.startswith("heavier queues come first: 'default', 'urgent'; it is next; ")
    assert why(world, "d")[2]["queues"] == ["urgent"]
    assert why(world, "u")[0] == "no_free_slot"
    ask(world, "PAUSE", queue="urgent")
    assert why(world, "d")[0] == "no_free_slot", "what is paused is in nobody's way"
    world.join(b"n", queues=[(1, "bulk")], credit=1)
    world.enqueue(job("b2", queue="bulk"))
    assert why(world, "b2")[0] == "no_free_slot", "a manager of its own has the queue first"


def test_nobody_asks_for_work(world: World) -> None:
    world.join(b"m", name="web-1")
    world.enqueue(job("a"))
    reason, _, details = why(world, "a")
    assert (reason, details["managers"]) == ("no_credit", ["web-1"])


def test_it_is_about_to_be_handed_out(world: World) -> None:
    world.join(b"m", credit=2)
    world.enqueue(job("a"))
    world.finish(b"m", *world.handed(b"m"), state="failed", limit=2)
    again = v2.encode(b"REQUEUE", v2.Question(1, {"ids": ["a"]}))
    asked = v2.encode(b"WHY", v2.Question(2, {"id": "a"}))
    sent = world.turn(*((ADMINISTRATIVE, [peer, *frames]) for peer, frames in ((b"x", again), (b"y", asked))))
    told = [each for each in [*sent, *world.turn()] if each.peer == b"y"]
    assert v2.decode(told[0].frames[3], v2.Answer).answer["reason"] in ("next", "running")


# ---- the Router ------------------------------------------------------------------------------------------------


def test_a_restarted_router_waits_for_its_managers(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.enqueue(job("a"), job("b"))
    world.restart()
    world.wait(3)
    for id in ("a", "b"):
        reason, text, details = why(world, id)
        assert (reason, details["managers"]) == ("managers_expected", ["web-1"])
        assert re.search(r"waits up to [67]\.\d s for web-1", text)
    world.wait(10)
    assert why(world, "a")[0] == "no_worker"


def test_a_job_that_may_have_begun_once_is_in_doubt(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.enqueue(job("a", options=v2.pack({"redeliver": False})))
    world.restart()
    assert why(world, "a")[0] == "in_doubt"


def test_the_router_ends(world: World) -> None:
    world.enqueue(job("a"))
    world.router.on_disconnect("", [])
    assert why(world, "a")[0] == "shutting_down"
    reason, text, details = why(world, "nobody")
    assert (reason, details) == ("unknown", {"closed": "draining"})
    assert text.endswith("no new jobs are accepted at present: draining")


def test_a_full_store_takes_no_new_jobs_and_hands_out_the_others(world: World) -> None:
    world.enqueue(job("a"))
    world.router.storage_full = True
    world.router._next_check = 1e9
    assert why(world, "nobody")[2] == {"closed": "storage_full"}
    assert why(world, "a")[0] == "no_worker"


# ---- later -------------------------------------------------------------------------------------------------------


def test_it_is_not_due(world: World) -> None:
    world.enqueue(
        job("later", options=v2.pack({"delay_s": 3600.0})), job("then", options=v2.pack({"due": world.wall + 7200}))
    )
    reason, text, details = why(world, "later")
    assert (reason, details["cause"], round(details["left_s"])) == ("not_due", "countdown", 3600)
    assert "due in 59 m 59 s" in text
    assert why(world, "then")[2]["cause"] == "eta"


def test_it_failed_and_is_tried_again_later(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=v2.pack({"retries": 3, "retry_delays_s": [60.0], "retry_jitter": False})))
    world.finish(b"m", *world.handed(b"m"), state="failed")
    reason, text, details = why(world, "a")
    assert (reason, details["error"], details["failures"]) == ("retry", "builtins.ValueError: no", 1)
    assert text == "it failed 1 time, last with builtins.ValueError: no; next try in 60.0 s"


def test_it_may_run_on_where_nobody_sees_it(world: World) -> None:
    world.join(b"m", credit=1)
    world.enqueue(job("a", options=v2.pack({"on_partition": "stop"})))
    world.turn(gone=[("backend", b"m")])
    world.wait(2)
    assert why(world, "a")[0] == "held_back"


# ---- out, over, or never there -------------------------------------------------------------------------------------


def test_it_runs_and_where(world: World) -> None:
    world.join(b"m", credit=1, name="web-1")
    world.enqueue(job("a"))
    world.turn(after=0.5)
    reason, text, details = why(world, "a")
    assert (reason, text) == ("running", "it is at web-1 for 0.5 s, attempt 1")
    assert details["started"] == pytest.approx(world.wall - 0.5, abs=0.1)
    world.wait(5)
    assert "that was last heard 5.0 s ago" in why(world, "a")[1]


def test_it_has_ended_and_how(world: World) -> None:
    world.join(b"m", credit=9, name="web-1")
    world.enqueue(job("good"), job("bad", unique="key"), job("once", options=v2.pack({"redeliver": False})))
    good, bad, once = world.handed(b"m")
    world.finish(b"m", good)
    world.finish(b"m", bad, state="failed")
    world.finish(b"m", once, state="crashed")
    world.enqueue(job("stopped"))
    ask(world, "CANCEL", ids=["stopped"])
    assert why(world, "good")[:2] == ("ended", "it succeeded, 0.0 s ago")
    assert why(world, "bad")[1] == "it failed for good, 0.0 s ago, at attempt 1: builtins.ValueError: no"
    world.enqueue(job("holds", unique="key"))
    assert why(world, "bad")[1].endswith("; it cannot be requeued while another job holds its key")
    assert "it is lost" in why(world, "once")[1]
    reason, text, details = why(world, "stopped")
    assert (reason, round(details["left_s"])) == ("stopping", 5)
    assert text.startswith("it was cancelled, and web-1 has 5.0 s to stop its run")
    assert ask(world, "WHY", id="stopped")["state"] == "cancelled"
    assert set(ENDS) == TERMINAL


def test_nobody_knows_it(world: World) -> None:
    assert why(world, "nobody") == ("unknown", REASONS["unknown"], {"closed": None})
    world.enqueue(job("a", unique="key"))
    world.enqueue(job("b", unique="key"))
    assert why(world, "b")[0::2] == ("duplicate", {"other": "a"})


def test_the_table_of_reasons_is_in_the_document() -> None:
    text = (Path(__file__).parent.parent / "docs/protocol.md").read_text()
    section = text[text.index("WHY answers") : text.index("EVENTS tells")]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)) == REASONS
