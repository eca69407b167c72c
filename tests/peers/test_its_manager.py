"""The released job manager on our Router: what it announces, takes, answers, and what happens when it dies.

A released manager sends no READY before the Router's first heartbeat has reached it, and looks for finished jobs once a
second; so a Router that is late with that heartbeat, or waits for what never comes, shows here as a deadline missed.
"""

from __future__ import annotations

import pytest

from .processes import RELEASED_LIVENESS, Site, until

pytestmark = pytest.mark.timeout(60, func_only=True)


def test_runs_jobs_of_a_1_0_client_in_all_its_slots_and_the_results_come_back(site: Site) -> None:
    site.router()
    manager = site.released_manager(3, EVENTMQ_QUEUES='[[10, "default"], [15, "email"]]')
    site.has_free_slots(3)
    client = site.peer()

    held = [client.request("hold", name, headers="reply-requested") for name in "abc"]
    until(lambda: len(site.marks()) == 3, "three jobs run at the same time")
    assert sum(site.free_slots().values()) == 0
    site.go()
    wanted = {
        client.request("add", 2, 3, headers="reply-requested"): 5,
        client.request("add", 4, 5, headers="reply-requested,retry-count:0,timeout:30", queue="email"): 9,
        client.request("nothing", headers="reply-requested"): True,
        client.request("fail", headers="reply-requested"): "no luck",
        client.request(
            "greet", "you", path="peer_jobs:Greeter", class_args=["hi"], headers="reply-requested"
        ): "hi you",
        **dict(zip(held, "abc", strict=True)),
    }
    assert client.results(len(wanted)) == wanted
    client.request("add", 6, 7)
    until(lambda: site.marks()["add:6+7"], "a job without reply-requested runs")
    assert set(site.marks().values()) == {1}, "each job ran once"
    site.has_free_slots(3)
    assert manager.alive


def test_runs_jobs_of_our_client(site: Site) -> None:
    site.router()
    site.released_manager(2)
    site.has_free_slots(2)

    said = site.client(
        "import peer_jobs\n"
        "handles = [peer_jobs.add.delay(n, 1) for n in range(3)]\n"
        "print([handle.result(timeout=15) for handle in handles], peer_jobs.nothing.delay().result(timeout=15))\n"
    )
    assert said == "[1, 2, 3] None\n"
    assert site.marks() == {"add:0+1": 1, "add:1+1": 1, "add:2+1": 1, "nothing": 1}


def test_with_its_queues_flag_it_announces_none_and_gets_the_default_queue(site: Site) -> None:
    site.router()
    site.released_manager(1, "-Q", "email")
    site.has_free_slots(1)

    client = site.peer()
    job = client.request("add", 1, 1, headers="reply-requested")
    assert client.results(1) == {job: 2}


def test_its_jobs_go_to_another_manager_when_it_is_killed(site: Site) -> None:
    site.router(EVENTMQ_HEARTBEAT_TIMEOUT="3")
    first = site.released_manager(2)
    site.has_free_slots(2)
    client = site.peer()
    jobs = {client.request("hold", name, headers="reply-requested"): name for name in "abcd"}
    until(lambda: len(site.marks()) == 2, "two jobs run, two wait")

    first.kill()
    site.released_manager(2)
    until(lambda: len(site.marks()) == 4 or sum(site.marks().values()) == 4, "two jobs run on the other manager")
    first.sweep()
    site.go()
    assert client.results(4) == jobs


def test_when_told_to_end_it_says_goodbye_and_is_forgotten_at_once(site: Site) -> None:
    router = site.router()
    manager = site.released_manager(1)
    site.has_free_slots(1)

    manager.popen.terminate()
    until(lambda: not site.free_slots(), "the Router has forgotten it")
    assert "said goodbye" in router.written, "it was forgotten for its word, not for its silence"


def test_comes_back_to_a_restarted_router_and_goes_on(site: Site) -> None:
    """It notices a Router that does not know it only by silence, so the Router must keep silent towards it."""
    router = site.router()
    site.released_manager(1, **RELEASED_LIVENESS)
    site.has_free_slots(1)
    before = set(site.free_slots())
    client = site.peer()
    waiting = {client.request("hold", name, headers="reply-requested"): name for name in "ab"}
    until(lambda: len(site.marks()) == 1, "one job runs, one waits")

    router.kill()
    site.go()
    site.router()
    site.has_free_slots(1)
    assert not before & set(site.free_slots()), "it comes back under a new identity"
    until(lambda: site.marks()["hold:a"] and site.marks()["hold:b"], f"the jobs run: {waiting}")
    again = site.peer()
    job = again.request("add", 2, 2, headers="reply-requested")
    assert again.results(1) == {job: 4}
