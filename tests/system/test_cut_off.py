"""A manager is cut off from the Router, with every connection still open: what it runs goes on, or stops in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_jobs import hold

from eventmq import JobHandle

from .processes import Journal, System, alive, until
from .proxy import Proxy

LEASE_S = 4.0
"""The lease of `on_partition="stop"` here: half of what it is."""

SILENCE_S = 2.0
"""The Router gives a silent manager up sooner than the lease is over: so that it is the lease which decides."""


@pytest.fixture
def proxy(system: System) -> Iterator[Proxy]:
    """A manager `far` that is connected through it, and a file that lets the Router give up sooner."""
    settings = system.folder / "router.ini"
    stores = dict(zip(("frontend", "backend", "administrative"), system.addresses, strict=True))
    lines = [f"{name}_addr = {address}" for name, address in stores.items()]
    text = "\n".join(["[router]", f"store = sqlite:///{system.store}", f"heartbeat_timeout = {SILENCE_S}", *lines])
    settings.write_text(text)
    system.limits["LEASE_S"] = LEASE_S
    system.start_router(file=settings)
    with Proxy(system.backend) as proxy:
        system.start_manager("far", workers=1, EVENTMQ_WORKER_ADDR=proxy.address)
        yield proxy


def cut(proxy: Proxy, how: str) -> float:
    if how in ("up", "both"):
        proxy.up.clear()
    if how in ("down", "both"):
        proxy.down.clear()
    return time.monotonic()


def run(system: System, how: str) -> tuple[Journal, str, str]:
    """Journal, gate, id of a job that `far` runs."""
    journal, gate = system.journal(), str(system.folder / "gate")
    job = hold.options(on_partition=how).delay(str(journal), gate)  # type: ignore[arg-type]
    journal.begun(job)
    system.start_manager("near", workers=1)
    return journal, gate, job


def test_by_default_it_finishes_and_a_late_result_changes_nothing(system: System, proxy: Proxy) -> None:
    journal, gate, job = run(system, "finish")
    (first,) = journal.runs(job)
    cut(proxy, "both")
    journal.begun(job, 2)
    assert alive(first.pid)
    Path(gate).touch()
    until(lambda: len(journal.runs(job, "end")) == 2, "both runs end")
    proxy.heal()
    until(lambda: system.slots("far") == 1, "it is back")
    info = JobHandle(job).info()
    assert (info["state"], info["attempt"], info["worker"]) == ("succeeded", 2, "near")


def test_by_default_the_result_counts_when_nobody_else_has_begun(system: System, proxy: Proxy) -> None:
    journal, gate, job = run(system, "finish")
    cut(proxy, "both")
    Path(gate).touch()
    until(lambda: journal.runs(job, "end"), "it ends, unheard")
    proxy.heal()
    until(lambda: JobHandle(job).info()["state"] == "succeeded", "its outcome is told")
    assert len(journal.runs(job)) == 1


@pytest.mark.parametrize("how", ["up", "both"])
def test_a_job_that_is_to_stop_is_stopped_before_another_begins(system: System, proxy: Proxy, how: str) -> None:
    journal, gate, job = run(system, "stop")
    (first,) = journal.runs(job)
    at = cut(proxy, how)
    until(lambda: not alive(first.pid), "it is stopped")
    stopped_s = time.monotonic() - at
    assert len(journal.runs(job)) == 1
    second = journal.begun(job, 2)
    assert stopped_s < second.at - at
    assert stopped_s > LEASE_S - 1.0
    assert second.attempt == 2
    Path(gate).touch()
    proxy.heal()
    until(lambda: JobHandle(job).info()["state"] == "succeeded", "it succeeds")
    assert JobHandle(job).info()["failures"] == 0
    assert len(journal.runs(job)) == 2
