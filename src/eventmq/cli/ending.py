"""How a command ends: an exit code that scripts can trust, and one clear sentence on stderr instead of a traceback.

Only errors that EventMQ raises on purpose are sentences. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from click.shell_completion import shell_complete

from eventmq import errors

OK, FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 69, 75, 130

EXIT_CODES = {
    OK: "done",
    FAILED: "failed",
    USAGE: "wrong usage or settings",
    NOT_FOUND: "not found",
    REFUSED: "refused",
    UNREACHABLE: "no Router there",
    TIMED_OUT: "timed out",
    INTERRUPTED: "interrupted",
}
"""69 and 75 are EX_UNAVAILABLE and EX_TEMPFAIL of sysexits.h, 130 is what a shell says of SIGINT."""

ERRORS: dict[type[Exception], int] = {
    errors.BrokerUnavailable: UNREACHABLE,
    TimeoutError: TIMED_OUT,
    errors.NotFound: NOT_FOUND,
    errors.JobNotFound: NOT_FOUND,
    errors.InvalidJob: USAGE,
    errors.QuestionRefused: REFUSED,
    errors.JobRefused: REFUSED,
    errors.QueueFull: REFUSED,
    errors.DuplicateJob: REFUSED,
    errors.EventMQError: FAILED,
}
"""The exit code of each error that is told in a sentence; the first that fits counts."""


class Mistake(click.ClickException):
    """Settings are wrong: as much a mistake of usage as a wrong flag, but its sentence says it all."""

    exit_code = USAGE


def end(name: str, command: click.Command, arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code; errors that users can mend are told in a sentence."""
    try:
        code = _run(name, command, sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        return OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        return _say(name, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt, EOFError):
        return INTERRUPTED
    except (errors.EventMQError, TimeoutError) as error:
        return _say(name, error, next(code for kind, code in ERRORS.items() if isinstance(error, kind)))
    return code if isinstance(code, int) else OK


def _run(name: str, command: click.Command, arguments: list[str]) -> Any:
    """What `command.main` does, but that one ends with 1 when nobody reads any more."""
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    if instruction := os.environ.get(variable):
        return shell_complete(command, {}, name, variable, instruction)
    with command.make_context(name, list(arguments)) as context:
        return command.invoke(context)


def _say(name: str, error: object, code: int) -> int:
    print(f"{name}: {error}", file=sys.stderr)
    return code
