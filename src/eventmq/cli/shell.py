"""`emq-cli`: the verbs that it alone has, and without a verb a shell, both with the words of 0.3.13."""

from __future__ import annotations

import cmd
from collections.abc import Mapping

import click

from eventmq.cli import manager
from eventmq.cli.ask import asks
from eventmq.cli.ending import OK
from eventmq.cli.flags import verb
from eventmq.cli.tables import Table, Told
from eventmq.client.admin import Admin
from eventmq.errors import EventMQError
from eventmq.net import address


@verb
@asks
def show_workers(admin: Admin) -> Told:
    """Show the job managers that are connected."""
    told = admin.ask("WORKERS")
    return Told(told, manager.table(told["connected_workers"].values()))


@verb
@asks
def show_schedulers(admin: Admin) -> Told:
    """Show the schedulers that are connected."""
    told = admin.ask("SCHEDULERS")
    columns = ("name", "wire", "schedules")
    rows = [(id, *(each[column] for column in columns)) for id, each in told["connected_schedulers"].items()]
    return Told(told, Table("Schedulers", ("scheduler", *columns), rows))


@verb
@asks
def shutdown(admin: Admin) -> Told:
    """Tell the Router to finish what is on its way, and end."""
    return Told(admin.ask("DISCONNECT"), text="The Router finishes what is on its way, and ends.")


class Shell(cmd.Cmd):
    """One line, one command. Errors are sentences; the shell goes on."""

    intro = "EventMQ. Type help for the commands, quit to leave."

    def __init__(self, administrative_addr: str, timeout_s: float, verbs: Mapping[str, click.Command]) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._verbs = verbs
        self._first_address = administrative_addr
        self._address: str | None = administrative_addr
        self._prompt()

    def _prompt(self) -> None:
        self.prompt = f"{self._address or 'not connected'}> "

    def _ask(self, name: str) -> None:
        if self._address is None:
            print("Not connected. Type connect, or connect ADDRESS.")
            return
        try:
            flags = ["--addr", self._address, "--timeout", str(self._timeout_s)]
            with self._verbs[name].make_context(name, flags) as context:
                context.command.invoke(context)
        except (EventMQError, TimeoutError) as error:
            print(error)

    def do_connect(self, line: str) -> None:
        """connect [ADDRESS]: talk to the Router with this administrative address, or to the first one again."""
        try:
            self._address = str(address.parse_connect(line or self._first_address))
        except ValueError as error:
            print(f"connect expects {error}, not {line!r}")
        self._prompt()

    def do_disconnect(self, line: str) -> None:
        """disconnect: talk to no Router any more. The Router runs on."""
        self._address = None
        self._prompt()

    def do_help(self, arg: str) -> None:
        """help: this list."""
        own = [getattr(self, f"do_{name}").__doc__ for name in ("connect", "disconnect", "quit")]
        print("\n".join([*own, *(f"{name}: {command.help}" for name, command in self._verbs.items())]))

    def do_quit(self, line: str) -> bool:
        """quit: leave the shell."""
        return True

    do_exit = do_quit

    def do_EOF(self, line: str) -> bool:
        """Ctrl-D: leave the shell."""
        print()
        return True

    def emptyline(self) -> bool:
        """An empty line does nothing; `cmd` would repeat the last command, which may have been shutdown."""
        return False

    def default(self, line: str) -> None:
        """A question to the Router, or a command that there is not."""
        name = line.split()[0]
        if name in self._verbs:
            self._ask(name)
        else:
            print(f"There is no command {name}. help lists them.")


def run(administrative_addr: str, timeout_s: float, verbs: Mapping[str, click.Command]) -> int:
    """Reads commands from stdin until it ends or the user leaves."""
    Shell(address.reachable(administrative_addr), timeout_s, verbs).cmdloop()
    return OK
