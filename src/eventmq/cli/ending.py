"""How a command ends: an exit code that scripts can trust, and one clear sentence on stderr instead of a traceback.

Only errors that EventMQ raises on purpose are sentences. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import sys

import click

from eventmq.errors import BrokerUnavailable, EventMQError

OK, FAILED, USAGE, UNREACHABLE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 69, 75, 130

EXIT_CODES = {
    OK: "done",
    FAILED: "failed",
    USAGE: "wrong usage or settings",
    UNREACHABLE: "no Router there",
    TIMED_OUT: "timed out",
    INTERRUPTED: "interrupted",
}
"""69 and 75 are EX_UNAVAILABLE and EX_TEMPFAIL of sysexits.h."""


class Mistake(click.ClickException):
    """Settings are wrong: as much a mistake of usage as a wrong flag, but its sentence says it all."""

    exit_code = USAGE


def end(name: str, command: click.Command, arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code; errors that users can mend are told in a sentence."""
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        return _say(name, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokerUnavailable as error:
        return _say(name, error, UNREACHABLE)
    except TimeoutError as error:
        return _say(name, error, TIMED_OUT)
    except EventMQError as error:
        return _say(name, error, FAILED)
    return code if isinstance(code, int) else OK


def _say(name: str, error: object, code: int) -> int:
    print(f"{name}: {error}", file=sys.stderr)
    return code
