"""The options of a job as eMQP/2.0 carries them. Source: `docs/protocol.md`, section 3.1."""

from __future__ import annotations

from typing import Literal

import msgspec


class Options(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    """A job's options, a msgpack map on the wire; a key that is absent has its default.

    Attributes:
        timeout_s: The worker process is killed when the job has run this long; 0 = never. None: the manager's setting.
        result_ttl_s: How long the outcome is kept; 0 = only its id, against resends. None: the Router's setting.
        crash_limit: Dead after this many dead worker processes. None: the Router's setting.
        delay_s: Not to run before so long after acceptance.
        due: Not to run before this wall time; takes the place of `delay_s`.
        expires_s: Expired when it has not begun so long after acceptance. None: never.
        retries: How often it is tried again after failing.
        retry_delays_s: How long it waits before each retry; the last one counts for all that follow. Empty: not at all.
        retry_jitter: Stretch or shrink each delay by up to a half, so that jobs that failed together come back apart.
        retry_on: Qualified names of exceptions to retry on, with all that derive from them. Empty: any.
        retry_not_on: The same, not to retry on.
        retry_timeout: Whether a timeout is retried like a failure.
        redeliver: False: it begins at most once. When nobody can say how that run ended, it is lost.
        on_partition: What a manager that is cut off from the Router does with it: `finish`, or `stop` within `LEASE_S`.
        unique_scope: Of a job with a key, which others are in its way: those that are delayed or `waiting`, or
            `running` ones too.
        unique_for_s: In place of the scope: those accepted less than so long ago, also when they have ended by now.
        on_conflict: Another job is in its way: that one stands for it (`existing`), it is refused (`raise`), or that
            one is cancelled (`replace`).
        schedule: The schedule of which it is a run; the Router says so.
        headers: What travels with the job for others than us, by name: `traceparent`, `tracestate`, `baggage`.
        soft_timeout_s: `SoftTimeout` is raised in the job when it has run this long; 0 = never. None: never.
    """

    timeout_s: float | None = None
    result_ttl_s: float | None = None
    crash_limit: int | None = None
    delay_s: float = 0.0
    due: float = 0.0
    expires_s: float | None = None
    retries: int = 0
    retry_delays_s: tuple[float, ...] = ()
    retry_jitter: bool = False
    retry_on: tuple[str, ...] = ()
    retry_not_on: tuple[str, ...] = ()
    retry_timeout: bool = True
    redeliver: bool = True
    on_partition: Literal["finish", "stop"] = "finish"
    unique_scope: Literal["waiting", "running"] = "running"
    unique_for_s: float | None = None
    on_conflict: Literal["existing", "replace", "raise"] = "existing"
    schedule: str = ""
    soft_timeout_s: float | None = None
    headers: dict[str, str] | None = None
