"""The simulator finds nothing: worlds of the real deciding code under every kind of trouble, one for each seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_world_breaks_a_promise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sim", "--seeds", "60"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 failed" in done.stdout
