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

HELP: dict[str, Any] = {
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
    "epilog": "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
}
"""What every verb has."""


class InOrder(click.Group):
    """Lists its verbs in the order in which a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Elsewhere(click.Group):
    """A group whose verbs are the `verbs` of a module, which is not imported before one of them is wanted."""

    def __init__(self, name: str, module: str, help: str) -> None:
        super().__init__(name, help=help, **HELP)
        self._module = module

    @property
    def _verbs(self) -> click.Group:
        verbs: click.Group = import_module(self._module).verbs
        return verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._verbs.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._verbs.get_command(ctx, cmd_name)


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
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
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


def load(component: str, config: str | None, **flags: Any) -> Settings:
    """Settings from a verb's flags. A mistake in them is one of usage."""
    from eventmq import settings
    from eventmq.errors import SettingsError

    given = {name: "true" if flag is True else flag for name, flag in flags.items() if flag is not False}
    try:
        return settings.load(component, given, path=config)
    except SettingsError as error:
        raise Mistake(str(error)) from None
