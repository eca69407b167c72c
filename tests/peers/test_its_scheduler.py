"""The released scheduler on our Router, firing jobs that our job manager runs; and ours on the released Router."""

from __future__ import annotations

import pytest

from .processes import RELEASED_LIVENESS, Site, until

pytestmark = pytest.mark.timeout(60, func_only=True)


def test_stays_registered_fires_and_is_unscheduled(site: Site) -> None:
    site.router(EVENTMQ_HEARTBEAT_TIMEOUT="3")
    site.manager("-J", "1")
    scheduler = site.released_scheduler(**RELEASED_LIVENESS)

    def heard() -> dict[str, float]:
        schedulers = site.ask("ROUTER_SHOW_SCHEDULERS")["connected_schedulers"]
        return {id: each["hb"] for id, each in schedulers.items()}

    until(heard, "the scheduler is registered")
    schedule = "import peer_jobs\nmessages.schedule(sender, peer_jobs.add, interval_secs=1, args=(7, 7){})\n"
    site.released_client(schedule.format(""))
    until(lambda: site.marks()["add:7+7"] >= 3, "the schedule has fired three times")
    site.released_client(schedule.format(", unschedule=True"))
    until(lambda: "UNSCHEDULE" in scheduler.written, "the scheduler was told")

    ((id, quiet_since),) = heard().items()
    fired = site.marks()["add:7+7"]
    until(
        lambda: heard().get(id, 0.0) > quiet_since + 4,
        "beats alone keep it for longer than either side's patience of 3 s",
    )
    assert scheduler.written.count("'INFORM'") == 1, "it never had to announce itself again"
    assert site.marks()["add:7+7"] <= fired + 1, "it has stopped"


def test_ours_on_the_released_router(site: Site) -> None:
    router = site.released_router()
    site.manager("-J", "1", EVENTMQ_WIRE="1.0")
    scheduler = site.scheduler(EVENTMQ_WIRE="1.0")
    until(lambda: (site.ask("ROUTER_SHOW_SCHEDULERS") or {}).get("connected_schedulers"), "it is registered")
    schedule = "import peer_jobs\nmessages.schedule(sender, peer_jobs.add, interval_secs=1, args=(7, 7){})\n"
    site.released_client(schedule.format(""))
    until(lambda: site.marks()["add:7+7"] >= 3, "the schedule has fired three times")
    site.released_client(schedule.format(", unschedule=True"))
    site.released_client(
        "import peer_jobs\nmessages.schedule(sender, peer_jobs.add, cron='* * * * * *', args=(8, 8))\n"
    )
    fired = site.marks()["add:7+7"]
    until(lambda: site.marks()["add:8+8"] >= 3, "cron fires, too")
    assert site.marks()["add:7+7"] <= fired + 1, "the other one has stopped"
    assert router.alive, "its frames are all text"
    assert scheduler.end() == 0
    until(
        lambda: not (site.ask("ROUTER_SHOW_SCHEDULERS") or {"connected_schedulers": 1})["connected_schedulers"], "gone"
    )


def test_schedules_outlive_the_released_scheduler(site: Site) -> None:
    """What it had goes to ours when it is killed, at its own pace and without a run at once."""
    site.router()
    site.manager("-J", "1")
    released = site.released_scheduler(**RELEASED_LIVENESS)
    until(lambda: (site.ask("ROUTER_SHOW_SCHEDULERS") or {}).get("connected_schedulers"), "it is registered")
    site.released_client("import peer_jobs\nmessages.schedule(sender, peer_jobs.add, interval_secs=1, args=(7, 7))\n")
    until(lambda: site.marks()["add:7+7"] >= 2, "it fires")
    site.scheduler()
    released.kill()
    fired = site.marks()["add:7+7"]
    until(lambda: site.marks()["add:7+7"] >= fired + 3, "ours goes on")
