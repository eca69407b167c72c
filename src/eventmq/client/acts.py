"""What operators do to many jobs, on the command line and in the dashboard: the words for it, and to which jobs."""

from __future__ import annotations

from typing import NamedTuple

from eventmq.protocol.administration import STATES


class Kind(NamedTuple):
    """Something that is done to many jobs.

    Attributes:
        verb: As in `Requeue 12 jobs?`.
        done: As in `requeued 12 jobs`; in the Router's answers the key of the number.
        states: To jobs in these states.
        usual: To jobs in these, if nobody says in which, nor which jobs.
        role: By whom at least, in the dashboard.
    """

    verb: str
    done: str
    states: tuple[str, ...]
    usual: tuple[str, ...]
    role: str


KINDS = {
    "requeue": Kind("Requeue", "requeued", ("dead", "lost", "expired"), ("dead",), "operator"),
    "cancel": Kind("Cancel", "cancelled", STATES[:3], ("waiting", "delayed"), "operator"),
    "purge": Kind("Forget", "purged", STATES[3:], ("dead",), "admin"),
}
"""By the method of `Admin` that does it, which is the Router's command, too."""
