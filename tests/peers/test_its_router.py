"""Our job manager, told to speak eMQP/1.0, on the released Router with the released client."""

from __future__ import annotations

import pytest

from .processes import Site, until

pytestmark = pytest.mark.timeout(60, func_only=True)


def test_our_manager_runs_what_its_client_enqueues(site: Site) -> None:
    router = site.released_router()
    manager = site.manager("-J", "2", EVENTMQ_WIRE="1.0")
    site.has_free_slots(2)

    # its client waits for no answer, and what it has not sent when it ends is lost: it ends later
    site.released_client("import peer_jobs, time\nfor n in range(3): peer_jobs.add.delay(n, 1)\ntime.sleep(1)\n")
    until(lambda: len(site.marks()) == 3, "three jobs run")
    assert site.marks() == {"add:0+1": 1, "add:1+1": 1, "add:2+1": 1}
    site.has_free_slots(2)
    status = site.ask("STATUS")
    client = site.peer()
    client.request("fail", headers="reply-requested")
    processed = sum(status["processed_messages_by_queue"].values())
    until(
        lambda: sum(site.ask("STATUS")["processed_messages_by_queue"].values()) == processed + 1,
        "the Router has the REPLY of a job that failed",
    )
    site.has_free_slots(2)
    assert router.alive, "our manager's frames are all text"
    assert manager.end() == 0
    until(lambda: "'KBYE'" in router.written, "it has said goodbye")
