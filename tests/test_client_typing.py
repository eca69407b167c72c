"""What a type checker says of jobs and handles, on code written as users write it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "typing" / "client_types.py"
ROOT = SOURCE.parents[2]


def stated(source: str) -> dict[int, str]:
    """By line: the type, or the part of the complaint, that its comment states."""
    found = {}
    for number, line in enumerate(source.splitlines(), 1):
        comment = re.search(r"  # (?:type is|error): (.*)$", line)
        if comment:
            found[number] = comment[1]
    return found


def said(output: str) -> dict[int, str]:
    """By line: what mypy says first, revealed types without their modules."""
    found: dict[int, str] = {}
    for line in output.splitlines():
        message = re.match(r"[^:]+:(\d+): (?:error|note): (.*)$", line)
        if message:
            text = re.sub(r"(?:eventmq|builtins)\.(?:\w+\.)*", "", message[2])
            found.setdefault(int(message[1]), text)
    return found


def test_types() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(SOURCE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    expected, found = stated(SOURCE.read_text()), said(done.stdout)
    assert len(expected) > 25
    assert found.keys() == expected.keys(), done.stdout + done.stderr
    for number, text in expected.items():
        message = found[number]
        assert message == f'Revealed type is "{text}"' or (text in message and "Revealed" not in message), message
