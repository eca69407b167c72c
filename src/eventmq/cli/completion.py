"""What a shell completes: words of the command line, and names that the Router knows. Silent when it is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import get_completion_class

from eventmq.cli.ending import OK
from eventmq.cli.flags import verb
from eventmq.errors import EventMQError

ASK_S = 0.5
"""Nobody waits longer for a list of names."""

Question = Callable[[Any], Iterable[str]]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


@verb
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> int:
    """Print what lets a shell complete this command line, states, and the names of queues, managers and schedules.

    \b
    eventmq completion bash                         for bash: >> ~/.bashrc
    eventmq completion zsh                          for zsh: >> ~/.zshrc
    eventmq completion fish                         for fish: > ~/.config/fish/completions/eventmq.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(click.Group(), {}, "eventmq", "_EVENTMQ_COMPLETE").source())
    return OK


def names(question: Question) -> Completer:
    """Completes a name out of those that the Router knows."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in sorted(_ask(context, question)) if name.startswith(incomplete)]
        except (EventMQError, TimeoutError, click.ClickException):
            return []

    return complete


def _ask(context: click.Context, question: Question) -> Iterable[str]:
    from eventmq.cli.ask import router

    with router(context.params.get("config"), context.params.get("addr"), ASK_S) as admin:
        return list(question(admin))


def words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes a word of the query language: its field, and behind that states and names. For bash a colon is a word
    of its own."""
    from eventmq.client.query import WORDS

    before = ["", "", *(context.params.get("words") or ())]
    if incomplete == ":":
        return [f":{each}" for each in _values(context, parameter, before[-1], "")]
    if before[-1] == ":":
        return _values(context, parameter, before[-2], incomplete)
    field, colon, value = incomplete.partition(":")
    if colon:
        return [f"{field}:{each}" for each in _values(context, parameter, field, value)]
    return [f"{each}:" for each in WORDS if each.startswith(field) and not each.endswith(".")]


def _values(context: click.Context, parameter: click.Parameter, field: str, value: str) -> list[str]:
    known = OF_WORDS.get(field)
    *before, last = value.split(",")
    return [",".join([*before, each]) for each in (known(context, parameter, last) if known else ())]


def _states(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from eventmq.protocol.administration import STATES

    return [state for state in STATES if state.startswith(incomplete)]


queues = names(lambda admin: admin.queues())
managers = names(lambda admin: [each["name"] for each in admin.managers()])
schedules = names(lambda admin: [each["id"] for each in admin.schedules()])

OF_WORDS: dict[str, Completer] = {"state": _states, "queue": queues, "worker": managers}
"""Words of the query language, by what completes them."""
