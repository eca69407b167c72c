"""eMQP/1.0, the wire of the 2020 release: text frames, one job in each message.

    ''  'eMQP/1.0'  COMMAND  message-id  frame…

A job crosses into our own form (`v2.Job`) when it is parsed and back when it is written, so nothing behind this module
knows that there are two. Source: `docs/protocol.md`, section 2.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from eventmq.errors import InvalidMessageError
from eventmq.protocol import calls, v2
from eventmq.schedules.rule import Rule, words

VERSION = b"eMQP/1.0"

TIMEOUT_VALUE = "TimeoutError"
"""What a 2020 manager replies for a job that it killed at its timeout; no job's own text can be told from it."""


class Headers(NamedTuple):
    """The headers frame: `reply-requested,retry-count:3,timeout:60`. Absent = off.

    Attributes:
        reply_requested: The client wants the result, not only the receipt.
        retry_count: Run a failing job up to so many more times.
        timeout_s: Kill the job after this time; 0 = never, None = not given.
        guarantee: The system makes sure that the job completes. Ours always does.
        nohaste: A schedule's first run comes after one interval.
        run_count: A schedule ends after so many runs; None = never.
    """

    reply_requested: bool = False
    retry_count: int = 0
    timeout_s: float | None = None
    guarantee: bool = False
    nohaste: bool = False
    run_count: int | None = None


class Payload(msgspec.Struct):
    """The call in a 1.0 payload, `["run", {…}]`; 0.3.13 leaves no key out, others may."""

    path: str
    callable: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    class_args: list[Any] = []
    class_kwargs: dict[str, Any] = {}


_payload_decoder = msgspec.json.Decoder(tuple[str, Payload])
_value_decoder = msgspec.json.Decoder()
_queues_decoder = msgspec.json.Decoder(list[tuple[int, str]])


def encode(command: bytes, message_id: str, *frames: str | bytes) -> list[bytes]:
    """The frames of one message, without the identity that a ROUTER socket puts in front."""
    body = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return [b"", VERSION, command, message_id.encode(), *body]


def text(frame: bytes) -> str:
    """A frame as text.

    Raises:
        InvalidMessageError: It is not UTF-8.
    """
    try:
        return frame.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessageError(f"a frame is not UTF-8 text: {frame[:40]!r}") from error


@lru_cache(maxsize=1024)
def parse_headers(frame: str) -> Headers:
    """The headers frame. Unknown headers are ignored, as 0.3.13 does.

    Raises:
        InvalidMessageError: A number is not one.
    """
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in frame.split(","))):
        key, _, value = part.partition(":")
        try:
            match key:
                case "reply-requested" | "guarantee" | "nohaste":
                    found[key.replace("-", "_")] = True
                case "retry-count" | "run_count":
                    found[key.replace("-", "_")] = number = int(value)
                    if number.bit_length() > 63:
                        raise ValueError
                case "timeout":
                    found["timeout_s"] = float(value)
        except ValueError as error:
            raise InvalidMessageError(f"header {part!r}: expected a number (63 bits at most) after it") from error
    return Headers(**found)


@lru_cache(maxsize=1024)
def format_headers(headers: Headers) -> str:
    """The inverse of `parse_headers`."""
    parts = ["reply-requested"] if headers.reply_requested else []
    if headers.retry_count:
        parts.append(f"retry-count:{headers.retry_count}")
    if headers.timeout_s is not None:
        parts.append(f"timeout:{headers.timeout_s:g}")
    if headers.guarantee:
        parts.append("guarantee")
    if headers.nohaste:
        parts.append("nohaste")
    if headers.run_count is not None:
        parts.append(f"run_count:{headers.run_count}")
    return ",".join(parts)


def parse_call(frame: bytes) -> Payload:
    """The call in a payload frame.

    Raises:
        InvalidMessageError: Not `["run", {"path": …, "callable": …}]`.
    """
    try:
        verb, payload = v2.decoded(_payload_decoder, frame)
    except msgspec.MsgspecError as error:
        raise InvalidMessageError(f"the payload is not a job: {error}") from error
    if verb != "run":
        raise InvalidMessageError(f"the payload's verb is {verb[:40]!r}, expected 'run'")
    return payload


def parse_request(message_id: str, frames: list[bytes]) -> tuple[v2.Job, Headers]:
    """A job from the frames of a REQUEST after its message id: queue, headers, payload.

    Raises:
        InvalidMessageError: It is not a REQUEST.
    """
    if len(frames) < 3:
        raise InvalidMessageError(f"REQUEST has {len(frames)} frames after its id, expected queue, headers, payload")
    headers = parse_headers(text(frames[1]))
    call = parse_call(frames[2])
    options = _options(headers.timeout_s, headers.retry_count)
    name = calls.join_name(call.path, call.callable)
    try:
        payload = calls.pack_call(call.args, call.kwargs, call.class_args, call.class_kwargs)
    except (OverflowError, RecursionError) as error:
        raise InvalidMessageError(f"the arguments of {name[:80]} have no form in msgpack: {error}") from error
    return v2.Job(message_id, text(frames[0]), name, payload, 0, options), headers


@lru_cache(maxsize=1024)
def _options(timeout_s: float | None, retry_count: int) -> bytes:
    timeout_s = None if timeout_s is None else max(0.0, timeout_s)
    return v2.pack_options(v2.Options(timeout_s=timeout_s, retries=max(0, retry_count)))


def format_request(job: v2.Job, timeout_s: float | None) -> list[bytes]:
    """The frames of a REQUEST to a manager, with the reply always requested: without it nothing says that a job ended.

    Raises:
        InvalidMessageError: The arguments have no form in JSON.
    """
    headers = format_headers(Headers(reply_requested=True, timeout_s=timeout_s))
    return encode(b"REQUEST", job.id, job.queue, headers, format_call(job))


def format_call(job: v2.Job) -> bytes:
    """The payload frame of a job, the inverse of `parse_call`.

    Raises:
        InvalidMessageError: The arguments have no form in JSON.
    """
    path, function = calls.split_name(job.name)
    try:
        arguments = calls.unpack_call(job.payload)._asdict()
        return msgspec.json.encode(("run", {"path": path, "callable": function, **arguments}))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidMessageError(f"the arguments of {job.name} cannot be written as JSON: {error}") from error


def parse_schedule(message_id: str, frames: list[bytes]) -> tuple[v2.Job, Headers, Rule]:
    """What SCHEDULE and UNSCHEDULE say after their message id: queue, headers, interval in seconds or -1, payload, cron
    expression or nothing.

    Raises:
        InvalidMessageError: They are not that.
    """
    if len(frames) < 4:
        raise InvalidMessageError(
            f"SCHEDULE has {len(frames)} frames after its id, expected queue, headers, interval, …"
        )
    job, headers = parse_request(message_id, [frames[0], frames[1], frames[3]])
    interval, cron = text(frames[2]).strip(), text(frames[4]).strip() if len(frames) > 4 else ""
    try:
        interval_s = max(0.0, float(interval or 0))
    except ValueError as error:
        raise InvalidMessageError(f"the interval is {interval[:40]!r}, expected seconds, or -1 for cron") from error
    return job, headers, Rule(interval_s, cron, nohaste=headers.nohaste, run_count=max(0, headers.run_count or 0))


def format_schedule(message_id: str, job: v2.Job, rule: Rule, begun: bool, left: int) -> list[bytes]:
    """The frames of a SCHEDULE to a 2020 scheduler.

    Args:
        message_id: Any.
        job: What runs.
        rule: When.
        begun: It has run before, so that it is not to run at once.
        left: Runs that are left; -1 = any number.

    Raises:
        InvalidMessageError: It is more than such a scheduler understands.
    """
    like_2020 = Rule(rule.interval_s, rule.cron, misfire=rule.misfire, grace_s=rule.grace_s, overdue=rule.overdue)
    plain = replace(rule, nohaste=False, run_count=0) == like_2020
    if not plain or rule.interval_s % 1 or (rule.cron and len(rule.cron.split()) != 5):
        raise InvalidMessageError(f"a 2020 scheduler cannot do this: {words(rule)}")
    run_count = left if left >= 0 else None
    headers = format_headers(Headers(guarantee=True, nohaste=rule.nohaste or begun, run_count=run_count))
    return encode(b"SCHEDULE", message_id, *_schedule_frames(job, rule, headers))


def format_unschedule(message_id: str, job: v2.Job, rule: Rule) -> list[bytes]:
    """The frames of an UNSCHEDULE to a 2020 scheduler.

    Raises:
        InvalidMessageError: The arguments have no form in JSON.
    """
    return encode(b"UNSCHEDULE", message_id, *_schedule_frames(job, rule, ""))


def _schedule_frames(job: v2.Job, rule: Rule, headers: str) -> list[str | bytes]:
    interval = "-1" if rule.cron else f"{rule.interval_s:.0f}"
    return [job.queue, headers, interval, format_call(job), rule.cron]


def parse_reply(frames: list[bytes]) -> tuple[str, Any]:
    """Job id and value from the frames of a manager's REPLY after its message id: JSON, original message id.

    Raises:
        InvalidMessageError: It is not a REPLY.
    """
    if len(frames) < 2:
        raise InvalidMessageError(f"REPLY has {len(frames)} frames after its id, expected value and original id")
    try:
        value = v2.decoded(_value_decoder, frames[0])
    except msgspec.MsgspecError:
        value = _python_json(frames[0])
    if isinstance(value, dict) and "value" in value:
        value = value["value"]
    return text(frames[1]), value


def _python_json(frame: bytes) -> Any:
    """What Python writes as JSON and nobody else does, which is what a 2020 manager sends: NaN, and then some."""
    try:
        return json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(f"the value of a REPLY is not JSON: {error}") from error


def format_value(value: Any) -> bytes:
    """The value frame of a REPLY. What JSON lacks is written as msgspec does: times as ISO text, bytes as base64."""
    try:
        return msgspec.json.encode({"value": value})
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({"value": _shown(value)})


def _shown(value: Any) -> str:
    try:
        return str(value)
    except RecursionError:
        return "(nested too deeply)"


def parse_queues(frame: str) -> list[tuple[int, str]]:
    """The queues frame of an INFORM: JSON `[[weight, name], …]`, or empty for the default queues.

    Raises:
        InvalidMessageError: It is neither.
    """
    if not frame:
        return []
    try:
        return v2.decoded(_queues_decoder, frame)
    except msgspec.MsgspecError as error:
        raise InvalidMessageError(f"queues are {frame[:80]!r}, expected JSON [[weight, name], …]") from error
