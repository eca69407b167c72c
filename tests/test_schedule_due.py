"""When a rule is due: over every change of the clocks, against an independent computation, and what runs when late."""

from __future__ import annotations

import re
import struct
import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from brute_cron import Brute
from hypothesis import example, given
from hypothesis import strategies as st

from eventmq.schedules.due import after, first_moment, next_run, run_id, runs_at, times
from eventmq.schedules.rule import Cron, Every, Rule


def at(text: str, tz: str = "UTC") -> float:
    """Wall time of a local time; `#2` behind it: the second time that the clock shows it."""
    text, _, second = text.partition("#")
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=int(bool(second))).timestamp()


def due_between(rule: Rule, since: float, until: float) -> list[float]:
    return list(takewhile(lambda due: due <= until, times(rule, since, since)))


def shown(moments: list[float], tz: str) -> list[str]:
    """What a clock shows, with its offset."""
    return [datetime.fromtimestamp(each, ZoneInfo(tz)).strftime("%d %H:%M%z") for each in moments]


# ---- against an independent computation -----------------------------------------------------------------

YEAR = [
    ("0 9 * * 1-5", "Europe/Prague"),
    ("30 2 * * *", "Europe/Prague"),
    ("*/30 * * * *", "America/New_York"),
    ("*/15 1-3 * * *", "Australia/Lord_Howe"),
    ("15,45 1-3 * * *", "Australia/Lord_Howe"),
    ("0 0 L * *", "America/Havana"),
    ("10 */2 1,15 * 5", "Africa/Casablanca"),
    ("0 12 * * 1#2", "Asia/Tokyo"),
    ("59 23 31 * *", "America/Sao_Paulo"),
    ("15,45 30 2,3 * * *", "Australia/Lord_Howe"),
]


@pytest.mark.parametrize(("expression", "tz"), YEAR)
def test_a_year_of_due_times_is_what_trying_every_minute_gives(expression: str, tz: str) -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    expected = list(Brute(expression).times(ZoneInfo(tz), since, until))
    assert len(expected) >= 7
    assert due_between(Cron(expression, tz=tz), since.timestamp(), until.timestamp()) == expected


@given(
    st.sampled_from([*YEAR, ("0 0 * * *", "America/Havana"), ("*/20 * * * 0", "Asia/Beirut")]),
    st.floats(at("2026-01-01"), at("2027-01-01")),
    st.integers(0, 40),
)
def test_where_one_begins_to_look_changes_nothing(case: tuple[str, str], moment: float, skipped: int) -> None:
    """Each time alone gives the next one: whoever takes over goes on where the other was."""
    rule = Cron(case[0], tz=case[1])
    run = list(islice(times(rule, 0.0, moment), skipped + 3))
    assert run == sorted(set(run))
    assert all(each > moment for each in run)
    assert list(islice(times(rule, 0.0, run[skipped]), 2)) == run[skipped + 1 :]
    assert after(rule, 0.0, run[skipped] - 0.001) == run[skipped]


# ---- the clock changes ------------------------------------------------------------------------------------

EDGES = [
    # Northern gap, 02:00 to 03:00: the named time runs at its end, the wall skips the hour.
    ("30 2 * * *", "Europe/Prague", "2026-03-29", ["29 03:00+0200"]),
    ("0 3 * * *", "Europe/Prague", "2026-03-29", ["29 03:00+0200"]),
    ("30 1-3 * * *", "Europe/Prague", "2026-03-29", ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]),
    ("*/30 2 * * *", "Europe/Prague", "2026-03-29", []),
    ("0 30 2 * * *", "Europe/Prague", "2026-03-29", []),
    # Northern overlap, 03:00 to 02:00: the named time runs once, the wall shows the hour twice.
    ("30 2 * * *", "Europe/Prague", "2026-10-25", ["25 02:30+0200"]),
    ("*/30 2 * * *", "Europe/Prague", "2026-10-25",
     ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"]),
    ("0 30 2 * * *", "Europe/Prague", "2026-10-25", ["25 02:30+0200", "25 02:30+0100"]),
    # Southern gap in October and overlap in April.
    ("30 2 * * *", "Australia/Sydney", "2026-10-04", ["04 03:00+1100"]),
    ("30 2 * * *", "Australia/Sydney", "2026-04-05", ["05 02:30+1100"]),
    ("30 * * * *", "America/Santiago", "2026-04-04",
     [*(f"04 {hour:02}:30-0300" for hour in range(24)), "04 23:30-0400"]),
    # Half an hour: 02:00 to 02:30, and back.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 02:30+1100"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["05 01:45+1100"]),
    ("0 0 3 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 03:00+1100"]),
    ("*/15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["04 02:30+1100", "04 02:45+1100"]),
    ("*/15 1 * * *", "Australia/Lord_Howe", "2026-04-05",
     ["05 01:00+1100", "05 01:15+1100", "05 01:30+1100", "05 01:45+1100", "05 01:30+1030", "05 01:45+1030"]),
    # Midnight itself is missing, or comes twice.
    ("0 0 * * *", "Asia/Beirut", "2026-03-29", ["29 01:00+0300"]),
    ("0 0 * * *", "America/Havana", "2026-11-01", ["01 00:00-0400"]),
    # A whole day that never was.
    ("0 9 * * *", "Pacific/Apia", "2011-12-31", ["31 00:00+1400", "31 09:00+1400"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "tz", "day", "expected"), EDGES)
def test_at_a_change_of_the_clock(expression: str, tz: str, day: str, expected: list[str]) -> None:
    midnight = at(day, tz)
    until = at((datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat(), tz)
    found = due_between(Cron(expression, tz=tz), midnight - 1, until - 1)
    assert shown(found, tz) == expected


def test_between_the_two_halves_of_an_overlap_the_named_time_has_been() -> None:
    rule = Cron("30 2 * * *", tz="Europe/Prague")
    assert after(rule, 0.0, at("2026-10-25T02:10#2", "Europe/Prague")) == at("2026-10-26T02:30", "Europe/Prague")


def tzif(posix: str) -> bytes:
    """Compiled time zone data with one rule for ever (RFC 8536): what zic makes of it."""
    block = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 0, 0, 0) + b"ABC\0"
    return block + block + b"\n" + posix.encode() + b"\n"


def test_a_zone_that_changes_with_a_release_of_tzdata(tmp_path: Path) -> None:
    """A scheduler with old data hands over to one with new data: the new rule counts from the last run on, nothing that
    ran runs again, and only the offset of what comes differs."""
    where = zoneinfo.TZPATH
    try:
        zoneinfo.reset_tzpath([str(tmp_path)])
        (tmp_path / "Almaty").write_bytes(tzif("<+06>-6"))
        rule = Cron("0 9 * * *", tz="Almaty")
        before = list(islice(times(rule, 0.0, at("2024-02-28T12:00")), 3))
        assert before == [at("2024-02-29T03:00"), at("2024-03-01T03:00"), at("2024-03-02T03:00")]
        (tmp_path / "Almaty").write_bytes(tzif("<+05>-5"))
        ZoneInfo.clear_cache(only_keys=["Almaty"])
        assert list(islice(times(rule, 0.0, before[0] + 3600), 2)) == [at("2024-03-01T04:00"), at("2024-03-02T04:00")]
        assert after(rule, 0.0, before[0]) == at("2024-02-29T04:00"), (
            "the clock there shows 09:00 once more, an hour on"
        )
    finally:
        zoneinfo.reset_tzpath(where)
        ZoneInfo.clear_cache()


# ---- the calendar ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "since", "expected"),
    [
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 29 2 *", "2096-03-01", ["2104-02-29", "2108-02-29"]),  # 2100 is no leap year
        ("0 0 31 * *", "2026-01-31", ["2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31"]),
        ("0 0 L * *", "2027-12-31", ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"]),
        ("0 0 LW * *", "2026-01-01", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 0 * * 5L", "2026-01-01", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("@yearly", "2026-06-01", ["2027-01-01", "2028-01-01"]),
        ("0 0 13 * FRI", "2026-02-05", ["2026-02-06", "2026-02-13", "2026-02-20"]),  # either, as cron has it
    ],
)
def test_leap_years_and_the_ends_of_months(expression: str, since: str, expected: list[str]) -> None:
    found = islice(times(Cron(expression), 0.0, at(since)), len(expected))
    assert list(found) == [at(day) for day in expected]


def test_nothing_is_due_beyond_the_calendar() -> None:
    assert after(Cron("@daily"), 0.0, at("9999-12-31")) is None
    assert after(Cron("*/5 * * * *"), 0.0, 1e15) is None


# ---- intervals, beginning and end ----------------------------------------------------------------------------


def test_an_interval_runs_at_once_and_then_on_the_grid_of_its_anchor() -> None:
    rule = Every(60)
    assert list(islice(times(rule, 1000.5, first_moment(rule, 1000.5)), 3)) == [1000.5, 1060.5, 1120.5]
    assert after(rule, 1000.5, 1_000_000.0) == 1_000_000.5


def test_without_haste_it_waits_for_one_interval() -> None:
    rule = Every(60, nohaste=True)
    assert list(islice(times(rule, 1000.0, first_moment(rule, 1000.0)), 2)) == [1060.0, 1120.0]


@given(st.floats(0.1, 1e6), st.floats(0, 2e9), st.floats(0, 1e7))
def test_an_intervals_times_do_not_drift(interval: float, anchor: float, moment: float) -> None:
    rule = Every(interval)
    due = after(rule, anchor, anchor + moment)
    assert due is not None
    assert anchor + moment < due <= anchor + moment + interval * 1.001
    assert abs((due - anchor) / interval - round((due - anchor) / interval)) < 1e-3
    assert after(rule, anchor, due) > due  # type: ignore[operator]


def test_nothing_is_due_before_its_start_and_behind_its_end() -> None:
    start, end = datetime(2026, 1, 2, 9, tzinfo=UTC), datetime(2026, 1, 4, 9, tzinfo=UTC)
    days = [at("2026-01-02T09:00"), at("2026-01-03T09:00"), at("2026-01-04T09:00")]
    for rule in (Cron("0 9 * * *", start=start, end=end), Every("1d", start=start, end=end)):
        anchor = at("2026-01-01")
        assert list(times(rule, anchor, first_moment(rule, anchor))) == days
        assert list(times(rule, at("2026-01-03"), first_moment(rule, at("2026-01-03")))) == days[1:]


# ---- what runs when it is late ---------------------------------------------------------------------------------


def runs(rule: Rule, last: float, wall: float) -> list[float]:
    """Everything that is to run by `wall`, when nothing has run since `last`."""
    found = []
    while (due := next_run(rule, "s", 0.0, last, wall)) is not None and due <= wall:
        found.append(due)
        last = due
    return found


MINUTES = [Every(60, grace="90s"), Cron("* * * * *", grace="90s")]


@pytest.mark.parametrize("rule", MINUTES)
@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("skip", [600.0, 660.0]),
        ("once", [540.0, 600.0, 660.0]),
        ("all", [120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 540.0, 600.0, 660.0]),
    ],
)
def test_what_was_missed(rule: Rule, misfire: str, expected: list[float]) -> None:
    """Within the grace everything runs; of what is later the policy says what does."""
    rule = Rule(*(misfire if name == "misfire" else getattr(rule, name) for name in rule.__struct_fields__))
    assert runs(rule, 60.0, 660.0) == expected


def test_one_run_stands_for_years_of_missed_ones_at_no_cost() -> None:
    for rule in (Every(1), Cron("* * * * * *"), Cron("0 0 29 2 *")):
        due = next_run(rule, "s", 0.0, at("2016-01-01"), at("2026-01-01T00:10:00"))
        assert due == (at("2024-02-29") if rule.cron == "0 0 29 2 *" else at("2026-01-01T00:08:59"))


def test_what_was_missed_is_found_at_once_however_it_lies() -> None:
    """Every second of one day in years was 4 s of the Router's loop, as each of them was looked at."""
    rule = Cron("* * * 24 12 *")
    began = time.process_time()
    due = next_run(rule, "s", 0.0, at("2016-01-01"), at("2026-12-01"))
    assert due == at("2025-12-24T23:59:59")
    assert time.process_time() - began < 0.5


def test_a_clock_set_back_runs_nothing_again_and_one_set_forward_is_a_misfire() -> None:
    rule = Cron("0 * * * *", grace="5m", misfire="once")
    noon = at("2026-06-01T12:00")
    assert next_run(rule, "s", 0.0, noon, noon - 3600) == noon + 3600, "12:00 has run; it does not come again"
    assert runs(rule, noon, noon + 5 * 3600 + 1800) == [noon + 5 * 3600]
    assert runs(rule, noon, noon + 3 * 3600 + 60) == [noon + 2 * 3600, noon + 3 * 3600]


def test_jitter_is_the_same_for_everybody_and_within_its_bound() -> None:
    rule = Every(60, jitter="10s", grace=1)
    late = [runs_at(rule, "s", due) - due for due in islice(times(rule, 0.0, 0.0), 200)]
    assert late == [runs_at(rule, "s", due) - due for due in islice(times(rule, 0.0, 0.0), 200)]
    assert all(0 <= each <= 10 for each in late)
    assert max(late) - min(late) > 8
    assert runs_at(rule, "other", 60.0) != runs_at(rule, "s", 60.0)
    assert next_run(rule, "s", 0.0, 0.0, 60.0 + late[0] + 0.9) == 60.0, "its grace begins when its jitter ends"


@given(st.sampled_from(["skip", "once", "all"]), st.floats(0, 5e4), st.floats(0, 400), st.floats(0, 90))
@example("skip", 900.0, 0.0, 0.0)
@example("skip", 900.0, 60.0, 0.0)
def test_what_is_in_time_always_runs(misfire: str, wall: float, grace: float, jitter: float) -> None:
    rule = Every(60, misfire=misfire, grace=grace, jitter=jitter)
    found = runs(rule, 0.0, wall)
    in_time = [due for due in due_between(rule, 0.0, wall) if runs_at(rule, "s", due) + grace >= wall]
    assert found == sorted(set(found))
    assert set(found) >= set(in_time)


# ---- ids -----------------------------------------------------------------------------------------------------


def test_the_id_of_a_run_says_when_and_is_the_same_for_everybody() -> None:
    due = at("2026-06-01T12:00")
    assert run_id("daily", due) == run_id("daily", due)
    assert len({run_id(name, due + n * 0.1) for name in ("a", "b") for n in range(1000)}) == 2000
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", run_id("daily", due))
    assert int(run_id("daily", due)[:12], 16) == due * 1000
    assert run_id("a", due) < run_id("b", due + 0.001)
    assert len(run_id("x", 100e9)) == 32
