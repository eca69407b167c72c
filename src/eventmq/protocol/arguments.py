"""A function's annotations as the schema of its jobs' arguments. The only place that knows it.

The client checks with it what it is about to send, the worker converts with it what has arrived, and because both
ask the same object in the same way, what the client let pass fits in the worker.

Rules. A value of a type that msgpack carries unchanged and that the annotation allows (`int`, `str`, `float`, `bool`,
`bytes`, `None`) passes at the cost of one look-up. Any other goes through `msgspec.convert(…, strict=False)`:
dataclasses, structs, datetime, UUID, Decimal, Enum, containers of them. An annotation that msgspec cannot judge (a
class of one's own, a name that does not exist at run time) admits everything; the value arrives as msgpack brings it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from types import NoneType, SimpleNamespace, UnionType
from typing import Any

import msgspec

from eventmq.errors import InvalidJob
from eventmq.protocol import v2

UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgpack raises for a value that it cannot carry: a type, a lone surrogate, a number over 64 bits, a cycle."""

_UNCHANGED: dict[Any, tuple[type, ...]] = {
    int: (int, bool),
    str: (str,),
    float: (float,),
    bool: (bool,),
    bytes: (bytes,),
    None: (NoneType,),
    NoneType: (NoneType,),
}

TYPES_MAX = 100
"""Combinations of argument types remembered for one function."""


class Slot:
    """What one parameter, or the returned value, may be.

    Attributes:
        name: For messages: `argument 'width'`.
        unchanged: Types whose values pass as they are.
    """

    __slots__ = ("name", "type", "unchanged")

    def __init__(self, name: str, annotation: Any) -> None:
        self.name = name
        self.type = annotation
        is_union = isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union
        members = typing.get_args(annotation) if is_union else (annotation,)
        self.unchanged = frozenset(t for member in members for t in _unchanged(member))

    def convert(self, value: Any) -> Any:
        """The value, brought by msgpack, as the annotation wants it.

        Raises:
            InvalidJob: It does not fit.
        """
        if type(value) in self.unchanged:
            return value
        try:
            return msgspec.convert(value, self.type, strict=False)
        except msgspec.ValidationError as error:
            text = str(error).replace("`", "")
            raise InvalidJob(f"{self.name}: {text[:1].lower()}{text[1:]}") from None

    def check(self, value: Any) -> None:
        """Sees that a value will fit after its way through msgpack.

        Raises:
            InvalidJob: It cannot be sent, or does not fit.
        """
        if type(value) not in self.unchanged:
            self.convert(v2.unpack(encoded(self.name, value)))


class Signature:
    """How one function is called.

    Args:
        fn: The function. Of a method, which its qualified name tells, the first parameter (`self`) is left out.

    Attributes:
        names: The parameters that can be given by position.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._name = fn.__qualname__
        parameters = list(inspect.signature(fn).parameters.values())[is_method(fn) :]
        self._signature = inspect.Signature(parameters)
        slots = {p.name: _slot(fn, p.name, f"argument {p.name!r}", p.default) for p in parameters}
        self.names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._positional = [slots[name] for name in self.names]
        self._named = {p.name: slots[p.name] for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        stars = {p.kind: slots[p.name] for p in parameters}
        self._rest = stars.get(inspect.Parameter.VAR_POSITIONAL)
        self._others = stars.get(inspect.Parameter.VAR_KEYWORD)
        self._unchanged: set[tuple[type, ...]] = set()
        self._returned = _slot(fn, "return", "the returned value")

    def check(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Sees that the function can be called so, and that each value will fit after its way through msgpack.

        Raises:
            InvalidJob: A `TypeError`; the message names the function and the argument.
        """
        types = tuple(map(type, args))
        if not kwargs and types in self._unchanged:
            return
        self._bind(args, kwargs)
        try:
            for value, slot in self._pairs(args, kwargs):
                if slot is not None:
                    slot.check(value)
        except InvalidJob as error:
            raise InvalidJob(f"{self._name}(): {error}") from None
        self._remember(types, kwargs)

    def convert(self, args: Iterable[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments that msgpack brought, as the annotations want them.

        Raises:
            InvalidJob: They do not fit, as when the client has another version of the function.
        """
        args = list(args)
        types = tuple(map(type, args))
        if not kwargs and types in self._unchanged:
            return args, kwargs
        self._bind(args, kwargs)
        self._remember(types, kwargs)
        try:
            converted = [slot.convert(value) if slot else value for value, slot in self._pairs(args, kwargs)]
        except InvalidJob as error:
            raise InvalidJob(f"{self._name}(): {error}") from None
        if not kwargs:
            return converted, kwargs
        return converted[: len(args)], dict(zip(kwargs, converted[len(args) :], strict=True))

    def bound(self, args: Sequence[Any], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, with the defaults of those that are not given.

        Raises:
            InvalidJob: The function cannot be called so.
        """
        bound = self._bind(args, kwargs)
        bound.apply_defaults()
        return bound

    def returned(self, value: Any) -> Any:
        """The returned value that msgpack brought, as the annotation wants it.

        A value that does not fit comes as it is: the job has succeeded, and this is what it gave.
        """
        if self._returned is None:
            return value
        try:
            return self._returned.convert(value)
        except InvalidJob:
            return value

    def _remember(self, types: tuple[type, ...], kwargs: dict[str, Any]) -> None:
        """Types of positional arguments that bind and pass as they are; most functions are called in very few ways."""
        if kwargs or len(self._unchanged) >= TYPES_MAX:
            return
        if all(slot is None or kind in slot.unchanged for kind, slot in self._pairs(types, {})):
            self._unchanged.add(types)

    def _bind(self, args: Iterable[Any], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidJob(f"{self._name}(): {error}") from None

    def _pairs(self, args: Any, kwargs: dict[str, Any]) -> Iterable[tuple[Any, Slot | None]]:
        """Each value with its slot: positional ones in order, then the named ones."""
        if not kwargs and len(args) <= len(self._positional):
            return zip(args, self._positional, strict=False)
        slots = self._positional + [self._rest] * (len(args) - len(self._positional))
        pairs = list(zip(args, slots, strict=False))
        return pairs + [(value, self._named.get(key, self._others)) for key, value in kwargs.items()]


def is_method(fn: Callable[..., Any]) -> bool:
    """Whether the function was written in a class."""
    head, _, _ = fn.__qualname__.rpartition(".")
    return bool(head) and not head.endswith("<locals>")


def encoded(name: str, value: Any) -> bytes:
    """The value as msgpack.

    Raises:
        InvalidJob: msgpack cannot carry it.
    """
    try:
        return v2.pack(value)
    except UNSENDABLE as error:
        raise InvalidJob(f"{name} ({type(value).__qualname__}) cannot be sent: {error}") from None


def find_unsendable(args: Iterable[Any], kwargs: dict[str, Any], names: Sequence[str] = ()) -> None:
    """Says which argument msgpack cannot carry, by its name, or by its number beyond `names`.

    Raises:
        InvalidJob: There is one.
    """
    for index, value in enumerate(args):
        encoded(f"argument {names[index]!r}" if index < len(names) else f"argument {index + 1}", value)
    for key, value in kwargs.items():
        encoded(f"argument {key!r}", value)


def _unchanged(annotation: Any) -> tuple[type, ...]:
    return _UNCHANGED.get(annotation, ()) if annotation is None or isinstance(annotation, type) else ()


def _slot(fn: Callable[..., Any], name: str, title: str, default: Any = inspect.Parameter.empty) -> Slot | None:
    """The slot of one annotation of `fn`; None where nothing can be judged."""
    holder = SimpleNamespace(__annotations__={k: v for k, v in inspect.get_annotations(fn).items() if k == name})
    scope = getattr(inspect.unwrap(fn), "__globals__", {})
    try:
        annotation = typing.get_type_hints(holder, scope, include_extras=True).get(name, Any)
        if default is None:
            annotation = annotation | None
        judged = _judges(msgspec.inspect.type_info(annotation))
    except (NameError, AttributeError, SyntaxError, TypeError):
        return None
    return Slot(title, annotation) if judged else None


def _judges(info: msgspec.inspect.Type) -> bool:
    """Whether msgspec can tell what fits: something is said, and no part of it is a class unknown to msgspec."""
    if isinstance(info, msgspec.inspect.AnyType):
        return False
    seen: list[Any] = [info]
    for part in seen:
        if isinstance(part, msgspec.inspect.CustomType):
            return False
        for field in getattr(part, "__struct_fields__", ()):
            value = getattr(part, field)
            inner = value if isinstance(value, tuple) else (value,)
            seen += [t for t in inner if isinstance(t, msgspec.Struct) and not any(t is s for s in seen)]
    return True
