"""The key of a call: calls of one job with the same key are to be one. Made from the arguments as the function gets
them, defaults and all, so that it does not matter how they were written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from eventmq.errors import InvalidJob
from eventmq.limits import UNIQUE_CHARS_MAX
from eventmq.protocol import v2
from eventmq.protocol.arguments import UNSENDABLE, is_method

Template = str | bool
"""Text with names of arguments, `"user:{user_id}"`; True: all arguments; False: no key."""

DIGEST_BYTES = 16
"""As many as a random id has: no two keys meet by chance."""


def check_template(template: str, fn: Callable[..., Any]) -> None:
    """Sees that a template names arguments of the function.

    Raises:
        InvalidJob: It does not, or is no template.
    """
    known = list(inspect.signature(fn).parameters)[is_method(fn) :]
    for name in _names(template):
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InvalidJob(f"{fn.__qualname__}(): unique is {template!r}, but there is no argument {name!r}; {has}")


def key_of_template(where: str, template: str, arguments: Mapping[str, Any]) -> str:
    """The key that a template gives.

    Args:
        where: What is called, for messages.
        template: The template.
        arguments: The arguments by name.

    Raises:
        InvalidJob: An argument is not there, or cannot be written so; or nothing is written.
    """
    try:
        key = Formatter().vformat(template, (), arguments)
    except (LookupError, AttributeError, ValueError, TypeError) as error:
        what = f"there is no argument {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidJob(f"{where}: unique is {template!r}, which cannot be filled in: {what}") from None
    if not key:
        raise InvalidJob(f"{where}: unique is {template!r}, which is empty for this call; put a text before it")
    if len(key) <= UNIQUE_CHARS_MAX:
        return key
    digest = _digest(key.encode(errors="surrogatepass"))
    return f"{key[: UNIQUE_CHARS_MAX - len(digest) - 1]}#{digest}"


def key_of_arguments(where: str, *parts: Sequence[Any] | Mapping[str, Any]) -> str:
    """The key of all arguments: equal ones give the same.

    Raises:
        InvalidJob: A default value is of a type that has no bytes.
    """
    try:
        return _digest(v2.pack_sorted(parts))
    except UNSENDABLE as error:
        raise InvalidJob(
            f"{where}: unique=True is about arguments that can be sent, give a template: {error}"
        ) from None


def _digest(data: bytes) -> str:
    import hashlib  # not for those who only import `@job`: it brings OpenSSL

    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def _names(template: str) -> list[str]:
    """The arguments that a template names: of `{order.customer[0]:>8}` it is `order`."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise InvalidJob(f"unique is {template!r}, which is no template such as 'user:{{user_id}}': {error}") from None
    return [re.split(r"[.\[]", field, maxsplit=1)[0] for field in fields]
