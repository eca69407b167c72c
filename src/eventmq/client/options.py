"""The options of a job: `@job(queue=…)`, `.options(priority=…)`, `defer_job(…, timeout=…)`.

Checked where they are written, with the text of the mistake, and packed once for all jobs that share them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

QUEUE = "default"
PRIORITY_MAX = 100
"""Priorities go from -100 to 100, as in Django."""


LATER_MAX_S = 100 * 366 * 86_400.0
"""Nothing is put off for longer than a century."""


class Common(TypedDict, total=False):
    """What may be given wherever options are written: to `@job(…)`, `.options(…)` and `defer_job(…)`."""

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
    """What may be given for the jobs of one call: to `.options(…)` and `defer_job(…)`."""

    countdown: Duration | None
    eta: datetime | None
    id: str | None
    class_args: Sequence[Any]
    class_kwargs: dict[str, Any]


@dataclass(frozen=True)
class JobOptions:
    """How a job is enqueued. None = the setting of whoever it concerns decides.

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
        countdown: It does not run before so long after it was accepted.
        eta: It does not run before this time, which must have a time zone.
        id: Its id, instead of a new one. The same id again is the same job: stored once.
        class_args: Of a method: the arguments that its instance is made from.
        class_kwargs: The same, by name.
        packed: The part that travels as `v2.Options`.
    """

    queue: str = QUEUE
    priority: int = 0
    timeout: Duration | None = None
    soft_timeout: Duration | None = None
    result_ttl: Duration | None = None
    crash_limit: int | None = None
    retries: int | Retry | None = None
    expires: Duration | None = None
    redeliver: bool = True
    on_partition: OnPartition = "finish"
    unique: Template = False
    unique_scope: Scope | None = None
    unique_for: Duration | None = None
    on_conflict: OnConflict | None = None
    debounce: Duration | None = None
    block_for: Duration | None = None
    countdown: Duration | None = None
    eta: datetime | None = None
    id: str | None = None
    class_args: Sequence[Any] = ()
    class_kwargs: dict[str, Any] = field(default_factory=dict)
    block_for_s: float = field(init=False, repr=False, default=0.0)
    packed: bytes = field(init=False, repr=False, default=b"")

    def __post_init__(self) -> None:
        _check_queue(self.queue)
        values.check_whole("priority", self.priority, InvalidJob, -PRIORITY_MAX, PRIORITY_MAX)
        if self.crash_limit is not None:
            values.check_whole("crash_limit", self.crash_limit, InvalidJob, 1, 1_000)
        if self.id is not None and not re.fullmatch(rf"[!-~]{{1,{ID_CHARS_MAX}}}", self.id):
            raise InvalidJob(f"id is {self.id!r}, expected 1 to {ID_CHARS_MAX} printable ASCII characters, no space")
        if type(self.redeliver) is not bool:
            raise InvalidJob(f"redeliver is {self.redeliver!r}, expected True or False")
        values.check_choice("on_partition", self.on_partition, InvalidJob, get_args(OnPartition))
        options = v2.Options(
            timeout_s=_seconds("timeout", self.timeout),
            result_ttl_s=_seconds("result_ttl", self.result_ttl),
            crash_limit=self.crash_limit,
            delay_s=_seconds("countdown", self.countdown) or _seconds("debounce", self.debounce) or 0.0,
            due=0.0 if self.eta is None else max(values.moment("eta", self.eta, InvalidJob), 1.0),
            expires_s=_seconds("expires", self.expires),
            soft_timeout_s=_seconds("soft_timeout", self.soft_timeout),
            redeliver=self.redeliver,
            on_partition=self.on_partition,
            **_policy_of_key(self),
        )
        if options.timeout_s and options.soft_timeout_s and options.soft_timeout_s >= options.timeout_s:
            raise InvalidJob(f"soft_timeout is {self.soft_timeout!r}, expected less than timeout, {self.timeout!r}")
        if options.expires_s is not None and options.expires_s <= options.delay_s:
            text = f"expected more than the {options.delay_s:g} s by which the job is put off"
            raise InvalidJob(f"expires is {self.expires!r}, {text}")
        if self.countdown is not None and self.eta is not None:
            raise InvalidJob("countdown and eta exclude each other")
        if self.retries is not None:
            options = _policy(self.retries).added_to(options)
        if options.retries and not self.redeliver:
            raise InvalidJob("retries and redeliver=False exclude each other: a retry begins the job once more")
        object.__setattr__(self, "block_for_s", _seconds("block_for", self.block_for) or 0.0)
        object.__setattr__(self, "packed", v2.pack_options(options))

    @property
    def template(self) -> Template:
        """What its key is made from."""
        return self.unique or self.debounce is not None

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
        return replace(self, **{name: value for name, value in given.items() if value is not None})


def _check_queue(queue: Any) -> None:
    if not isinstance(queue, str):
        raise InvalidJob(f"queue is {queue!r}, expected a name (str)")
    try:
        values.queue_name(queue)
    except ValueError as error:
        raise InvalidJob(f"queue is {queue!r}, expected {error}") from None


def _policy_of_key(options: JobOptions) -> dict[str, Any]:
    """What travels of `unique` and `debounce` besides the key and the delay."""
    if not isinstance(options.unique, (str, bool)):
        raise InvalidJob(f"unique is {options.unique!r}, expected text as 'user:{{user_id}}', or True: all arguments")
    names = ("unique_scope", "unique_for", "on_conflict")
    given = [name for name in names if getattr(options, name) is not None]
    if options.debounce is not None:
        for name in (*given, *(name for name in ("countdown", "eta") if getattr(options, name) is not None)):
            raise InvalidJob(f"debounce and {name} exclude each other")
        return {"unique_scope": "waiting", "on_conflict": "replace"}
    if given and not options.unique:
        raise InvalidJob(f"{given[0]} is for jobs with a key; say with `unique` what it is")
    if options.unique_scope is not None and options.unique_for is not None:
        raise InvalidJob("unique_scope and unique_for exclude each other")
    for name, words in (("unique_scope", get_args(Scope)), ("on_conflict", get_args(OnConflict))):
        if name in given:
            values.check_choice(name, getattr(options, name), InvalidJob, words)
    policy = {
        "unique_scope": options.unique_scope,
        "unique_for_s": _seconds("unique_for", options.unique_for),
        "on_conflict": options.on_conflict,
    }
    return {name: value for name, value in policy.items() if value is not None}


def _policy(retries: Any) -> Retry:
    if isinstance(retries, Retry):
        return retries
    values.check_whole("retries", retries, InvalidJob, 0, RETRIES_MAX)
    return Retry(retries)


def _seconds(name: str, value: Duration | None) -> float | None:
    return None if value is None else values.seconds(name, value, InvalidJob, LATER_MAX_S)
