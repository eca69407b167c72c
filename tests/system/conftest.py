"""A system of real processes for each test, on free ports and in the test's folder; the tests' own client uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventmq

from .processes import JOBS, System

sys.path.append(str(JOBS))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Nothing runs yet; everything started here has ended when the test is over."""
    system = System(tmp_path)
    eventmq.configure(broker_addr=system.frontend, enqueue_timeout=20)
    try:
        yield system
    finally:
        system.close()
        eventmq.configure()
