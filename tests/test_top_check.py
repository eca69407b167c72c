"""`eventmq top` and `eventmq check` by what the Router tells: what is drawn in how many lines, and how is judged."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from eventmq.cli.check import Bounds, judged
from eventmq.cli.top import Look, picture, shared

NEVER = Bounds(None, None)


def numbers(**queues: tuple[int, float]) -> dict[str, Any]:
    """An answer to METRICS: by queue, jobs that wait and how long the oldest one has."""
    return {
        "queues": {
            name: {"waiting": waiting, "oldest_s": oldest_s, "running": 2, "delayed": 0}
            for name, (waiting, oldest_s) in queues.items()
        },
        "store": {"dead": 7},
        "managers": {"serving": 2, "draining": 1},
        "counts": {"accepted": 100, "succeeded": 90},
        "uptime_s": 3700.0,
        "leases": 3,
        "credits": 5,
    }


def judge(
    told: dict[str, Any], *problems: dict[str, Any], waiting: Bounds = NEVER, oldest: Bounds = NEVER, **more: Any
) -> tuple[int, str]:
    return judged(told, problems, waiting=waiting, oldest=oldest, dead=more.pop("dead", NEVER), **more)


PAUSED = {"key": "paused", "level": "warning", "text": "queue 'mail' is paused", "about": {"queue": "mail"}}
NO_WORKER = {"key": "no_worker", "level": "critical", "text": "queue 'x' has no worker", "about": {"queue": "x"}}
OVERDUE = {"key": "schedule_overdue", "level": "warning", "text": "it is overdue", "about": {"schedule": "daily"}}


def test_all_is_well() -> None:
    assert judge(numbers(a=(5, 1.0), b=(1, 0.0))) == (0, "6 jobs waiting, 4 running, 2 job managers")
    assert judge(numbers(a=(5, 1.0), b=(1, 0.0)), queues=["b"])[1].startswith("1 job waiting, 2 running")


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"waiting": Bounds(5, 6)}, (1, "queue 'a' has 5 waiting jobs")),
        ({"waiting": Bounds(1, 5)}, (2, "queue 'a' has 5 waiting jobs")),
        ({"waiting": Bounds(None, 6)}, (0, "")),
        ({"oldest": Bounds(60, 600)}, (1, "the oldest job in queue 'a' has waited for 2 m")),
        ({"dead": Bounds(None, 7)}, (2, "7 dead jobs kept")),
        ({"managers": 2}, (0, "")),
        ({"managers": 3}, (2, "2 job managers, expected at least 3")),
        ({"waiting": Bounds(5, 9), "dead": Bounds(1, 7), "managers": 3}, (2, "7 dead jobs kept; and 2 more")),
    ],
)
def test_bounds(bounds: dict[str, Any], expected: tuple[int, str]) -> None:
    code, text = judge(numbers(a=(5, 120.0)), **bounds)
    assert code == expected[0]
    assert text == expected[1] or not expected[0]


def test_problems_count_unless_they_are_of_another_queue_or_to_be_ignored() -> None:
    told = numbers(mail=(0, 0.0), x=(1, 0.0))
    assert judge(told, PAUSED) == (1, "queue 'mail' is paused")
    assert judge(told, PAUSED, NO_WORKER) == (2, "queue 'x' has no worker; and 1 more")
    assert judge(told, PAUSED, NO_WORKER, queues=["mail"]) == (1, "queue 'mail' is paused")
    assert judge(told, PAUSED, queues=["mail"], ignore=["paused"])[0] == 0
    assert judge(told, OVERDUE, queues=["mail"])[0] == 1, "what is about no queue concerns all"


# ---- top ---------------------------------------------------------------------------------------------------


def a_look(at: float, processed: int, queues: int = 1, running: int = 1) -> Look:
    names = [f"queue-{n:02}" if n else "queue-00" + "-long" * 9 * (queues > 1) for n in range(queues)]
    told = numbers(**dict.fromkeys(names, (4, 90.0)))
    told["counts"] = {"accepted": processed, "succeeded": processed, "dead": 0}
    queue = {
        "waiting": 4, "delayed": 0, "running": 1, "processed": processed, "managers": 1, "free_slots": 0,
        "oldest_s": 90.0, "paused": False, "draining": False, "jobs_max": None,
    }  # fmt: skip
    manager = {"name": "host-1", "running": 1, "available_slots": 3, "silent_s": 0.2, "draining": False}
    job = {"id": "0" * 32, "name": "shop.tasks.a_function_with_a_long_name", "queue": "queue-00", "started": at - 75}
    jobs: list[Any] = [job | {"started": job["started"] + n} for n in range(running)]
    return Look(at, told, dict.fromkeys(names, queue), [manager], jobs, [NO_WORKER, PAUSED])  # type: ignore[arg-type]


def drawn(before: Look, now: Look, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(picture(before, now, width, height))
    return console.file.getvalue().rstrip("\n").splitlines()  # type: ignore[attr-defined,no-any-return]


def test_a_picture_has_rates_ages_and_elapsed_times() -> None:
    lines = drawn(a_look(1000.0, 100), a_look(1002.0, 150))
    text = "\n".join(lines)
    assert lines[0].startswith("EventMQ  up 1 h 1 m  3 of 8 slots busy  25 in/s  25 out/s  7 dead")
    assert lines[1] == "CRITICAL: queue 'x' has no worker"
    (queue,) = [line.split() for line in lines if "1 m 30 s" in line]
    assert queue == ["queue-00", "4", "0", "1", "25.0", "1", "m", "30", "s", "1"]
    assert re.search(r"0{32} +1 m 15 s +queue-00 +shop.tasks.a_fu", text)
    assert "host-1" in text


def test_a_picture_fits_a_terminal_of_80_by_24() -> None:
    lines = drawn(a_look(1000.0, 100, 40, 60), a_look(1002.0, 150, 40, 60))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert all(line.endswith("1") for line in lines if line.startswith("queue-")), "and with a long name, too"
    assert any("of 40)" in line for line in lines), "how many more there are is said"
    assert any("of 60)" in line for line in lines)


def test_lines_are_shared_and_what_one_does_not_need_is_for_others() -> None:
    assert shared([10, 10, 10], 9) == [3, 3, 3]
    assert shared([1, 10, 10], 9) == [1, 4, 4]
    assert shared([10, 0, 2], 3) == [1, 1, 1]
    assert shared([2, 2, 2], 100) == [2, 2, 2]
