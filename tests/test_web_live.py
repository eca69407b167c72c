"""Live pages: who is told what, who asks the Router and how often, and answers that many browsers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from fake_admin import FakeAdmin
from web_site import Site

from eventmq.client.admin import Admin
from eventmq.errors import BrokerUnavailable
from eventmq.web import live
from eventmq.web.limits import QUESTIONS_MAX, SHARED_S, STREAM_NOTES_MAX, STREAMS_MAX
from eventmq.web.lines import Answers, Line
from eventmq.web.live import Live

CHANGED = "event: changed\ndata:\n\n"


class World:
    """What is watched, and how often somebody looked at it."""

    def __init__(self) -> None:
        self.state: dict[str, int] = {}
        self.looked: list[str] = []
        self.changes = 0
        self.live = Live(self.look, self.change, self.at_once)

    def look(self, topic: str) -> int:
        self.looked.append(topic)
        return self.state.get(topic, 0)

    def change(self) -> None:
        self.changes += 1

    @staticmethod
    async def at_once(look: Callable[[str], Any], topic: str) -> Any:
        return look(topic)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(live, "PACE_S", 0.0)
    return World()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10.0))  # type: ignore[arg-type]


async def begun(world: World, topic: str) -> AsyncGenerator[str, None]:
    """A stream that is watched; it has told its page once, as something may have changed since that was made."""
    stream = world.live.stream(topic)
    assert (await anext(stream)).startswith("retry:")
    assert await anext(stream) == CHANGED
    return stream


def test_a_page_is_told_that_what_it_shows_has_changed(world: World) -> None:
    async def test() -> None:
        async with aclosing(await begun(world, "")) as all_, aclosing(await begun(world, "job:1")) as one:
            world.state["job:1"] = 1
            assert await anext(one) == CHANGED
            assert sum(watcher.notes.qsize() for watcher in world.live._watchers) == 0
            world.state[""] = 1
            assert await anext(all_) == CHANGED

    run(test)


def test_answers_from_before_a_change_are_forgotten_before_anybody_is_told(world: World) -> None:
    async def test() -> None:
        async with aclosing(await begun(world, "")) as stream:
            assert world.changes == 1
            world.state[""] = 1
            assert await anext(stream) == CHANGED
            assert world.changes == 2

    run(test)


def test_ten_browsers_cost_one_question(world: World) -> None:
    async def test() -> None:
        streams = [world.live.stream("") for _ in range(10)]
        for stream in streams:
            await anext(stream)
        world.looked.clear()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(world.looked) <= 2
        for stream in streams:
            await stream.aclose()

    run(test)


def test_nobody_asks_when_nobody_watches(world: World) -> None:
    async def test() -> None:
        stream = await begun(world, "")
        await stream.aclose()
        assert world.live._task is not None
        await world.live._task
        looked = len(world.looked)
        await asyncio.sleep(0.01)
        assert len(world.looked) == looked
        world.looked.clear()
        await (await begun(world, "")).aclose()

    run(test)


def test_a_browser_that_does_not_read_costs_a_few_notes(world: World) -> None:
    async def test() -> None:
        async with aclosing(await begun(world, "")):
            (watcher,) = world.live._watchers
            while len(world.looked) < 3 * STREAM_NOTES_MAX:
                world.state[""] = len(world.looked)
                await asyncio.sleep(0)
            assert watcher.notes.qsize() == STREAM_NOTES_MAX
            assert world.live._task is not None
            assert not world.live._task.done()

    run(test)


def test_streams_are_bounded_and_end_when_we_end(world: World) -> None:
    async def test() -> None:
        streams = [world.live.stream("") for _ in range(STREAMS_MAX)]
        for stream in streams:
            await anext(stream)
        assert world.live.full
        world.live.close()
        for stream in streams:
            assert "closed" in (await anext(stream, "closed"))
            assert await anext(stream, None) is None
        assert world.live.full

    run(test)


def test_a_stream_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(FakeAdmin())
    monkeypatch.setattr(live, "STREAMS_MAX", 0)
    assert site.client.get("/events").status_code == 503


def test_what_is_no_job_is_not_watched() -> None:
    site = Site(FakeAdmin())
    assert site.client.get("/events", params={"job": "x" * 100}).status_code == 400


def test_what_a_page_watches_is_what_it_shows() -> None:
    site = Site(FakeAdmin())
    look = site.dashboard._look
    assert look("") == look("")
    before = look("")
    site.post("/queue/pause", name="mail")
    assert look("") != before
    assert look("job:1f")["id"] == "1f"
    assert look(f"act:{site.act()}") == ["counted", 3, 0]
    site.admin.gone = True
    assert look("") == "no Router answers"


# ---- answers that are shared ---------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_many_ask_at_the_same_time_is_asked_once() -> None:
    clock, admin = Clock(), FakeAdmin()
    answers = Answers(clock)
    for _ in range(3):
        answers.of("JOB", {"id": "1f"}, admin.ask)
    answers.of("JOB", {"id": "2f"}, admin.ask)
    assert len(admin.asked) == 2
    clock.now += SHARED_S
    answers.of("JOB", {"id": "1f"}, admin.ask)
    assert len(admin.asked) == 3


def test_who_changes_something_sees_it_at_once() -> None:
    clock, admin = Clock(), FakeAdmin()
    answers = Answers(clock)
    before = answers.of("STATUS", {}, admin.ask)["counts"]
    answers.of("PAUSE", {"queue": "mail"}, admin.ask)
    answers.of("PAUSE", {"queue": "mail"}, admin.ask)
    assert len(admin.told) == 2
    assert answers.of("STATUS", {}, admin.ask)["counts"] != before


def test_sums_of_minutes_outlast_a_change() -> None:
    clock, admin = Clock(), FakeAdmin()
    answers = Answers(clock)
    for command in ("STATUS", "FAILURES"):
        answers.of(command, {"since": None} if command == "FAILURES" else {}, admin.ask)
    answers.forget()
    answers.of("FAILURES", {"since": None}, admin.ask)
    answers.of("STATUS", {}, admin.ask)
    assert admin.asked == ["STATUS", "FAILURES", "STATUS"]


def test_a_history_in_several_answers_is_the_same_for_all_who_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(admin: Any, command: str, since: float, **params: Any) -> dict[str, Any]:
        return {"failed": [1, 2], "step_s": 60, "since": since, "until": 240, "next": None if since else 120}

    monkeypatch.setattr(Admin, "ask", answer)
    line = Line("tcp://127.0.0.1:9")
    assert [line.history(since=0)["failed"] for _ in range(3)] == [[1, 2, 1, 2]] * 3
    line.close()


def test_an_answer_from_before_a_change_is_not_kept() -> None:
    clock, admin = Clock(), FakeAdmin()
    answers = Answers(clock)

    def slow(command: str, **params: Any) -> Any:
        answer = admin.ask(command, **params)
        clock.now += 0.01
        answers.of("PAUSE", {"queue": "mail"}, admin.ask)
        return answer

    before = answers.of("STATUS", {}, slow)
    assert answers.of("STATUS", {}, admin.ask) != before


def test_pages_ask_a_few_questions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(admin: Any, command: str, others: int) -> int:
        return 1 + (line.ask("PAUSE", others=others - 1) if others else 0)

    monkeypatch.setattr(Admin, "ask", answer)
    line = Line("tcp://127.0.0.1:9", 0.01)
    for _ in range(2):
        assert line.ask("PAUSE", others=QUESTIONS_MAX - 1) == QUESTIONS_MAX
        with pytest.raises(BrokerUnavailable, match="too slowly"):
            line.ask("PAUSE", others=QUESTIONS_MAX)
    line.close()
