"""`emq-cli` without a verb: a shell over the administrative socket, with the words of 0.3.13."""

from __future__ import annotations

import cmd
from collections.abc import Mapping

from eventmq.cli import ask
from eventmq.cli.ending import OK
from eventmq.errors import EventMQError
from eventmq.net import address


class Shell(cmd.Cmd):
    """One line, one command. Errors are sentences; the shell goes on."""

    intro = "EventMQ. Type help for the commands, quit to leave."

    def __init__(self, administrative_addr: str, timeout_s: float, verbs: Mapping[str, str]) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._verbs = verbs
        self._first_address = administrative_addr
        self._address: str | None = administrative_addr
        self._prompt()

    def _prompt(self) -> None:
        self.prompt = f"{self._address or 'not connected'}> "

    def _ask(self, what: str) -> None:
        if self._address is None:
            print("Not connected. Type connect, or connect ADDRESS.")
            return
        try:
            ask.answer(what, self._address, self._timeout_s)
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
        print("\n".join([*own, *(f"{verb}: {help}" for verb, help in self._verbs.items())]))

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
        verb = line.split()[0]
        if verb in self._verbs:
            self._ask(verb.removeprefix("show_"))
        else:
            print(f"There is no command {verb}. help lists them.")


def run(administrative_addr: str, timeout_s: float, verbs: Mapping[str, str]) -> int:
    """Reads commands from stdin until it ends or the user leaves."""
    Shell(address.reachable(administrative_addr), timeout_s, verbs).cmdloop()
    return OK
