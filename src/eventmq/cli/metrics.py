"""The verb `eventmq metrics`: what comes with the metrics, as files to give to others."""

from __future__ import annotations

from importlib.resources import files

import click

from eventmq.cli.flags import HELP

FILES = {"dashboard": "dashboard.json", "rules": "rules.yaml"}


@click.command("metrics", **HELP)
@click.argument("what", type=click.Choice(tuple(FILES)))
def metrics(what: str) -> None:
    """Print a dashboard for Grafana, to be imported there, or alert rules for Prometheus.

    \b
    eventmq metrics dashboard
    eventmq metrics rules
    """
    click.echo(files("eventmq.monitoring").joinpath("data", FILES[what]).read_text(), nl=False)
