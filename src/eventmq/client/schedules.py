"""`schedule` and `unschedule`: a call that runs again and again, kept by the Router until it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from eventmq.client import default, ids, tracing
from eventmq.client.call import named
from eventmq.client.jobs import Job
from eventmq.client.options import Given
from eventmq.errors import InvalidSchedule
from eventmq.limits import NAME_CHARS_MAX, SCHEDULE_BYTES_MAX
from eventmq.protocol.calls import call_key
from eventmq.protocol.scheduling import Arrange, CallOff, Schedule
from eventmq.schedules.rule import Cron, Every, Rule, Timing
from eventmq.values import Duration

Target = str | Job[Any, Any] | Callable[..., Any]
Args = Sequence[Any]
Kwargs = Mapping[str, Any] | None


class Options(Timing, Given, total=False):
    """What may be said of a schedule besides what it calls: of when that is (`Timing`), and of its jobs (`Given`)."""

    interval_secs: Duration | None
    cron: str | None
    tz: str | None
    nohaste: bool
    name: str


def schedule(
    target: Target, when: Rule | None = None, args: Args = (), kwargs: Kwargs = None, **given: Unpack[Options]
) -> str:
    """Has a call run again and again. Returns when the Router has stored that.

    The same `name` again, or without one the same call, takes the place of what was scheduled before; with the same
    rule it goes on as it was.

    Args:
        target: A job, a function, or `module.function`.
        when: `Every(…)` or `Cron(…)`. Or instead of it `interval_secs`, at once and then so often: seconds, `"5m"`, a
            `timedelta`. Or `cron`: five or six fields, or `@hourly` and its kin, read in the time zone `tz` (UTC).
        args: Positional arguments of the call.
        kwargs: Its named arguments.
        given: `name`; with `interval_secs` and `cron` what `Every` and `Cron` take: `start`, `end`, `jitter`,
            `run_count`, `nohaste`, `misfire`, `grace`, `overlap`, `overdue`; and options of the jobs, as for
            `Job.options`.

    Returns:
        The schedule's id: its name, or the key of the call.

    Raises:
        InvalidSchedule: A `ValueError`: what cannot be, said before anything is sent.
        InvalidJob: A `TypeError`: arguments or options of the job that cannot be.
        BrokerUnavailable: No Router is configured, or it did not answer in time.
        JobRefused: The Router refused it.
    """
    made = _made(target, when, args, kwargs, given)
    default.required().query(b"SCHEDULE", lambda n: Arrange(n, made))
    return made.id


async def aschedule(
    target: Target, when: Rule | None = None, args: Args = (), kwargs: Kwargs = None, **given: Unpack[Options]
) -> str:
    """`schedule` for asyncio."""
    made = _made(target, when, args, kwargs, given)
    await default.required().aquery(b"SCHEDULE", lambda n: Arrange(n, made))
    return made.id


def unschedule(target: Target = "", args: Args = (), kwargs: Kwargs = None, *, name: str = "", **given: Any) -> bool:
    """Ends a schedule, by its name or by its call. Jobs that it has made go on.

    Args:
        target: What is called, if the schedule has no name.
        args: Positional arguments of the call.
        kwargs: Its named arguments.
        name: The schedule's name, or what `schedule` returned.
        given: `class_args` and `class_kwargs` of a method.

    Returns:
        Whether there was such a schedule.
    """
    id = _id(target, args, kwargs, name, given)
    return bool(default.required().query(b"UNSCHEDULE", lambda n: CallOff(n, id)))


async def aunschedule(
    target: Target = "", args: Args = (), kwargs: Kwargs = None, *, name: str = "", **given: Any
) -> bool:
    """`unschedule` for asyncio."""
    id = _id(target, args, kwargs, name, given)
    return bool(await default.required().aquery(b"UNSCHEDULE", lambda n: CallOff(n, id)))


def _made(target: Target, when: Rule | None, args: Args, kwargs: Kwargs, given: Mapping[str, Any]) -> Schedule:
    of_job: Any = {key: value for key, value in given.items() if value is not None}
    if {"id", "eta"} & of_job.keys():
        raise InvalidSchedule("id and eta are for one job; a schedule makes many")
    name = of_job.pop("name", "")
    rule = _rule(when, **{key: of_job.pop(key) for key in list(of_job) if key in _OF_RULE})
    message = named("schedule()", target, args, kwargs, of_job)[0]
    if len(message.payload) > SCHEDULE_BYTES_MAX:
        has, most = len(message.payload), SCHEDULE_BYTES_MAX
        raise InvalidSchedule(f"{message.name}: the arguments have {has:,} bytes, those of a schedule {most:,} at most")
    if rule.overlap != "allow" and message.unique:
        raise InvalidSchedule(f"{message.name}: overlap and unique exclude each other")
    if not isinstance(name, str) or len(name) > NAME_CHARS_MAX:
        raise InvalidSchedule(f"name is {name!r}, expected text of at most {NAME_CHARS_MAX} characters")
    tracing.inject(message)
    return Schedule(name or call_key(message.name, message.payload), ids.new_id(), rule, message)


_OF_RULE = {*Timing.__annotations__, "nohaste", "interval_secs", "cron", "tz"}


def _rule(
    when: Any, interval_secs: Duration | None = None, cron: str | None = None, tz: str | None = None, **timing: Any
) -> Rule:
    ways = {"a rule": when, "interval_secs": interval_secs, "cron": cron}
    chosen = [way for way, value in ways.items() if value is not None]
    if len(chosen) != 1:
        got = f"both {' and '.join(chosen)}" if chosen else "none of them"
        raise InvalidSchedule(f"schedule() wants one of interval_secs, cron or a rule (Every, Cron), and got {got}")
    if cron is not None:
        return Cron(cron, tz=tz or "UTC", **timing)
    if tz is not None:
        raise InvalidSchedule("tz is the time zone of cron; an interval has none")
    if interval_secs is not None:
        return Every(interval_secs, **timing)
    if not isinstance(when, Rule) or timing:
        given = (
            f"and {', '.join(timing)} beside it; say that in the rule" if isinstance(when, Rule) else f"got {when!r}"
        )
        raise InvalidSchedule(f"schedule() wants a rule made by Every or Cron, {given}")
    return when


def _id(target: Target, args: Args, kwargs: Kwargs, name: str, given: Any) -> str:
    if bool(name) == bool(target):
        raise InvalidSchedule("unschedule() wants the schedule's name, or what it calls and with which arguments")
    if name:
        return name
    message = named("unschedule()", target, args, kwargs, given)[0]
    return call_key(message.name, message.payload)
