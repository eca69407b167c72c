"""From the name of a job to what is called, and whether it may be.

The wire names jobs; it does not choose code. A callable runs only if the object found under its name is a `Job`
(what the `@job` decorator makes) and its function was defined in the module that the name gives, so an imported
decorated function has one name and an undecorated one has none. Imports happen here, nothing is called here.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eventmq.client.jobs import Job
from eventmq.protocol.arguments import Signature


class JobLookupError(Exception):
    """A name cannot be run here. `type` is the failure's type on the wire."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


class Target(NamedTuple):
    """What a job's name stands for.

    Attributes:
        function: Called with the arguments, after the instance if `owner` is set.
        owner: The class whose instance is made first.
        signature: How to convert the arguments; None = pass them on as they came.
    """

    function: Callable[..., Any]
    owner: type | None = None
    signature: Signature | None = None


class Resolver:
    """Finds targets, each once."""

    def __init__(self, modules: Sequence[str] = (), allow_any_callable: bool = False) -> None:
        self._modules = tuple(modules)
        self._allow_any_callable = allow_any_callable
        self.known: dict[str, Target] = {}

    def find(self, name: str) -> Target:
        """The target of a name, from now on also in `known`.

        Raises:
            JobLookupError: There is none, or it may not be run. Not remembered: the module may change its mind.
            Exception: Whatever importing the module raised.
        """
        path, _, function = name.rpartition(".")
        module_name, _, class_name = path.partition(":")
        if not module_name or not function:
            raise JobLookupError("eventmq.UnknownJob", f"{name!r} is not module.function or module:Class.method")
        module = self._import(module_name)
        owner = self._attribute(module, class_name, name) if class_name else None
        if owner is not None and not isinstance(owner, type):
            raise JobLookupError("eventmq.UnknownJob", f"{class_name} in {module_name} is not a class")
        found = inspect.getattr_static(owner, function, None) if owner else vars(module).get(function)
        if found is None:
            raise _missing(name, f"{path} has no attribute {function!r}")
        target = self.known[name] = self._checked(found, name, module_name, owner)
        return target

    def _import(self, module_name: str) -> types.ModuleType:
        if self._modules and not any(
            module_name == allowed or module_name.startswith(allowed + ".") for allowed in self._modules
        ):
            raise JobLookupError(
                "eventmq.UnknownJob",
                f"module {module_name!r} is not among this job manager's modules ({', '.join(self._modules)}); "
                f"start it with that module as well, or send the job to a queue of one that has it",
            )
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name + ".").startswith(error.name + "."):
                raise _missing(module_name, f"there is no module {error.name!r} where the worker runs") from error
            raise

    def _attribute(self, module: types.ModuleType, attribute: str, name: str) -> Any:
        try:
            return getattr(module, attribute)
        except AttributeError:
            raise _missing(name, f"module {module.__name__} has no attribute {attribute!r}") from None

    def _checked(self, found: Any, name: str, module_name: str, owner: type | None) -> Target:
        if isinstance(found, Job):
            home = getattr(found.fn, "__module__", None)
            if home == module_name or found.name == name or self._allow_any_callable:
                return Target(found.fn, owner, found.signature)
            raise JobLookupError(
                "eventmq.NotAJob", f"{name} is only imported into {module_name}; the job's own name is {found.name}"
            )
        if not self._allow_any_callable:
            raise JobLookupError(
                "eventmq.NotAJob",
                f"{name} does not carry the @job mark, so it is not run; put @job above it, "
                f"or set allow_any_callable to run anything as 0.3.13 did",
            )
        if not callable(found):
            raise JobLookupError("eventmq.NotAJob", f"{name} is a {type(found).__name__}, which cannot be called")
        return Target(found, owner, _signature_of(found))


def load_function(path: str) -> Callable[..., Any]:
    """The function that a setting names as `module.function`.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such function.
    """
    module_name, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    return function


def _signature_of(function: Callable[..., Any]) -> Signature | None:
    """How to convert the arguments; None for a callable that does not tell, as some written in C."""
    try:
        return Signature(function)
    except (ValueError, AttributeError):
        return None


def _missing(name: str, what: str) -> JobLookupError:
    return JobLookupError(
        "eventmq.UnknownJob", f"{name}: {what}; workers need the same code and Python path as whoever enqueued it"
    )
