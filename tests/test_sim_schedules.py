"""The simulator with schedulers as actors: every occurrence of every schedule once, whoever dies or sleeps."""

from __future__ import annotations

import pytest
from sim.world import run

SEEDS = range(1, 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_occurrence_of_each_schedule_runs_exactly_once(seed: int) -> None:
    report = run(seed, "schedulers")
    assert not report.failure, report.failure


def test_there_was_trouble_enough() -> None:
    reports = [run(seed, "schedulers", fault_every_s=0.5, fault_s=10.0) for seed in range(100, 103)]
    assert [report.failure for report in reports if report.failure] == []
    struck = {kind for report in reports for kind in report.struck}
    assert {"scheduler_crash", "scheduler_pause", "router_crash"} <= struck
