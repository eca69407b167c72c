"""The shape of the command line: verbs, flags, help, exit codes. What a verb does is in a module of its own.

`eventmq` is the umbrella; `emq-router`, `emq-jobmanager`, `emq-scheduler` and `emq-cli` are the names and flags of
0.3.13 for the same verbs. Nothing but click is imported here until a verb runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from eventmq import __version__
from eventmq.cli.ending import end
from eventmq.cli.flags import (
    Elsewhere,
    InOrder,
    asking,
    config,
    durability,
    jobs,
    listening,
    load,
    log_level,
    options,
    queues,
    store,
)

# ---- the processes -------------------------------------------------------------------------------------


@click.group(cls=InOrder)
@click.version_option(__version__, prog_name="eventmq", message="%(prog)s %(version)s")
def eventmq() -> None:
    """Background jobs for Python with nothing else to run.

    Settings come from flags, then EVENTMQ_<NAME> variables, then the settings file, then defaults.
    """


def _serve(component: str, config: str | None, **flags: Any) -> int:
    settings = load(component, config, **flags)
    from eventmq.cli.serve import run

    return run(component, settings)


@eventmq.command
@options(config, listening, store, durability, log_level)
def router(config: str | None, **flags: Any) -> int:
    """Run a Router: it keeps jobs and hands them to job managers.

    \b
    eventmq router
    eventmq router --store sqlite:////var/lib/eventmq/jobs.db --frontend-addr tcp://127.0.0.1:5000
    eventmq router -C /etc/eventmq.conf
    """
    return _serve("router", config, **flags)


@eventmq.command
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@options(
    config,
    click.option("-B", "--broker-addr", "worker_addr", metavar="ADDR", help="The Router's backend address."),
    queues,
    jobs,
    click.option("-n", "--name", metavar="NAME", help="Name of this job manager, for people."),
    log_level,
)
def jobmanager(config: str | None, modules: tuple[str, ...], **flags: Any) -> int:
    """Run a job manager: its workers import each MODULE and run jobs.

    \b
    eventmq jobmanager shop.tasks
    eventmq jobmanager shop.tasks shop.reports -Q email:15,default:10 -J 8
    eventmq jobmanager shop.tasks -B tcp://router.example:47290
    """
    return _serve("jobmanager", config, modules=",".join(modules) or None, **flags)


@eventmq.command
@options(
    config,
    click.option("-B", "--broker-addr", "scheduler_addr", metavar="ADDR", help="The Router's frontend address."),
    click.option("-n", "--name", metavar="NAME", help="Name of this scheduler, for people."),
    log_level,
)
def scheduler(config: str | None, **flags: Any) -> int:
    """Run a scheduler: it tells the Router what is due. Several take over from one another.

    \b
    eventmq scheduler
    """
    return _serve("scheduler", config, **flags)


@eventmq.command
@options(
    config,
    click.option("-a", "--addr", "administrative_addr", metavar="ADDR", help="The Router's administrative address."),
    click.option("--web-addr", metavar="ADDR", help="Where to listen for browsers. Default: 127.0.0.1:47296."),
    log_level,
)
def web(config: str | None, **flags: Any) -> int:
    """Run the dashboard: see and steer a Router in a browser. Needs the extra `dashboard`.

    \b
    eventmq web
    eventmq web -a tcp://router.example:47293 --web-addr 127.0.0.1:8080
    """
    return _serve("web", config, **flags)


@eventmq.command
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@options(
    config,
    queues,
    jobs,
    store,
    durability,
    listening,
    click.option("--free-ports", is_flag=True, help="Listen on free ports of this machine instead."),
    log_level,
)
def up(config: str | None, modules: tuple[str, ...], free_ports: bool, **flags: Any) -> int:
    """Run a Router, a job manager, a scheduler and the dashboard in this terminal.

    \b
    eventmq up shop.tasks
    eventmq up shop.tasks --free-ports --store memory:     beside another one
    """
    if free_ports and any(flag.endswith("_addr") and value for flag, value in flags.items()):
        raise click.UsageError("--free-ports and an address exclude each other")
    flags["modules"] = ",".join(modules) or None
    router, manager, web = (load(component, config, **flags) for component in ("router", "jobmanager", "web"))
    from eventmq.cli.system import up

    return up(router, manager, web, free_ports)


@eventmq.command
@click.option("-J", "--jobs", "workers", type=click.IntRange(1, 64), help="Worker processes. Default: one per core.")
def demo(workers: int | None) -> int:
    """Count Python's standard library with a system of its own.

    One job for each file; half-way one worker is killed. All must add up in the end.

    \b
    eventmq demo -J 4
    """
    from eventmq.cli.demo import demo

    return demo(workers)


# ---- questions -------------------------------------------------------------------------------------------


for _name, (_place, _help) in {
    "status": ("eventmq.cli.ask:status", "Show how the Router is: jobs, counts, store."),
    "top": ("eventmq.cli.top:top", "Watch the system live in the terminal."),
    "check": ("eventmq.cli.check:check", "Say in one sentence whether all is well, for monitoring."),
    "job": ("eventmq.cli.job:verbs", "List, show, requeue, purge and cancel jobs."),
    "queue": ("eventmq.cli.queue:verbs", "List, show, pause, resume, drain, purge and bound queues."),
    "manager": ("eventmq.cli.manager:verbs", "List, show and drain job managers."),
    "schedule": ("eventmq.cli.schedule:verbs", "List, add, remove, pause and run schedules."),
    "enqueue": ("eventmq.cli.enqueue:enqueue", "Hand in a job by the name of its function."),
    "result": ("eventmq.cli.enqueue:result", "Show what a job returned, or how it failed."),
    "why": ("eventmq.cli.job:why", "Say why a job is where it is."),
    "logs": ("eventmq.cli.follow:logs", "Show what a job has logged."),
    "events": ("eventmq.cli.follow:events", "Show what happens, as it happens."),
    "doctor": ("eventmq.cli.doctor:doctor", "Look for what is wrong with this system, and say what to do."),
    "metrics": ("eventmq.cli.check:metrics", "Print a Grafana dashboard, or alert rules for Prometheus."),
    "profile": ("eventmq.cli.top:profile", "Show where the Router's time goes."),
    "workers": ("eventmq.cli.manager:list_", "The same as `manager list`."),
    "queues": ("eventmq.cli.queue:list_", "The same as `queue list`."),
    "schedules": ("eventmq.cli.schedule:list_", "The same as `schedule list`."),
    "completion": ("eventmq.cli.completion:completion", "Print what lets a shell complete this command line."),
}.items():
    eventmq.add_command(Elsewhere(_name, _place, _help))


# ---- emq-cli -----------------------------------------------------------------------------------------------


@click.group(cls=InOrder, invoke_without_command=True)
@click.version_option(__version__, prog_name="emq-cli", message="%(prog)s %(version)s")
@asking
@click.pass_context
def cli(context: click.Context, /, **flags: Any) -> int:
    """Ask and command a running Router: with a verb, or without one as a shell."""
    given = {name: value for name, value in flags.items() if value is not None}
    context.default_map = dict.fromkeys(cli.commands, given)  # flags stand before the verb, as ever
    if context.invoked_subcommand:
        return 0
    settings = load("admin", flags["config"], administrative_addr=flags["addr"])
    from eventmq.cli.shell import run

    return run(settings.administrative_addr, flags["timeout"], cli.commands)


for _name, (_place, _help) in {
    "status": ("eventmq.cli.ask:status", "Show how the Router is."),
    "show_workers": ("eventmq.cli.shell:show_workers", "Show the job managers that are connected."),
    "show_schedulers": ("eventmq.cli.shell:show_schedulers", "Show the schedulers that are connected."),
    "queues": ("eventmq.cli.queue:list_", "Show the queues."),
    "shutdown": ("eventmq.cli.shell:shutdown", "Tell the Router to finish what is on its way, and end."),
}.items():
    cli.add_command(Elsewhere(_name, _place, _help))


# ---- entry points ------------------------------------------------------------------------------------------


def _program(name: str, command: click.Command) -> Callable[[], None]:
    """What a command of the system calls."""
    return lambda: sys.exit(end(name, command))


main = _program("eventmq", eventmq)
emq_router = _program("emq-router", router)
emq_jobmanager = _program("emq-jobmanager", jobmanager)
emq_scheduler = _program("emq-scheduler", scheduler)
emq_cli = _program("emq-cli", cli)
