"""Fixtures: the released commands, and a site to run processes of both releases on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import Site
from .released import build_or_skip


@pytest.fixture(scope="session")
def released(pytestconfig: pytest.Config) -> Path:
    """The folder of the commands of EventMQ 0.3.13."""
    return build_or_skip(pytestconfig.rootpath / ".venv-peer")


@pytest.fixture
def site(tmp_path: Path, released: Path) -> Iterator[Site]:
    """Addresses, scratch and helpers; every process started here has ended when the test is over."""
    site = Site(tmp_path, released)
    yield site
    site.close()
