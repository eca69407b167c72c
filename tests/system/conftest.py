"""Fixtures: a system on free ports in the test's folder, and the process's client pointed at it."""

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
    eventmq.configure(broker_addr=system.frontend)
    try:
        yield system
    finally:
        system.close()
        eventmq.configure()
