"""What questions on the administrative socket are about: their `params`, a map each. Source: `docs/protocol.md`, 3.4.

A parameter that is not known is refused: an operator who mistypes a filter must not act on everything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from eventmq import limits
from eventmq.errors import InvalidMessageError
from eventmq.protocol.v2 import Question
from eventmq.values import JOBS_MAX

Id = Annotated[str, Meta(min_length=1, max_length=limits.ID_CHARS_MAX)]
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
Text = Annotated[str, Meta(max_length=limits.ERROR_CHARS_MAX)]

STATES = ("waiting", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "lost")
"""The states of a job, in the order in which people read them; what they mean says `docs/lifecycle.md`."""


class Params(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all params."""


class Selection(Params):
    """Some jobs: those for which all that is given holds.

    Attributes:
        states: It is in one of these; empty = any.
        queue: Its queue.
        name: What it calls.
        worker: Name of the manager that runs it, or ran it last if it has ended.
        error: Stands in the type or message of its last failure.
        ids: It is one of these.
        since: Wall time at which it was accepted, or requeued, at the earliest.
        until: The same; before this.
        arguments: Texts that its arguments have, by their path (`calls.has_arguments`).
        before: Where to go on: `next` of the answer before.
        limit: Jobs in the answer at most.
    """

    states: Annotated[list[Annotated[str, Meta(max_length=20)]], Meta(max_length=len(STATES))] = []
    queue: Name = ""
    name: Name = ""
    worker: Name = ""
    error: Text = ""
    ids: Annotated[list[Id], Meta(max_length=limits.LIST_JOBS_MAX)] | None = None
    since: float | None = None
    until: float | None = None
    arguments: Annotated[dict[Name, Text], Meta(max_length=limits.ARGUMENTS_MAX)] = {}
    before: Annotated[int, Meta(ge=0, le=limits.NEWEST)] | None = None
    limit: Annotated[int, Meta(ge=1)] = limits.LIST_JOBS_MAX


class OneJob(Params):
    """A job by its id."""

    id: Id


class Arguments(Params):
    """What a job is to be called with, each nil = as it was; the class ones are for a method."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    class_args: list[Any] | None = None
    class_kwargs: dict[str, Any] | None = None


class Rerun(OneJob):
    """A new job like the one with this id.

    Attributes:
        job: The id of the new one.
        arguments: Other ones; nil = the same.
    """

    job: Id
    arguments: Arguments | None = None


class Logs(OneJob):
    """What a job has logged, from line `after` on: `next` of the answer before."""

    after: Annotated[int, Meta(ge=0)] = 0


class Events(Params):
    """What has happened behind event `after`: `next` of the answer before; nil: from now on."""

    after: Annotated[int, Meta(ge=0)] | None = None
    limit: Annotated[int, Meta(ge=1)] = limits.LIST_JOBS_MAX


class OneQueue(Params):
    """A queue by its name."""

    queue: Annotated[Name, Meta(min_length=1)]


class Queues(Params):
    """Queues in order of their names, those behind `after`; or only one of them."""

    after: Name = ""
    queue: Name = ""


class Bound(OneQueue):
    """How many jobs may wait in a queue; nil = as the setting `queue_jobs_max` says."""

    jobs_max: Annotated[int, Meta(ge=0, le=JOBS_MAX)] | None


class Schedules(Params):
    """Schedules, and what is done to one of them.

    Attributes:
        id: This one; empty = all.
        after: Where to go on in the order of their ids: `next` of the answer before.
        act: What is done.
        job: The id of the job that `run` makes.
    """

    id: Name = ""
    after: Name = ""
    act: Literal["", "pause", "resume", "remove", "run"] = ""
    job: Annotated[str, Meta(max_length=limits.ID_CHARS_MAX)] = ""


Wall = Annotated[float, Meta(ge=0, le=limits.FUTURE_S_MAX)]


class Since(Params):
    """What was seen since this wall time."""

    since: Wall | None = None


class Types(Since):
    """What has become of each job type.

    Attributes:
        since: The last day, unless this wall time is given.
        queue: As far as its jobs are in this queue.
        after: Where to go on in the order of names: `next` of the answer before.
    """

    queue: Name = ""
    after: Name = ""


class Chart(Since):
    """What has happened.

    Attributes:
        since: The last hour, unless this wall time is given, or `next` of the answer before.
        until: To this wall time; None = now.
        queue: As far as jobs in this queue are concerned.
        name: As far as jobs of this type are concerned.
        step_s: How long a step of time is, about; 0 = as fits.
    """

    until: Wall | None = None
    queue: Name = ""
    name: Name = ""
    step_s: Annotated[int, Meta(ge=0, le=limits.HISTORY_S)] = 0


P = TypeVar("P", bound=Params)


def params_of(question: Question, kind: type[P]) -> P:
    """The params of a question.

    Raises:
        InvalidMessageError: They are not of that kind.
    """
    try:
        return msgspec.convert(question.params, kind)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(f"params: {error}") from error
