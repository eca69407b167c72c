"""What people write, as values: durations, switches, names, weighted queues; and numbers as people read them.

Pure: text in, value out. Each function raises ValueError with what was expected ("a whole number from 1"), so
that its caller can put in front where the text came from. Used for settings and for the options of a job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from eventmq.limits import NAME_CHARS_MAX, QUEUES_PER_MANAGER_MAX

Duration = str | float | timedelta
"""Seconds, text such as `"5m"` or `"1h30m"`, or a `timedelta`."""

Queues = tuple[tuple[int, str], ...]
"""Weighted queues, `((15, "email"), (10, "default"))`: the manager serves heavier ones first."""

QUEUE_WEIGHT = 10
"""Weight of a queue that is named without one, as in 0.3.13."""

QUEUE_WEIGHT_MAX = 1_000_000
"""Weights only order queues; this bounds what has to be carried."""

Bounds = tuple[tuple[str, int], ...]
"""Jobs that may wait in a queue, `(("email", 1000), ("*", 100000))`."""

ALL_QUEUES = "*"
"""Stands for the queues that are not named."""

SECRET_CHARS_MIN = 16
"""A password or token that is not found by trying."""

JOBS_MAX = 1_000_000_000
"""A bound above this is none."""

UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SPANS = re.compile(rf"(?:{_SPAN.pattern})+")
_SECONDS = re.compile(r"\d+(?:\.\d+)?")


def duration(value: Duration) -> float:
    """Seconds, from seconds, a `timedelta`, or text such as `"90"`, `"5m"`, `"1h30m"`, `"250ms"`.

    Raises:
        ValueError: Not a duration, negative, or not finite.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _duration_of_text("".join(value.split()).lower())
    else:
        seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError("a duration of 0 or more, as 90, 5m or 1h30m")
    return seconds


def _duration_of_text(text: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    if not _SPANS.fullmatch(text):
        raise ValueError("a duration in seconds, or as 250ms, 10s, 5m, 1h30m, 2d")
    return sum(float(number) * UNIT_S[unit] for number, unit in _SPAN.findall(text))


def some(count: int, what: str) -> str:
    """A number of things, in words: `1 job`, `2 jobs`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def span(seconds: float) -> str:
    """A length of time as people say it: `4.2 s`, `3 m 5 s`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    units = [unit for unit in ("d", "h", "m", "s") if seconds >= UNIT_S[unit]]
    first, rest = divmod(seconds, UNIT_S[units[0]])
    second = int(rest // UNIT_S[units[1]]) if len(units) > 1 else 0
    return f"{first:.0f} {units[0]}" + (f" {second} {units[1]}" if second else "")


def seconds(name: str, value: Any, error: type[Exception], most: float = float("inf")) -> float:
    """`duration` of an argument called `name`; if it cannot be, or is more than `most`, `error` says so."""
    try:
        found = duration(value)
        if found > most:
            raise ValueError(f"{most / UNIT_S['d']:,.0f} days at most")
    except (ValueError, TypeError) as expected:
        raise error(f"{name} is {value!r}, expected {expected}") from None
    return found


def moment(name: str, value: Any, error: type[Exception]) -> float:
    """Wall time of an argument called `name`; if it is no datetime with a time zone, `error` says so."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise error(f"{name} is {value!r}, expected a datetime with a time zone")
    return value.timestamp()


def check_whole(name: str, value: Any, error: type[Exception], least: int, most: int) -> None:
    """Sees that an argument called `name` is a whole number from `least` to `most`; else `error` says so."""
    if type(value) is not int or not least <= value <= most:
        raise error(f"{name} is {value!r}, expected a whole number from {least} to {most}")


def check_choice(name: str, value: Any, error: type[Exception], words: Sequence[str]) -> None:
    """Sees that an argument called `name` is one of these words; else `error` says so."""
    if value not in words:
        raise error(f"{name} is {value!r}, expected one of {', '.join(words)}")


def iso(at: float, timespec: str = "auto") -> str:
    """A wall time in ISO 8601: `2026-11-24T11:00:00Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def switch(text: str) -> bool:
    """True or False, in any of the words that INI files know.

    Raises:
        ValueError: None of them.
    """
    word = text.strip().lower()
    if word not in {"true", "yes", "on", "1", "false", "no", "off", "0"}:
        raise ValueError("true or false")
    return word in {"true", "yes", "on", "1"}


def whole(least: int, most: int = 2**31) -> Callable[[str], int]:
    """A reader of whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\s*[+-]?\d{1,12}\s*", text) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least}" + ("" if most == 2**31 else f" to {most}"))
        return int(text)

    return read


def choice(*words: str) -> Callable[[str], str]:
    """A reader of one of `words`, whatever its case."""

    def read(text: str) -> str:
        for word in words:
            if text.strip().lower() == word.lower():
                return word
        raise ValueError("one of " + ", ".join(words))

    return read


def queue_name(text: str) -> str:
    """The name of a queue, checked.

    Raises:
        ValueError: Empty, too long, or not printable.
    """
    if not text or len(text) > NAME_CHARS_MAX or not text.isprintable() or text != text.strip():
        raise ValueError(f"a queue's name: 1 to {NAME_CHARS_MAX} printable characters, no space around them")
    return text


def queues(text: str) -> Queues:
    """Weighted queues, heaviest first.

    Three forms: `email:15,default:10`; `default,email`, where each has `QUEUE_WEIGHT`; and that of 0.3.13,
    `[[15, "email"], [10, "default"]]`.

    Raises:
        ValueError: None of the three forms, a name or weight that is not one, or a queue named twice.
    """
    text = text.strip()
    pairs = _queues_of_json(text) if text.startswith("[") else [_queue_of_word(word) for word in _words(text)]
    if len({name for _, name in pairs}) < len(pairs):
        raise ValueError("each queue once")
    if len(pairs) > QUEUES_PER_MANAGER_MAX:
        raise ValueError(f"at most {QUEUES_PER_MANAGER_MAX} queues")
    return tuple(sorted(pairs, key=lambda pair: -pair[0]))


def _queues_of_json(text: str) -> list[tuple[int, str]]:
    try:
        found = msgspec.json.decode(text, type=list[tuple[int, str] | str])
    except msgspec.MsgspecError:
        raise ValueError('queues as [[15, "email"], [10, "default"]] or email:15,default:10') from None
    pairs = [(QUEUE_WEIGHT, item) if isinstance(item, str) else item for item in found]
    return [(queue_weight(weight), queue_name(name)) for weight, name in pairs]


def _queue_of_word(word: str) -> tuple[int, str]:
    name, colon, weight = word.rpartition(":")
    if not colon:
        return QUEUE_WEIGHT, queue_name(word)
    return queue_weight(weight), queue_name(name.strip())


def queue_weight(value: int | str) -> int:
    """The weight of a queue, checked."""
    return whole(0, QUEUE_WEIGHT_MAX)(str(value))


def bounds(text: str) -> Bounds:
    """Bounds of queues: `email:1000,*:100000`, where `*` is all that are not named; a number alone means all.

    Raises:
        ValueError: A name or number that is not one, or a queue named twice.
    """
    pairs = [word.rpartition(":") for word in _words(text)]
    named = [(queue_name(name.strip() or ALL_QUEUES), whole(0, JOBS_MAX)(number)) for name, _, number in pairs]
    if len(dict(named)) < len(named):
        raise ValueError("each queue once")
    return tuple(named)


def modules(text: str) -> tuple[str, ...]:
    """Module names from `tasks,shop.jobs` or `["tasks", "shop.jobs"]`.

    Raises:
        ValueError: Something that is no module's name; a file name is told apart, being the usual mistake.
    """
    text = text.strip()
    names = _modules_of_json(text) if text.startswith("[") else _words(text)
    return tuple(dict.fromkeys(module(name) for name in names))


def _modules_of_json(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        raise ValueError('modules as tasks,shop.jobs or ["tasks", "shop.jobs"]') from None


def module(name: str) -> str:
    """The name of a module, checked."""
    if name.endswith(".py") or "/" in name:
        raise ValueError(f"a module's name as Python imports it ({_as_module(name)}, not {name})")
    return dotted(name)


def _as_module(path: str) -> str:
    return path.removesuffix(".py").strip("./").replace("/", ".")


def dotted(text: str) -> str:
    """A dotted Python name, checked."""
    if not text or not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("a dotted Python name, as shop.jobs")
    return text


def function(text: str) -> str:
    """`module.function`, checked; empty = none."""
    text = text.strip()
    if text and "." not in text:
        raise ValueError("a function with its module, as shop.hooks.prepare")
    return dotted(text) if text else ""


def label(text: str) -> str:
    """A name for people (a manager's), checked; empty = none."""
    text = text.strip()
    if len(text) > NAME_CHARS_MAX or not text.isprintable():
        raise ValueError(f"at most {NAME_CHARS_MAX} printable characters")
    return text


def names(text: str) -> tuple[str, ...]:
    """Names between commas, in small letters."""
    return tuple(word.lower() for word in _words(text))


def url_path(text: str) -> str:
    """The path of a URL, checked; empty = none. Without a slash at its end.

    Raises:
        ValueError: Not such a path.
    """
    text = text.strip().rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", text):
        raise ValueError("a path, as /eventmq")
    return text


def secret(text: str) -> str:
    """A password or token, checked; empty = none.

    Raises:
        ValueError: Too short to be one, or it cannot be sent in a header.
    """
    if text and not (SECRET_CHARS_MIN <= len(text) <= NAME_CHARS_MAX and text.isascii() and text.isprintable()):
        raise ValueError(f"{SECRET_CHARS_MIN} to {NAME_CHARS_MAX} printable ASCII characters")
    return text


def _words(text: str) -> Iterable[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
