"""What a job calls, in both versions' words.

eMQP/2.0 names it with one text, `package.module.function` or `package.module:Class.method`, and carries the arguments
as msgpack. eMQP/1.0 has a JSON payload `["run", {"path", "callable", "args", …}]`. The Router translates where a job
crosses from one version to the other; nobody else needs to know. Source: `docs/protocol.md`, sections 2.3 and 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from eventmq.limits import SEARCH_BYTES
from eventmq.protocol import v2


class Call(NamedTuple):
    """Arguments of one call. The class ones are for a method: its instance is made from them first."""

    args: list[Any]
    kwargs: dict[str, Any]
    class_args: list[Any] = []
    class_kwargs: dict[str, Any] = {}


_call_decoder = msgspec.msgpack.Decoder(Call)


def pack_call(
    args: Any, kwargs: dict[str, Any], class_args: Any = (), class_kwargs: dict[str, Any] | None = None
) -> bytes:
    """The payload of a job.

    Raises:
        TypeError: An argument is of a type that msgpack cannot carry.
    """
    if class_args or class_kwargs:
        return v2.pack((args, kwargs, class_args, class_kwargs or {}))
    return v2.pack((args, kwargs))


def unpack_call(payload: bytes) -> Call:
    """The arguments in a job's payload, as plain objects.

    Raises:
        msgspec.MsgspecError: Not a payload.
    """
    return v2.decoded(_call_decoder, payload)


def has_arguments(payload: bytes, wanted: Iterable[tuple[str, str]]) -> bool:
    """Whether a job's arguments have these texts at these paths: `user.id` is in the keyword `user`, `0.id` in the
    first position. A text is compared as it is, anything else as its JSON. What is no payload, or one of more than
    `SEARCH_BYTES`, has none of them."""
    if len(payload) > SEARCH_BYTES:
        return False
    try:
        call = unpack_call(payload)
        return all(_text_at(call, path) == text for path, text in wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        return False


def _text_at(call: Call, path: str) -> str | None:
    first, *steps = path.split(".")
    value: Any = call.args if first.isdecimal() else call.kwargs
    for step in (first, *steps):
        if isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return None
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=repr)
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()


def call_key(name: str, payload: bytes) -> str:
    """What is called, as one word: a schedule without a name has it as its id. Equal calls have the same, whatever
    version of the protocol they came by.

    Raises:
        msgspec.MsgspecError: Not a payload.
    """
    from hashlib import blake2b  # not for those who only import `@job`: it brings OpenSSL

    return blake2b(v2.pack_sorted((name, *unpack_call(payload))), digest_size=16).hexdigest()


def type_name(kind: type) -> str:
    """The qualified name of an exception's class, as a `Failure` has it and as `retry_on` names it. What users import
    from `eventmq` has that name, wherever it is defined."""
    module = "eventmq" if kind.__module__.startswith("eventmq.") else kind.__module__
    return f"{module}.{kind.__qualname__}"


def split_name(name: str) -> tuple[str, str]:
    """`path` and `callable` as eMQP/1.0 has them: `a.b.f` → `a.b`, `f`; `a.b:C.m` → `a.b:C`, `m`."""
    path, _, function = name.rpartition(".")
    return path, function


def join_name(path: str, function: str) -> str:
    """The inverse of `split_name`."""
    return f"{path}.{function}"
