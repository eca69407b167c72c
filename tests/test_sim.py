"""The simulator: many worlds without a broken promise, the same world twice, and every planted mistake seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sim.mistakes import CROWDED, PLANTED
from sim.world import run

SEEDS = 300


def sim(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    """`python -m sim` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "sim", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_no_world_breaks_a_promise() -> None:
    done = sim("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


def test_a_seed_is_one_world() -> None:
    """Whatever the process hashes with and wherever its objects are."""
    first, second = (sim("--seeds", "24", "--digests", hash_seed=seed).stdout for seed in ("1", "2"))
    assert len(re.findall(r"^trace ", first, re.MULTILINE)) >= 24
    assert re.findall(r"^trace .*", first, re.MULTILINE) == re.findall(r"^trace .*", second, re.MULTILINE)


@pytest.mark.parametrize("profile", ["calm", "router"])
def test_without_trouble_or_with_that_of_the_router_alone_nothing_runs_twice(profile: str) -> None:
    reports = [run(seed, profile) for seed in range(9_000, 9_020)]
    assert [report.failure for report in reports if report.failure] == []
    assert sum(report.repeats for report in reports) == 0
    assert sum(report.runs for report in reports) > 200
    assert bool(sum(report.struck.get("router_crash", 0) for report in reports)) == (profile == "router")


def test_fair_managers_share_their_slots_by_weight() -> None:
    reports = [run(seed, "calm", **CROWDED) for seed in range(1, 9)]
    assert [report.failure for report in reports if report.failure] == []
    assert sum(report.shares for report in reports) > 4


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What became of each planted mistake, by name."""
    done = sim("--planted")
    lines = (re.match(r"(\w+) +(NOT SEEN|seed +\d+) +([\d.]+) s +(.*)", line) for line in done.stdout.splitlines())
    return {line[1]: line[0] for line in lines if line}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_seen(name: str, found: dict[str, str]) -> None:
    assert name in found
    assert "NOT SEEN" not in found[name], f"{name}: {PLANTED[name].wrong.__doc__}"
