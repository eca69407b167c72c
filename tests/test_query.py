"""The query language of the command line and the dashboard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmq.broker.lifecycle import RUNNING, TERMINAL
from eventmq.broker.selections import LIVE
from eventmq.client.query import WORDS, QueryError, parse, text_of
from eventmq.protocol.administration import STATES, Selection

NOW = 1_790_000_000.5
ID = "019be0a7c1e27b60b8d2f3b0c4c1a9d5"


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("", Selection()),
        ("state:dead,lost queue:mail", Selection(states=["dead", "lost"], queue="mail")),
        ("state:dead state:lost", Selection(states=["dead", "lost"])),
        ("name:shop:Card.charge worker:web-1", Selection(name="shop:Card.charge", worker="web-1")),
        ("error:'Connection reset'", Selection(error="Connection reset")),
        ('error:"it\'s: no"', Selection(error="it's: no")),
        (f"id:{ID},b id:c", Selection(ids=[ID, "b", "c"])),
        (ID, Selection(ids=[ID])),
        (f"{ID} 019be0a7-c1e2-7b60-b8d2-f3b0c4c1a9d5", Selection(ids=[ID, "019be0a7-c1e2-7b60-b8d2-f3b0c4c1a9d5"])),
        ("shop.send queue:mail", Selection(name="shop.send", queue="mail")),
        ("since:2h until:90", Selection(since=NOW - 7200, until=NOW - 90)),
        ("until:2026-11-01T00:00Z", Selection(until=1_793_491_200.0)),
        ("until:2026-11-01", Selection(until=1_793_491_200.0)),
        ("since:2026-11-01T01:00+01:00", Selection(since=1_793_491_200.0)),
        ("arg.user.id:42 arg.0:x arg.1:", Selection(arguments={"user.id": "42", "0": "x", "1": ""})),
    ],
)
def test_a_query_and_its_text(text: str, selection: Selection) -> None:
    assert parse(text, NOW) == selection
    assert parse(text_of(selection), 0.0) == selection


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sate:dead", "there is no field 'sate'; there are state, queue"),
        ("state:ded", "no job is ever 'ded'; the states are waiting"),
        ("state:", "expected one or more of waiting"),
        ("queue:a queue:b", "queue is given twice"),
        ("arg.a:1 arg.a:2", "given twice"),
        ("arg.:1", "no field 'arg.'"),
        ("a.b c.d", "name is given twice"),
        ("since:yesterday", "expected a span of time as 30m"),
        ("error:'no end", "No closing quotation"),
        ("queue:" + "q" * 201, "length <= 200"),
    ],
)
def test_a_word_that_is_not_understood_is_told_and_never_left_out(text: str, said: str) -> None:
    with pytest.raises(QueryError, match=said.replace(".", r"\.")):
        parse(text, NOW)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
times = st.none() | st.integers(0, 4_000_000_000).map(float)


@given(
    st.builds(
        Selection,
        states=st.lists(st.sampled_from(STATES), unique=True, max_size=3),
        queue=st.just("") | texts,
        error=st.just("") | texts,
        ids=st.none() | st.lists(st.text("abc-1'\" ", min_size=1, max_size=9), max_size=3),
        since=times,
        until=times,
        arguments=st.dictionaries(st.text("abc.09", min_size=1, max_size=9), st.text(max_size=9), max_size=3),
    )
)
def test_every_selection_can_be_written_and_read_again(selection: Selection) -> None:
    assert parse(text_of(selection), 0.0) == selection


def test_everything_that_selects_can_be_said() -> None:
    fields = set(Selection.__struct_fields__) - {"before", "limit"}
    assert {"states" if w == "state" else "ids" if w == "id" else w for w in WORDS} == fields - {"arguments"} | {"arg."}
    assert set(STATES) == LIVE | TERMINAL
    assert RUNNING in STATES
