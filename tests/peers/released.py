"""The released package in a venv of its own: built once, kept in `.venv-peer` of the repository.

Where the registry cannot be reached the tests are skipped; with CI set that is a failure.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RELEASE = "eventmq==0.3.13"

COMPANIONS = ("pyzmq", "croniter", "future", "six", "psutil", "monotonic")
"""What it needs, as it is today: the versions that it asks for are of 2020 and build no more."""

UNREACHABLE = re.compile(r"connection broken by|Max retries exceeded|Network is unreachable|ConnectTimeout")
"""What pip says when there is no registry, as against one that lacks the package."""

BUILD_S = 300
"""Seconds for building the venv, download included."""


def build(venv: Path) -> Path:
    """The folder of the released commands; builds the venv if it is not there or is of another recipe.

    Raises:
        subprocess.CalledProcessError: pip failed; its `stderr` says why.
    """
    recipe = f"{sys.version} {RELEASE} {' '.join(COMPANIONS)}\n"
    stamp = venv / "recipe"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != recipe:
            shutil.rmtree(venv, ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", venv)
            _pip(venv, "--no-deps", RELEASE)
            _pip(venv, *COMPANIONS)
            stamp.write_text(recipe)
    return venv / "bin"


def build_or_skip(venv: Path) -> Path:
    """As `build`; without a registry the tests that need it are skipped, or fail where CI is set."""
    try:
        return build(venv)
    except subprocess.CalledProcessError as error:
        said = error.stderr or error.stdout or ""
        if UNREACHABLE.search(said) and not os.environ.get("CI"):
            pytest.skip(f"no package registry to install {RELEASE} from")
        pytest.fail(f"{RELEASE} cannot be installed: {said[-2000:]}", pytrace=False)


def _pip(venv: Path, *arguments: str) -> None:
    pip = (sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install")
    _run(*pip, "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20", *arguments)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_S)
