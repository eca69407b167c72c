"""The job that workers of 2020 run, counted as every system's is. Both releases can import it."""

from counting import from_environment

from eventmq.client.jobs import job

COUNTS = from_environment()


@job
def noop():  # type: ignore[no-untyped-def]
    COUNTS.ran()
