"""What is installed for the comparison: an environment for each peer, and a redis-server. All of it is in .venv-bench.

An environment each, because they do not agree about the Redis client: every peer gets the newest one that it takes.
Delete the folder to have everything anew at its current version.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from systems import SYSTEMS

FOLDER = Path(__file__).parent.parent / ".venv-bench"

DEBIAN = ("redis-server", "redis-tools")
"""The second one has the program, the first one a link to it."""

NO_REDIS = """\
No redis-server. It is looked for in $BENCH_REDIS_SERVER and $PATH, then fetched from Debian with apt-get, which said:
{}
Install one (apt-get install redis-server; dnf install redis; brew install redis) and stop its service: the comparison
starts its own on a private port. Or measure EventMQ alone: make bench ONLY=eventmq"""

NO_PEER = """\
{system} cannot be installed; pip said:
{said}
Is the package index reachable? Or leave it out: make bench ONLY='eventmq,{others}'"""


class Unavailable(Exception):
    """Something that the comparison needs cannot be installed; the text says what to do."""


def python_of(system: str) -> Path:
    """The Python that has this system installed; installs it if it has to.

    Raises:
        Unavailable: pip failed.
    """
    requirements = SYSTEMS[system].requirements
    if not requirements:
        return Path(sys.executable)
    venv = FOLDER / system
    python = venv / "bin" / "python"
    stamp, recipe = venv / "recipe", f"{sys.version} {' '.join(requirements)}\n"
    if not stamp.exists() or stamp.read_text() != recipe:
        print(f"installing {system} into {venv} …", file=sys.stderr, flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        try:
            _run([*pip, "--disable-pip-version-check", "--prefer-binary", *requirements])
        except Unavailable as error:
            others = ",".join(name for name, recipe in SYSTEMS.items() if recipe.requirements and name != system)
            raise Unavailable(NO_PEER.format(system=system, said=error, others=others)) from None
        stamp.write_text(recipe)
    return python


def redis_server() -> Path:
    """A redis-server. The Debian package is unpacked beside the environments and not installed: no service starts,
    nothing of the machine changes, and nobody has to be root.

    Raises:
        Unavailable: There is none to be had.
    """
    found = os.environ.get("BENCH_REDIS_SERVER") or shutil.which("redis-server")
    if found:
        if not shutil.which(found):
            raise Unavailable(
                f"BENCH_REDIS_SERVER={found} is no program that can be started; unset it, or give another"
            )
        return Path(found)
    start = FOLDER / "redis" / "redis-server"
    if not start.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise Unavailable(NO_REDIS.format(f"there is no apt-get on this {platform.system()}"))
        print(f"unpacking Debian's redis-server into {start.parent} …", file=sys.stderr, flush=True)
        try:
            _unpack(start)
        except Unavailable as error:
            shutil.rmtree(start.parent, ignore_errors=True)
            raise Unavailable(NO_REDIS.format(error)) from None
    return start


def _unpack(start: Path) -> None:
    folder = start.parent
    folder.mkdir(parents=True, exist_ok=True)
    try:
        depends = _run(["apt-cache", "depends", *DEBIAN])
    except Unavailable:
        _run(["apt-get", "update", "--quiet"])
        depends = _run(["apt-cache", "depends", *DEBIAN])
    libraries = sorted(set(re.findall(r"^ +Depends: (lib[\w.+-]+)$", depends, re.MULTILINE)) - {"libc6"})
    _run(["apt-get", "download", "--quiet", *DEBIAN, *libraries], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg", "--extract", str(package), str(folder / "root")])
    paths = ":".join(sorted({str(file.parent) for file in folder.rglob("lib*.so*")}))
    program = folder / "root" / "usr" / "bin" / "redis-server"
    start.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{paths}" exec "{program}" "$@"\n')
    start.chmod(0o755)
    _run([str(start), "--version"])


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout
