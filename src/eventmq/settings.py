"""Every setting: its name, form, default, where it may stand, what it does; and how its value is found.

    flag  >  environment EVENTMQ_<NAME>  >  INI file (-C or EVENTMQ_CONFIG_FILE)  >  default

The class `Settings` is the table: one field per setting. A process loads its settings once, from arguments
(flags, environment, path), and passes them on. What is unknown is an error that names the place and the
nearest known name; nothing is ignored in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from eventmq import inifile, limits, machine, values
from eventmq.errors import SettingsError
from eventmq.net import address

COMPONENTS = {
    "router": ("global", "router"),
    "jobmanager": ("global", "jobmanager"),
    "scheduler": ("global", "scheduler"),
    "client": ("global",),
    "admin": ("global", "router"),
    "web": ("global", "router", "web"),
}
"""Who loads settings, and the sections it reads, the later one winning. `admin` and `web` seek where Router binds."""

LISTENING = {
    "router": ("frontend_addr", "backend_addr", "administrative_addr", "http_addr"),
    "jobmanager": ("health_addr",),
    "web": ("web_addr",),
}
"""The settings that say where who listens."""

SECTIONS = ("global", "router", "jobmanager", "scheduler", "web")

SECTION_OF_2020 = "publisher"
"""Files of 0.3.13 have this section. It is accepted and noted; nothing here reads it."""

PREFIX = "EVENTMQ_"
CONFIG_FILE = "EVENTMQ_CONFIG_FILE"
ALIASES = {"broker_addr": "EMQ_BROKER_ADDR"}
"""Variables of 0.3.13 outside the prefix."""


HIDDEN = ("password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "private_key", "authorization")
"""Words in the names of arguments that are not for everybody who may look at jobs."""


# ---- the table --------------------------------------------------------------------------------


READERS: dict[Any, Callable[[str], Any]] = {bool: values.switch, float: values.duration, int: values.whole(0)}
"""How text becomes a value of these types, unless a row says otherwise."""


def _setting(default: Any, sections: str, help: str, read: Callable[[str], Any] | None = None) -> Any:
    """One row: its default or what makes it, where it may stand besides [global], its help, its reader."""
    metadata = {"read": read, "sections": ("global", *sections.split()), "help": help, "secret": read is values.secret}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_ALL = "router jobmanager scheduler"


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """The settings of one process. Seconds are floats; lists are tuples; what is empty is not set."""

    broker_addr: str = _setting(
        "", "", "Router's frontend, for clients. Empty: a job runs where it is called.", address.to_connect
    )
    frontend_addr: str = _setting(
        "tcp://127.0.0.1:47291", "router", "Where the Router listens for clients and schedulers.", address.to_bind
    )
    backend_addr: str = _setting(
        "tcp://127.0.0.1:47290", "router", "Where the Router listens for job managers.", address.to_bind
    )
    administrative_addr: str = _setting(
        "tcp://127.0.0.1:47293", "router", "Where the Router listens for emq-cli.", address.to_bind
    )
    worker_addr: str = _setting(
        "tcp://127.0.0.1:47290", "jobmanager", "Router's backend, for job managers.", address.to_connect
    )
    scheduler_addr: str = _setting(
        "tcp://127.0.0.1:47291", "scheduler", "Router's frontend, for schedulers.", address.to_connect
    )
    http_addr: str = _setting(
        "", "router", "Where the Router tells metrics and health: 127.0.0.1:47294. Empty: nowhere.", address.to_serve
    )
    health_addr: str = _setting(
        "", "jobmanager", "Where a job manager tells its health: 127.0.0.1:47295. Empty: nowhere.", address.to_serve
    )
    allow_insecure_bind: bool = _setting(
        False, "router jobmanager", "Listen where other machines reach it, unprotected."
    )

    store: str = _setting(machine.default_store, "router", "Where jobs are kept: sqlite:///path or memory:.", str.strip)
    durability: Literal["full", "process", "none"] = _setting(
        "full",
        "router",
        "What an accepted job survives: full = a power cut, process = kill -9 of everything, none = nothing.",
    )
    default_queue_name: str = _setting("default", "router", "Queue of managers that name none.", values.queue_name)
    default_queue_weight: int = _setting(values.QUEUE_WEIGHT, "router", "Weight of that queue.", values.queue_weight)
    result_ttl: float = _setting(limits.RESULT_TTL_S, "router", "How long a finished job's outcome is kept.")
    results_max: int = _setting(limits.RESULTS_MAX, "router", "Finished jobs that are kept, dead ones not counted.")
    dead_ttl: float = _setting(limits.DEAD_TTL_S, "router", "How long a dead or lost job is kept.")
    dead_max: int = _setting(limits.DEAD_MAX, "router", "Dead and lost jobs that are kept.")
    queue_jobs_max: tuple[tuple[str, int], ...] = _setting(
        (), "router", "Jobs that may wait in each queue: email:1000,*:100000. Default: any number.", values.bounds
    )
    crash_limit: int = _setting(
        limits.CRASH_LIMIT, "router", "Worker processes a job may take down before it is dead.", values.whole(1)
    )

    name: str = _setting("", "jobmanager scheduler", "Its name, for people.", values.label)
    queues: tuple[tuple[int, str], ...] = _setting(
        (), "jobmanager", "Queues to serve: email:15,default:10. Heavier ones first.", values.queues
    )
    fair: bool = _setting(
        False, "jobmanager", "Weights share the slots among queues with work, instead of ranking them."
    )
    concurrent_jobs: int = _setting(
        machine.cores, "jobmanager", "Worker processes. Default: one per core.", values.whole(1, 1_000)
    )
    modules: tuple[str, ...] = _setting((), "jobmanager", "Modules that workers import at start.", values.modules)
    allow_any_callable: bool = _setting(False, "jobmanager", "Run functions without the @job mark too, as 0.3.13 did.")
    max_job_count: int = _setting(0, "jobmanager", "Jobs after which a worker process is replaced. 0 = never.")
    subprocess_setup_func: str = _setting(
        "", "jobmanager", "module.function that each worker process calls first.", values.function
    )
    job_entry_func: str = _setting("", "jobmanager", "module.function to call before each job.", values.function)
    job_exit_func: str = _setting("", "jobmanager", "module.function to call after each job.", values.function)
    global_timeout: float = _setting(limits.JOB_TIMEOUT_S, "jobmanager", "Kill a job after this long. 0 = never.")
    wire: Literal["2.0", "1.0", "auto"] = _setting(
        "2.0", "jobmanager scheduler", "eMQP version; 1.0 for a Router of 2020."
    )

    web_addr: str = _setting(
        "http://127.0.0.1:47296", "web", "Where the dashboard listens. Empty: `up` leaves it out.", address.to_serve
    )
    web_path: str = _setting("", "web", "Path below which a proxy shows the dashboard: /eventmq.", values.url_path)
    web_hosts: tuple[str, ...] = _setting(
        (), "web", "Names by which browsers reach the dashboard, besides localhost: jobs.example.com.", values.names
    )
    web_viewer_secret: str = _setting(
        "", "web", "Password of user viewer, or bearer token: may look at the dashboard.", values.secret
    )
    web_operator_secret: str = _setting(
        "", "web", "The same of user operator: may requeue, cancel, pause and run, too.", values.secret
    )
    web_admin_secret: str = _setting("", "web", "The same of user admin: may forget and remove, too.", values.secret)
    web_hidden: tuple[str, ...] = _setting(
        HIDDEN, "web", "Arguments with these in their names are not shown by the dashboard.", values.names
    )

    drain_s: float = _setting(limits.DRAIN_S, "router jobmanager", "How long SIGTERM lets running jobs finish.")
    heartbeat_interval: float = _setting(limits.HEARTBEAT_S, _ALL, "Time between beats.")
    heartbeat_timeout: float = _setting(limits.SILENCE_S, _ALL, "Silence after which the Router gives a peer up.")
    otel_parent: Literal["parent", "link"] = _setting(
        "parent", "jobmanager", "Spans of jobs: part of the trace that sent them, or a link to it."
    )
    otel_create: bool = _setting(True, "", "A span for each job of a batch, besides that of the batch.")
    log_format: Literal["text", "json"] = _setting("text", _ALL, "Form of the log: text, or json: one object a line.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = _setting(
        "INFO", f"{_ALL} web", "Least level to log."
    )
    super_debug: bool = _setting(False, f"{_ALL} web", "Log everything, whatever log_level says.")
    hide_heartbeat_logs: bool = _setting(True, _ALL, "As in 0.3.13; this release never logs heartbeats.")

    source: Source | None = dataclasses.field(default=None, compare=False)

    @property
    def least_level(self) -> str:
        """What to log from."""
        return "DEBUG" if self.super_debug else self.log_level

    def origin(self, name: str) -> str:
        """Where the value of setting `name` came from, for people."""
        return self.source.origins.get(name, "default") if self.source else "default"

    def reload(self, environ: Mapping[str, str] | None = None) -> Settings:
        """The same flags over the file and environment as they are now.

        Raises:
            SettingsError: They are no longer right; the present settings stand.
        """
        if self.source is None:
            return self
        return load(self.source.component, self.source.flags, environ, self.source.path)

    def shown(self) -> dict[str, Any]:
        """All values by name, as they may be shown: secrets hidden."""
        return {row.name: _shown(row, getattr(self, row.name)) for row in table()}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


class Source(NamedTuple):
    """What settings were loaded from, enough to load them again, and the place of each that is no default."""

    component: str
    flags: Mapping[str, str | None]
    path: Path | None
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()


def table() -> Iterator[dataclasses.Field[Any]]:
    """The rows: `name`, and in `metadata` `read`, `sections` and `help`."""
    return (row for row in dataclasses.fields(Settings) if row.metadata)


_ROWS = {row.name: row for row in table()}
_TYPES = get_type_hints(Settings)


def public(value: Any) -> Any:
    """The value as it may be shown: a URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", value) if isinstance(value, str) else value


def _shown(row: dataclasses.Field[Any], value: Any) -> Any:
    return "***" if row.metadata["secret"] and value else public(value)


# ---- loading ----------------------------------------------------------------------------------


class _Found(NamedTuple):
    """One value as it was written, and where."""

    name: str
    text: str
    place: str


def load(
    component: str,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Settings:
    """The settings of one component.

    Args:
        component: A key of `COMPONENTS`.
        flags: Text given on the command line, by setting; None = not given.
        environ: The environment; the process's own by default.
        path: The INI file; that of `EVENTMQ_CONFIG_FILE` by default.

    Raises:
        SettingsError: Something is unknown, malformed, or contradicts something else.
    """
    environ = os.environ if environ is None else environ
    flags = flags or {}
    file = Path(path or environ[CONFIG_FILE]) if path or environ.get(CONFIG_FILE) else None
    found, notes = _from_file(component, file) if file else ([], ())
    found += _from_environment(environ)
    found += [_Found(name, text, "the command line") for name, text in flags.items() if text is not None]
    written = {one.name: one for one in found}
    read = {name: _read(one) for name, one in written.items()}
    read.setdefault("store", machine.default_store(environ))
    origins = {name: one.place for name, one in written.items()}
    settings = Settings(**read, source=Source(component, dict(flags), file, origins, notes))
    _check(component, settings)
    return settings


def _read(found: _Found) -> Any:
    kind = _TYPES[found.name]
    read = _ROWS[found.name].metadata["read"] or READERS.get(kind) or values.choice(*get_args(kind))
    try:
        return read(found.text)
    except ValueError as error:
        shown = _shown(_ROWS[found.name], found.text)
        raise SettingsError(f"{found.place}: {found.name} expects {error}, not {shown!r}") from None


def _check(component: str, settings: Settings) -> None:
    """What no single value shows."""
    if not settings.heartbeat_interval < settings.heartbeat_timeout:
        raise SettingsError(
            f"heartbeat_interval ({settings.heartbeat_interval:g} s) must be shorter than "
            f"heartbeat_timeout ({settings.heartbeat_timeout:g} s)"
        )
    check_exposure(settings, LISTENING.get(component, ()))
    if component == "jobmanager" and settings.fair and settings.wire == "1.0":
        raise SettingsError("fair needs wire = 2.0: a Router of 2020 knows no shares")


def check_exposure(settings: Settings, names: Iterable[str]) -> None:
    """Refuse addresses that other machines can reach, unless that was asked for in words, or a password is asked there.

    Raises:
        SettingsError: One of these settings is an address that is not loopback, and `allow_insecure_bind` is off,
            or that of the dashboard, and no secret is set.
    """
    for name in names:
        text = getattr(settings, name)
        what = "see how it is" if text.startswith("http") else "run jobs"
        allowed, way = settings.allow_insecure_bind, "allow_insecure_bind = true if that network is trusted"
        if name == "web_addr":
            allowed = any((settings.web_viewer_secret, settings.web_operator_secret, settings.web_admin_secret))
            what, way = "run and forget jobs", "web_admin_secret (and web_operator_secret, web_viewer_secret)"
        if not (allowed or not text or address.is_loopback(address.parse_served(text))):
            raise SettingsError(
                f"{name} {text} is open to other machines, and whoever reaches it can {what}. "
                f"Bind to 127.0.0.1, or set {way}"
            )


# ---- the environment ----------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> list[_Found]:
    found = [_Found(name, environ[alias], alias) for name, alias in ALIASES.items() if alias in environ]
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in _ROWS or not variable.isupper():
            known = [PREFIX + row.upper() for row in _ROWS] + [CONFIG_FILE]
            raise SettingsError(f"environment: no setting is called {variable}{_near(variable.upper(), known)}")
        alias = ALIASES.get(name, variable)
        if environ.get(alias, environ[variable]) != environ[variable]:
            raise SettingsError(f"environment: {variable} and {alias} disagree; set one of them")
        found.append(_Found(name, environ[variable], variable))
    return found


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


# ---- the file -------------------------------------------------------------------------------------


def _from_file(component: str, file: Path) -> tuple[list[_Found], tuple[str, ...]]:
    """The values in the component's sections, and notes for the log. All sections are checked."""
    entries = inifile.read(file)
    notes: list[str] = []
    for entry in entries:
        place = f"{file}:{entry.line}"
        if entry.section == SECTION_OF_2020:
            notes += [] if entry.name else [f"{place}: [{SECTION_OF_2020}] is ignored: there is no publisher"]
        elif entry.section not in SECTIONS:
            raise SettingsError(f"{place}: no section is called [{entry.section}]{_near(entry.section, SECTIONS)}")
        elif entry.name:
            _check_place(entry, place)
    found = [
        _Found(entry.name, entry.text, f"{file}:{entry.line}")
        for section in COMPONENTS[component]
        for entry in entries
        if entry.section == section and entry.name
    ]
    return found, tuple(notes)


def _check_place(entry: inifile.Entry, place: str) -> None:
    row = _ROWS.get(entry.name)
    if row is None:
        raise SettingsError(f"{place}: no setting is called {entry.name}{_near(entry.name, _ROWS)}")
    if entry.section not in row.metadata["sections"]:
        homes = " or ".join(f"[{section}]" for section in reversed(row.metadata["sections"]))
        raise SettingsError(f"{place}: {entry.name} does not belong in [{entry.section}], but in {homes}")
