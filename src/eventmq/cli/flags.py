"""Flags that several verbs have, and what becomes of them. Nothing but click is imported here until a verb runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventmq.cli.ending import EXIT_CODES, Mistake

if TYPE_CHECKING:
    from eventmq.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

OTHER_NAMES = {"get": "show", "retry": "requeue", "delete": "purge", "run-now": "run"}
"""Verbs that people know from elsewhere, or from an earlier release."""


class Verb(click.Command):
    """Has what every verb has: `-h`, and the exit codes below its help."""

    def __init__(self, *args: Any, **given: Any) -> None:
        codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        context = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(*args, **{"context_settings": context, "epilog": f"Exit codes: {codes}."} | given)


def verb(call: Callable[..., Any]) -> Verb:
    """Makes a verb that is in no group."""
    return click.command(cls=Verb)(call)  # a decorator for each: click keeps what it was told, the help, too


class InOrder(Verb, click.Group):
    """A group of verbs, which lists them in the order in which a user meets them."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, OTHER_NAMES.get(cmd_name, cmd_name))


class Elsewhere(click.Command):
    """A verb, or a group of them, of a module that is not imported before it is wanted.

    Args:
        place: `module:name`.
        help: What it does, in one sentence.
    """

    def __init__(self, name: str, place: str, help: str) -> None:
        super().__init__(name, help=help)
        self._place = place

    @property
    def real(self) -> click.Command:
        """The verb itself."""
        module, _, name = self._place.partition(":")
        real: click.Command = getattr(import_module(module), name)
        real.help = real.help or self.help
        return real

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """The context of the verb itself; click goes on with that one."""
        return self.real.make_context(*args, **extra)


def options(*several: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in the order given."""

    def decorate(command: F) -> F:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


config = click.option("-C", "--config", metavar="FILE", help="Settings file (INI). Default: $EVENTMQ_CONFIG_FILE.")
queues = click.option("-Q", "--queues", metavar="LIST", help="Queues to serve: email:15,default:10.")
jobs = click.option("-J", "--jobs", "concurrent_jobs", metavar="N", help="Worker processes. Default: one per core.")
log_level = click.option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR.")
store = click.option("--store", metavar="URL", help="Where jobs are kept: sqlite:///path or memory:.")
durability = click.option("--durability", metavar="HOW", help="full, process or none.")
timeout = click.option("--timeout", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds to wait.")
listening = options(
    click.option("--frontend-addr", metavar="ADDR", help="Where to listen for clients and schedulers."),
    click.option("--backend-addr", metavar="ADDR", help="Where to listen for job managers."),
    click.option("--administrative-addr", metavar="ADDR", help="Where to listen for emq-cli."),
    click.option("--allow-insecure-bind", is_flag=True, help="Listen where other machines can reach it."),
)
asking = options(
    config,
    click.option("-a", "--addr", metavar="ADDR", help="The Router's administrative address."),
    timeout,
)


frontend = click.option(
    "-B", "--broker-addr", "scheduler_addr", metavar="ADDR", help="The Router's frontend address. Default: as clients."
)
output = options(
    click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(("table", "json", "jsonl", "id")),
        default="table",
        help="What to print. Default: a table.",
    ),
    click.option("--json", "form", flag_value="json", help="The same as -o json."),
)
watch = click.option(
    "--watch",
    is_flag=False,
    flag_value=2.0,
    type=click.FloatRange(0.1),
    metavar="[S]",
    help="Again every S seconds.",
)


def load(component: str, config: str | None, **flags: Any) -> Settings:
    """Settings from a verb's flags. A mistake in them is one of usage."""
    from eventmq import settings
    from eventmq.errors import SettingsError

    given = {name: "true" if flag is True else flag for name, flag in flags.items() if flag is not False}
    try:
        return settings.load(component, given, path=config)
    except SettingsError as error:
        raise Mistake(str(error)) from None
