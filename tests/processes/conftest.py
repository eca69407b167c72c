"""A system for each test of what real processes do: kill -9, bursts, garbage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import System


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    yield system
    system.stop()
