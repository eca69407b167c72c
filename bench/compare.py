"""Measures EventMQ and its peers in turn on this machine; `make bench`.

    python bench/compare.py [--quick] [--only GLOB,…] [--rounds N] [--seconds S] [--append] [--out FOLDER]

Every round measures every contender once, each time from nothing on a broker of its own, beginning with another one, so
that what the machine does besides hits all of them. Writes FOLDER/bench.json (every figure of every round) and
FOLDER/bench.svg, and prints a table of medians. `--append` adds its rounds to the file that is there.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from chart import chart
from environments import Unavailable, python_of, redis_server
from place import MARK
from report import table
from systems import OURS, SYSTEMS

HERE = Path(__file__).parent
EMQP1 = {"emqp1": [], "emqp1-peers": ["--peers"]}
"""Not systems, but what a Router does for peers of 2020: `emqp1.py`, and its flags."""

CONTENDERS = [
    *(f"{system}/{mode}" for system, recipe in SYSTEMS.items() for mode in recipe.modes),
    *(f"{name}/{router}" for name in EMQP1 for router in ("eventmq", "2020")),
]
QUICK = "eventmq,*/off,emqp1,emqp1-peers"

ROTATE = 5
"""Each round begins so many contenders later than the one before."""

RUN_S = 180.0
"""A run that takes so much longer than its steps should is ended and counts as failed."""


def chosen(only: str) -> list[str]:
    """The contenders that the globs name; a name without a mode means all its modes.

    Raises:
        SystemExit: A glob names none.
    """
    found = []
    for glob in only.split(","):
        matching = fnmatch.filter(CONTENDERS, glob if "/" in glob else f"{glob}/*")
        if not matching:
            raise SystemExit(f"ONLY={glob} names nothing; there are: {' '.join(CONTENDERS)}")
        found += matching
    return [name for name in CONTENDERS if name in found]


def commands(contender: str, folder: Path, seconds: float) -> Iterator[list[str]]:
    """What measures one contender."""
    system, mode = contender.split("/")
    size = ["--seconds", str(seconds)]
    if system in EMQP1:
        yield [sys.executable, str(HERE / "emqp1.py"), mode, str(folder), *size, *EMQP1[system]]
        return
    command = [str(python_of(system)), str(HERE / "measure.py"), system, mode, str(folder), *size]
    yield command
    yield [*command, "--results"]


def run(command: Sequence[str], folder: Path, seconds: float) -> dict[str, Any]:
    """What one run wrote.

    Raises:
        RuntimeError: It failed; the text has its last words.
    """
    environ = {**os.environ, MARK: str(folder)}
    log = folder / "log"
    with open(log, "ab") as errors:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=errors)
        try:
            said, _ = process.communicate(timeout=RUN_S + 40 * seconds)
        except BaseException:
            process.terminate()
            raise
        finally:
            sweep(folder)
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"exit code {process.returncode}:\n{last}")
    found: dict[str, Any] = json.loads(said)
    return found


def sweep(folder: Path) -> None:
    """Kills what a run has left."""
    for process in psutil.process_iter():
        try:
            left = process.environ().get(MARK) == str(folder)
        except psutil.Error:
            continue
        if left and process.pid != os.getpid():
            try:
                process.wait(5)
            except psutil.TimeoutExpired:
                print(f"killing what is left: {process.pid} {' '.join(process.cmdline())[:80]}", file=sys.stderr)
                process.kill()


def measure(contender: str, seconds: float, scratch: Path) -> dict[str, Any]:
    """One round of one contender."""
    figures: dict[str, float] = {}
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="run-", dir=scratch) as name:
        for number, command in enumerate(commands(contender, Path(name, "0"), seconds)):
            folder = Path(name, str(number))
            folder.mkdir()
            command = [str(folder) if word == str(Path(name, "0")) else word for word in command]
            found = run(command, folder, seconds)
            figures |= found["figures"]
            versions |= found["versions"]
    return {"figures": figures, "versions": versions}


def sync_ms(scratch: Path) -> float:
    """What a sync of 4 KiB costs on this disk now, median: the floor of every figure that says full or always."""
    times = []
    with tempfile.TemporaryFile(dir=scratch) as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1e3 * (time.perf_counter() - began))
    return median(times)


def machine(scratch: Path, redis: Path | None) -> dict[str, Any]:
    """What the figures depend on."""
    disk = max(
        (part for part in psutil.disk_partitions(all=True) if scratch.resolve().is_relative_to(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
    )
    said = subprocess.run([redis, "--version"], capture_output=True, text=True).stdout if redis else ""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "file system": disk.fstype,
        "one sync, ms": round(sync_ms(scratch), 2),
        "redis": said.split("v=")[1].split()[0] if "v=" in said else "",
        "load before": round(os.getloadavg()[0], 1),
    }


def rounds(contenders: list[str], options: argparse.Namespace, data: dict[str, Any], scratch: Path) -> Iterable[None]:
    """Runs all rounds; yields after each contender."""
    done = max((len(entry["rounds"]) for entry in data["contenders"].values()), default=0)
    for number in range(done, done + options.rounds):
        turn = number * ROTATE % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            began = time.monotonic()
            entry = data["contenders"].setdefault(contender, {"rounds": [], "versions": {}, "failures": []})
            try:
                found = measure(contender, options.seconds, scratch)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                entry["failures"].append(str(error))
                print(f"{contender} FAILED: {error}", file=sys.stderr, flush=True)
            else:
                entry["rounds"].append(found["figures"])
                entry["versions"] = found["versions"]
                took = time.monotonic() - began
                print(f"round {number + 1}  {contender:20} {took:5.1f} s", file=sys.stderr, flush=True)
            yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one short round without the slower modes, about 2 minutes"
    )
    parser.add_argument("--only", help="globs over: " + " ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 5, --quick 1")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each step; default: 2, --quick 0.5")
    parser.add_argument("--append", action="store_true", help="add rounds to bench.json; else it is written anew")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench", help="default: build/bench")
    options = parser.parse_args()
    if any(given is not None and given <= 0 for given in (options.rounds, options.seconds)):
        parser.error("rounds and seconds have to be above 0")
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    contenders = chosen(options.only or (QUICK if options.quick else "*"))
    options.out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=options.out))
    try:
        systems = {contender.split("/")[0] for contender in contenders} & SYSTEMS.keys()
        redis = redis_server() if systems - {OURS} else None
        if redis:
            os.environ["BENCH_REDIS_SERVER"] = str(redis)
        for system in sorted(systems):
            python_of(system)
        file = options.out / "bench.json"
        data = json.loads(file.read_text()) if options.append and file.exists() else {"contenders": {}}
        data["machine"] = machine(scratch, redis)
        for _ in rounds(contenders, options, data, scratch):
            file.write_text(json.dumps(data, indent=1))
    except Unavailable as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    (options.out / "bench.svg").write_text(chart(data))
    print(table(data))
    print(f"\nEvery figure of every round: {file}; the chart: {options.out / 'bench.svg'}")
    return 1 if any(entry["failures"] for entry in data["contenders"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
