"""Settings: precedence, sections, forms, and that every mistake is told with its place and a way out."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from eventmq import machine, settings, values
from eventmq.errors import SettingsError
from eventmq.net import address
from eventmq.settings import load


def write(folder: Path, text: str) -> Path:
    file = folder / "eventmq.conf"
    file.write_text(text)
    return file


# ---- precedence -------------------------------------------------------------------------------


def test_flag_over_environment_over_own_section_over_global_over_default(tmp_path: Path) -> None:
    file = write(tmp_path, "[global]\nname = global\ncrash_limit = 7\n[jobmanager]\nname = file\n")
    variables = {"EVENTMQ_NAME": "environment"}

    assert load("jobmanager", {"name": "flag"}, variables, file).name == "flag"
    assert load("jobmanager", {"name": None}, variables, file).name == "environment"
    assert load("jobmanager", {}, {}, file).name == "file"
    assert load("client", {}, {}, file).name == "global"
    assert load("jobmanager", {}, {}).name == ""
    assert load("jobmanager", {}, {}, file).crash_limit == 7


def test_origin_tells_where_each_value_came_from(tmp_path: Path) -> None:
    file = write(tmp_path, "[global]\n\nsuper_debug = yes\n")
    found = load("router", {"drain_s": "5s"}, {"EVENTMQ_DURABILITY": "none"}, file)
    assert found.origin("super_debug") == f"{file}:3"
    assert found.origin("drain_s") == "the command line"
    assert found.origin("durability") == "EVENTMQ_DURABILITY"
    assert found.origin("store") == "default"


def test_file_named_by_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, "[global]\nwire = 1.0\n")
    assert load("jobmanager", {}, {"EVENTMQ_CONFIG_FILE": str(file)}).wire == "1.0"


def test_2020_variable_names_the_broker() -> None:
    assert load("client", {}, {"EMQ_BROKER_ADDR": "tcp://10.0.0.1:47291"}).broker_addr == "tcp://10.0.0.1:47291"
    same = {"EMQ_BROKER_ADDR": "tcp://10.0.0.1:1", "EVENTMQ_BROKER_ADDR": "tcp://10.0.0.1:1"}
    assert load("client", {}, same).broker_addr == "tcp://10.0.0.1:1"
    with pytest.raises(SettingsError, match="disagree"):
        load("client", {}, same | {"EMQ_BROKER_ADDR": "tcp://10.0.0.1:2"})


def test_reload_reads_the_file_again_under_the_same_flags(tmp_path: Path) -> None:
    file = write(tmp_path, "[router]\ncrash_limit = 3\n")
    before = load("router", {"drain_s": "1"}, {}, file)
    write(tmp_path, "[router]\ncrash_limit = 4\ndrain_s = 9\n")
    after = before.reload({})
    assert (before.crash_limit, after.crash_limit, after.drain_s) == (3, 4, 1.0)


def test_a_file_of_2020_is_read_and_its_publisher_noted(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "[global]\nSUPER_DEBUG = true\nHIDE_HEARTBEAT_LOGS = false\n"
        "[router]\nFRONTEND_ADDR = tcp://127.0.0.1:1111\n"
        '[jobmanager]\nconcurrent_jobs: 4\nqueues = [[10, "default"],\n   [15, "email"]]\n'
        "[scheduler]\nscheduler_addr=tcp://127.0.0.1:1111\n[publisher]\npublisher_addr = x\n",
    )
    manager = load("jobmanager", {}, {}, file)
    assert manager.queues == ((15, "email"), (10, "default"))
    assert (manager.concurrent_jobs, manager.super_debug, manager.hide_heartbeat_logs) == (4, True, False)
    assert manager.source is not None
    assert manager.source.notes == (f"{file}:12: [publisher] is ignored: there is no publisher",)
    assert manager.frontend_addr != "tcp://127.0.0.1:1111"
    assert load("admin", {}, {}, file).frontend_addr == "tcp://127.0.0.1:1111"


# ---- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[global]\n\nconcurent_jobs = 3\n", 3, "no setting is called concurent_jobs; did you mean concurrent_jobs"),
        ("[global]\n[ruoter]\n", 2, r"no section is called \[ruoter\]; did you mean router"),
        ("[router]\nconcurrent_jobs = 3\n", 2, r"does not belong in \[router\], but in \[jobmanager\] or \[global\]"),
        ("[scheduler]\nnosuch = 3\n", 2, "no setting is called nosuch"),
        (
            "[jobmanager]\nconcurrent_jobs = many\n",
            2,
            "concurrent_jobs expects a whole number from 1 to 1000, not 'many'",
        ),
        ("[global]\nname = a\nname = b\n", 3, "name stands twice"),
        ("[global]\n[global]\n", 2, "stands twice"),
        ("name = a\n", 1, "before the first"),
        ("[global]\nsuper_debug\n", 2, "neither"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError, match=said) as caught:
        load("jobmanager", {}, {}, file)
    assert str(caught.value).startswith(f"{file}:{line}:")


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1e", "\x85", "\u2028"])
def test_what_ends_a_line_only_elsewhere_is_a_part_of_a_name(tmp_path: Path, odd: str) -> None:
    file = write(tmp_path, f"[global]\n# a{odd}b\nconc{odd}urrent_jobs = 2\n")
    with pytest.raises(SettingsError) as caught:
        load("jobmanager", {}, {}, file)
    assert str(caught.value).startswith(f"{file}:3:")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load("router", {}, {}, tmp_path / "absent.conf")
    (tmp_path / "binary.conf").write_bytes(b"[global]\nname = \xff\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load("router", {}, {}, tmp_path / "binary.conf")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("EVENTMQ_STOER", "EVENTMQ_STORE"),
        ("EVENTMQ_CONFIGFILE", "EVENTMQ_CONFIG_FILE"),
        ("EVENTMQ_Store", "EVENTMQ_STORE"),
    ],
)
def test_an_unknown_variable_is_an_error_with_a_hint(variable: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=rf"{variable}; did you mean {hint}\?"):
        load("client", {}, {variable: "x"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("global_timeout", "5 parsecs", "a duration"),
        ("global_timeout", "-1", "a duration"),
        ("concurrent_jobs", "0", "a whole number from 1"),
        ("super_debug", "perhaps", "true or false"),
        ("durability", "paranoid", "one of full, process, none"),
        ("frontend_addr", "127.0.0.1:47291", "an address such as"),
        ("frontend_addr", "tcp://127.0.0.1:99999", "a port between"),
        ("worker_addr", "tcp://*:47290", "one host and port"),
        ("worker_addr", "tcp://127.0.0.1:*", "one host and port"),
        ("backend_addr", "ipc://" + "x" * 108, "at most 107 bytes"),
        ("queues", "email:heavy", "a whole number"),
        ("queues", '[["email", 15]]', "queues as"),
        ("queues", "[[15, ", "queues as"),
        ("queues", "a,a", "each queue once"),
        ("queues", "a\x07b", "printable"),
        ("modules", "./shop/tasks.py", r"shop\.tasks, not"),
        ("modules", "a-b", "dotted"),
        ("job_entry_func", "prepare", "with its module"),
    ],
)
def test_a_malformed_value_is_told_what_was_expected(name: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load("router", {}, {f"EVENTMQ_{name.upper()}": text})
    assert str(caught.value).startswith(f"EVENTMQ_{name.upper()}: {name} expects ")


def test_beats_must_be_shorter_than_the_silence_that_kills() -> None:
    with pytest.raises(SettingsError, match="shorter"):
        load("router", {"heartbeat_interval": "20", "heartbeat_timeout": "15"}, {})


# ---- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("10s", 10),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.duration(text) == seconds


def test_durations_that_are_no_text() -> None:
    assert values.duration(timedelta(minutes=2)) == 120
    assert values.duration(3) == 3
    for bad in (-1, float("nan"), float("inf"), timedelta(seconds=-1)):
        with pytest.raises(ValueError, match="0 or more"):
            values.duration(bad)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default,email", ((10, "default"), (10, "email"))),
        ("email:15, default:10", ((15, "email"), (10, "default"))),
        ('[[10, "default"], [15, "email"]]', ((15, "email"), (10, "default"))),
        ('["a:b", [3, "c"]]', ((10, "a:b"), (3, "c"))),
        ("", ()),
    ],
)
def test_queues(text: str, expected: values.Queues) -> None:
    assert values.queues(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("1000", (("*", 1000),)),
        ("email:1000, *:100000", (("email", 1000), ("*", 100_000))),
        ("a:b:0", (("a:b", 0),)),
    ],
)
def test_bounds_of_queues(text: str, expected: values.Bounds) -> None:
    assert values.bounds(text) == expected


@pytest.mark.parametrize("text", ["email", "email:", "email:-1", "email:1,email:2", "1,2", "email:x", "a\tb:1"])
def test_bounds_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole number|each queue once|queue.s name"):
        values.bounds(text)


def test_a_fair_manager_needs_a_router_that_knows_shares() -> None:
    assert load("jobmanager", {}, {"EVENTMQ_FAIR": "yes"}).fair
    with pytest.raises(SettingsError, match=r"fair needs wire = 2\.0"):
        load("jobmanager", {"wire": "1.0"}, {"EVENTMQ_FAIR": "yes"})


def test_every_default_has_the_type_of_its_field() -> None:
    kinds = {"str": str, "int": int, "float": float, "bool": bool}
    defaults = settings.Settings()
    for row in settings.table():
        kind = str if str(row.type).startswith("Literal") else kinds.get(str(row.type), tuple)
        assert type(getattr(defaults, row.name)) is kind, row.name
        assert row.metadata["help"].endswith("."), row.name


def test_settings_are_frozen_and_keep_passwords_out_of_their_repr() -> None:
    found = load("router", {"store": "postgresql://emq:secret@db/jobs"}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "x"  # type: ignore[misc]
    assert "emq:secret" not in repr(found)
    assert "postgresql://emq:***@db/jobs" in repr(found)


def test_the_default_store_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert machine.default_store({"HOME": "/h"}) == "sqlite:////h/.local/state/eventmq/eventmq.db"
    assert machine.default_store({"HOME": "/h", "XDG_STATE_HOME": "/s"}) == "sqlite:////s/eventmq/eventmq.db"
    monkeypatch.setattr("sys.platform", "darwin")
    assert machine.default_store({"HOME": "/h"}) == "sqlite:////h/Library/Application Support/EventMQ/eventmq.db"


# ---- who can reach an address -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["tcp://127.0.0.1:1", "tcp://127.9.9.9:*", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///x"]
)
def test_loopback(text: str) -> None:
    assert address.is_loopback(address.parse(text))


@pytest.mark.parametrize(
    "text", ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://no-such-host.invalid:1"]
)
def test_an_open_address_refuses_to_start_unless_told(text: str) -> None:
    with pytest.raises(SettingsError, match="open to other machines"):
        load("router", {"backend_addr": text}, {})
    told = load("router", {"backend_addr": text, "allow_insecure_bind": "true"}, {})
    assert told.backend_addr == text
    assert load("jobmanager", {}, {"EVENTMQ_BACKEND_ADDR": text}).backend_addr == text


def test_any_interface_is_reached_over_loopback() -> None:
    assert address.reachable("tcp://*:47293") == "tcp://127.0.0.1:47293"
    assert address.reachable("tcp://[::]:47293") == "tcp://[::1]:47293"
    assert address.reachable("tcp://192.0.2.1:47293") == "tcp://192.0.2.1:47293"
