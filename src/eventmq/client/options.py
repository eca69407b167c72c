"""The options of a job: `@job(queue=…)`, `.options(priority=…)`, `defer_job(…, timeout=…)`.

Checked where they are written, with the text of the mistake, and packed once for all jobs that share them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, get_args

from eventmq import values
from eventmq.client.retry import RETRIES_MAX, Retry
from eventmq.client.unique import Template
from eventmq.errors import InvalidJob
from eventmq.limits import ID_CHARS_MAX
from eventmq.protocol import v2
from eventmq.values import Duration

Scope = Literal["waiting", "running"]
OnConflict = Literal["existing", "replace", "raise"]
OnPartition = Literal["finish", "stop"]
CHOICES = {"unique_scope": Scope, "on_conflict": OnConflict, "on_partition": OnPartition}

AS_GIVEN = ("crash_limit", "redeliver", "on_partition", "unique_scope", "on_conflict")
AS_SECONDS = ("timeout", "soft_timeout", "result_ttl", "expires", "unique_for")
"""What travels under its own name, and what under its name and `_s`."""

QUEUE = "default"
PRIORITY_MAX = 100
"""Priorities go from -100 to 100, as in Django."""


LATER_MAX_S = 100 * 366 * 86_400.0
"""Nothing is put off for longer than a century."""


class Common(TypedDict, total=False):
    """What may be given wherever options are written: to `@job(…)`, `.options(…)` and `defer_job(…)`.

    What is None or not given is as the setting of whoever it concerns says.

    Attributes:
        queue: Where it waits.
        priority: -100 to 100, higher first within the queue.
        timeout: Its worker process is killed when it has run this long; 0 = never.
        soft_timeout: `SoftTimeout` is raised in it when it has run this long; less than `timeout`; 0 = never.
        result_ttl: How long its outcome is kept; 0 = not.
        crash_limit: Dead after it took down this many worker processes.
        retries: How often, and after which delays, it is tried again when it fails; a number stands for `Retry(it)`.
        expires: It ends as expired when its turn comes so long after it was accepted, or later; a retry's, too.
        redeliver: False: it begins at most once, ever; when nobody can say how that run ended, it ends as lost.
        on_partition: What its job manager does with it when it is cut off from the Router: `finish` it, which may
            happen while another runs it again, or `stop` it before another may begin.
        unique: Its key, as `"user:{user_id}"`, filled in with the arguments; True: all of them. Of the jobs of its
            name with the same key, one in its way keeps it out.
        unique_scope: In its way are those that wait (`waiting`: delayed ones too), or also those that run (`running`,
            the default).
        unique_for: Instead of that: those accepted less than so long ago, also when they have ended.
        on_conflict: There is one in its way: the handle is on that one (`existing`, the default), that one is
            cancelled (`replace`), or `DuplicateJob` is raised (`raise`).
        debounce: Of calls in quick succession only the last one runs, so long after it: `unique` (all arguments,
            unless it is given), and each call takes the place of the one before. Calls that keep coming put it off
            for ever.
        block_for: When its queue is full, `.delay()` and its kin wait for room this long before they raise `QueueFull`.
    """

    queue: str
    priority: int
    timeout: Duration | None
    soft_timeout: Duration | None
    result_ttl: Duration | None
    crash_limit: int | None
    retries: int | Retry | None
    expires: Duration | None
    redeliver: bool | None
    on_partition: OnPartition | None
    unique: Template | None
    unique_scope: Scope | None
    unique_for: Duration | None
    on_conflict: OnConflict | None
    debounce: Duration | None
    block_for: Duration | None


class Given(Common, total=False):
    """What may be given for the jobs of one call: to `.options(…)` and `defer_job(…)`.

    Attributes:
        countdown: It does not run before so long after it was accepted.
        eta: It does not run before this time, which must have a time zone.
        id: Its id, instead of a new one. The same id again is the same job: stored once.
        class_args: Of a method: the arguments that its instance is made from.
        class_kwargs: The same, by name.
    """

    countdown: Duration | None
    eta: datetime | None
    id: str | None
    class_args: Sequence[Any]
    class_kwargs: dict[str, Any]


class JobOptions:
    """How a job is enqueued: what was given, checked, and what follows from it.

    Args:
        given: As `Given` has it, nothing None.

    Attributes:
        template: What its key is made from.
        packed: The part that travels as `v2.Options`.

    Raises:
        InvalidJob: A `TypeError`: a value that cannot be.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.queue: str = given.get("queue", QUEUE)
        self.priority: int = given.get("priority", 0)
        self.unique: Template = given.get("unique", False)
        self.id: str | None = given.get("id")
        self.class_args: Sequence[Any] = given.get("class_args", ())
        self.class_kwargs: dict[str, Any] = given.get("class_kwargs", {})
        self.template: Template = self.unique or "debounce" in given
        _check(self, given)
        self.block_for_s = _seconds(given, "block_for") or 0.0
        self.packed = v2.pack_options(_travelling(self, given))

    def changed(self, where: str, given: Mapping[str, Any], known: type = Given) -> JobOptions:
        """A copy with other values; None in `given` = as it is.

        Args:
            where: Who was given them, for messages.
            given: Values by name.
            known: The names that may be.

        Raises:
            InvalidJob: A `TypeError`: an unknown name, or a value that cannot be.
        """
        names = known.__annotations__
        for name in given:
            if name not in names:
                raise InvalidJob(f"{where} has no option {name!r}; it has {', '.join(names)}")
        return JobOptions({**self._given, **{name: value for name, value in given.items() if value is not None}})


def _check(options: JobOptions, given: Mapping[str, Any]) -> None:
    """Sees that each value can be, and that none excludes another."""
    _check_queue(options.queue)
    for name, least, most in (("priority", -PRIORITY_MAX, PRIORITY_MAX), ("crash_limit", 1, 1_000)):
        if name in given:
            values.check_whole(name, given[name], InvalidJob, least, most)
    if options.id is not None and not re.fullmatch(rf"[!-~]{{1,{ID_CHARS_MAX}}}", options.id):
        raise InvalidJob(f"id is {options.id!r}, expected 1 to {ID_CHARS_MAX} printable ASCII characters, no space")
    if not isinstance(options.unique, (str, bool)):
        raise InvalidJob(f"unique is {options.unique!r}, expected text as 'user:{{user_id}}', or True: all arguments")
    if type(given.get("redeliver", True)) is not bool:
        raise InvalidJob(f"redeliver is {given['redeliver']!r}, expected True or False")
    for name, words in CHOICES.items():
        if name in given:
            values.check_choice(name, given[name], InvalidJob, get_args(words))
    of_key = [name for name in ("unique_scope", "unique_for", "on_conflict") if name in given]
    if of_key and not options.template:
        raise InvalidJob(f"{of_key[0]} is for jobs with a key; say with `unique` what it is")
    for name in (*of_key, "countdown", "eta") if "debounce" in given else ():
        if name in given:
            raise InvalidJob(f"debounce and {name} exclude each other")
    for one, other in (("unique_scope", "unique_for"), ("countdown", "eta")):
        if one in given and other in given:
            raise InvalidJob(f"{one} and {other} exclude each other")


def _travelling(options: JobOptions, given: Mapping[str, Any]) -> v2.Options:
    """The part that travels."""
    travels: dict[str, Any] = {name: given[name] for name in AS_GIVEN if name in given}
    travels |= {f"{name}_s": _seconds(given, name) for name in AS_SECONDS if name in given}
    if "debounce" in given:
        travels |= {"unique_scope": "waiting", "on_conflict": "replace"}
    made = v2.Options(
        delay_s=_seconds(given, "countdown") or _seconds(given, "debounce") or 0.0,
        due=max(values.moment("eta", given["eta"], InvalidJob), 1.0) if "eta" in given else 0.0,
        **travels,
    )
    if made.timeout_s and made.soft_timeout_s and made.soft_timeout_s >= made.timeout_s:
        text = f"expected less than timeout, {given['timeout']!r}"
        raise InvalidJob(f"soft_timeout is {given['soft_timeout']!r}, {text}")
    if made.expires_s is not None and made.expires_s <= made.delay_s:
        text = f"expected more than the {made.delay_s:g} s by which the job is put off"
        raise InvalidJob(f"expires is {given['expires']!r}, {text}")
    if "retries" in given:
        made = _policy(given["retries"]).added_to(made)
    if made.retries and not made.redeliver:
        raise InvalidJob("retries and redeliver=False exclude each other: a retry begins the job once more")
    return made


def _check_queue(queue: Any) -> None:
    if not isinstance(queue, str):
        raise InvalidJob(f"queue is {queue!r}, expected a name (str)")
    try:
        values.queue_name(queue)
    except ValueError as error:
        raise InvalidJob(f"queue is {queue!r}, expected {error}") from None


def _policy(retries: Any) -> Retry:
    if isinstance(retries, Retry):
        return retries
    values.check_whole("retries", retries, InvalidJob, 0, RETRIES_MAX)
    return Retry(retries)


def _seconds(given: Mapping[str, Any], name: str) -> float | None:
    return values.seconds(name, given[name], InvalidJob, LATER_MAX_S) if name in given else None
