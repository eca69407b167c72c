"""What questions on the administrative socket are about: their `params`, a map each. Source: `docs/protocol.md`, 3.4.

A parameter that is not known is refused: an operator who mistypes a filter must not act on everything.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from eventmq.errors import InvalidMessageError
from eventmq.limits import ERROR_CHARS_MAX, ID_CHARS_MAX, LIST_JOBS_MAX, NAME_CHARS_MAX, NEWEST
from eventmq.protocol.v2 import Question
from eventmq.values import JOBS_MAX

Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]


class Params(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all params."""


class Selection(Params):
    """Some jobs: those for which all that is given holds.

    Attributes:
        state: One of the states of a job; empty = any.
        queue: Its queue.
        name: What it calls.
        error: Stands in the type or message of its last failure.
        ids: It is one of these.
        before: Where to go on: `next` of the answer before.
        limit: Jobs in the answer at most.
    """

    state: Annotated[str, Meta(max_length=20)] = ""
    queue: Name = ""
    name: Name = ""
    error: Annotated[str, Meta(max_length=ERROR_CHARS_MAX)] = ""
    ids: Annotated[list[Id], Meta(max_length=LIST_JOBS_MAX)] | None = None
    before: Annotated[int, Meta(ge=0, le=NEWEST)] | None = None
    limit: Annotated[int, Meta(ge=1)] = LIST_JOBS_MAX


class OneJob(Params):
    """A job by its id."""

    id: Id


class Logs(OneJob):
    """What a job has logged, from line `after` on: `next` of the answer before."""

    after: Annotated[int, Meta(ge=0)] = 0


class SomeJobs(Params):
    """Jobs by their ids."""

    ids: Annotated[list[Id], Meta(max_length=LIST_JOBS_MAX)]


class OneQueue(Params):
    """A queue by its name."""

    queue: Annotated[Name, Meta(min_length=1)]


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
    job: Annotated[str, Meta(max_length=ID_CHARS_MAX)] = ""


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
