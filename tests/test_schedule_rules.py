"""What a schedule's rule may be, and what it is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventmq import limits
from eventmq.errors import EnqueueError, InvalidSchedule
from eventmq.schedules.rule import MACROS, Cron, Every, Rule, check, words


@pytest.mark.parametrize(("given", "interval_s"), [(60, 60.0), ("5m", 300.0), (timedelta(hours=2), 7200.0), (0.5, 0.5)])
def test_an_interval_is_seconds_text_or_a_timedelta(given: Any, interval_s: float) -> None:
    assert Every(given).interval_s == interval_s


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron("0 25 * * *"), "'25' is no hour; expected 0 to 23"),
        (lambda: Cron("0 0 * * MONDAY"), "'MONDAY' is no day of the week"),
        (lambda: Cron("61 0 0 * * *"), "'61' is no second"),
        (lambda: Cron("1-1000000000 * * * *"), "is no minute"),
        (lambda: Cron("0 0 31 4 *"), "never due: there is no such day"),
        (lambda: Cron("0 0 30 2 *"), "never due"),
        (lambda: Cron("0 0 31 2,4,6,9,11 *"), "never due"),
        (lambda: Cron("* * * *"), "which has 4 fields; expected five: minute, hour"),
        (lambda: Cron("@reboot"), "expected @yearly"),
        (lambda: Cron(""), "empty"),
        (lambda: Cron(5), "cron is 5, expected text"),  # type: ignore[arg-type]
        (lambda: Cron("* * * * " + "1," * limits.CRON_CHARS_MAX + "1"), "at most 200 characters"),
        (lambda: Cron("* * * * *", tz="Europe/Pragu"), "no time zone 'Europe/Pragu'.* did you mean 'Europe/Prague'"),
        (lambda: Cron("* * * * *", tz="Europe"), "no time zone 'Europe'"),
        (lambda: Cron("* * * * *", tz="../../etc/passwd"), "no time zone"),
        (lambda: Cron("* * * * *", tz=None), "tz is None"),  # type: ignore[arg-type]
        (lambda: Every(0), "the interval is 0 s, expected 0.1 s or more"),
        (lambda: Every("5 parsecs"), "interval is '5 parsecs', expected a duration"),
        (lambda: Every(-1), "interval is -1"),
        (lambda: Every(60, misfire="twice"), "misfire is 'twice', expected one of skip, once, all"),
        (lambda: Every(60, overlap="maybe"), "overlap is 'maybe', expected one of allow, skip, queue, replace"),
        (lambda: Every(60, start=datetime(2026, 1, 1)), "with a time zone"),
        (lambda: Every(60, jitter="long"), "jitter is 'long'"),
        (lambda: Every(60, run_count=True), "run_count is True, expected a whole number"),
        (lambda: Every(60, run_count=-1), "run_count is -1"),
        (lambda: Every(60, overdue=99), "overdue is 99, expected a whole number from 0 to 10"),
        (lambda: Every(60, nonsense=1), "no 'nonsense'; it has start, end, jitter"),  # type: ignore[call-arg]
        (
            lambda: Every(60, start=datetime(2026, 1, 2, tzinfo=UTC), end=datetime(2026, 1, 1, tzinfo=UTC)),
            "ends before it starts",
        ),
        (lambda: check(Rule(interval_s=60, cron="* * * * *")), "got both"),
        (lambda: check(Rule()), "the interval is 0 s"),
        (lambda: check(Rule(interval_s=float("nan"))), "the interval is nan s"),
        (lambda: check(Rule(interval_s=60, grace_s=float("nan"))), "grace_s is nan"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_wrong(make: Any, said: str) -> None:
    with pytest.raises(InvalidSchedule, match=said) as refused:
        make()
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, EnqueueError)


@given(st.text("0123456789*/-,#LW@ ", max_size=30) | st.text(max_size=30))
@example("0 0 L/2 * 5L/2")
@example("0 0 * * 1#2/3")
@example("٣ * * * *")
def test_any_text_is_an_expression_that_can_be_told_or_is_refused(text: str) -> None:
    try:
        rule = Cron(text)
    except InvalidSchedule:
        return
    assert words(rule)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Every("90s"), "every 90 seconds"),
        (Every("5m"), "every 5 minutes"),
        (Every(3600), "every hour"),
        (Every("2d"), "every 2 days"),
        (Every(0.25), "every 0.25 seconds"),
        (Cron("0 9 * * 1-5", tz="Europe/Prague"), "at 09:00 on Monday through Friday (Europe/Prague)"),
        (Cron("@daily"), "at 00:00 every day (UTC)"),
        (Cron("*/10 * * * * *"), "every 10th second of every minute (UTC)"),
    ],
)
def test_in_words(rule: Rule, said: str) -> None:
    assert words(rule) == said


def test_every_macro_can_be() -> None:
    for macro in MACROS:
        assert words(Cron(macro.upper()))
