"""One stream of events for each page that is watched: notes that something has changed, and nothing else.

One task asks the Router, and only while somebody watches: STATUS for all, JOB for a job that is watched. A page that
gets a note fetches itself again, so a note that is lost, or comes twice, does no harm; a slow browser's queue is
bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from eventmq.web.limits import PACE_S, STREAM_NOTES_MAX, STREAMS_MAX

Look = Callable[[str], Any]
"""Asks the Router about a topic; what it returns is compared with what it was before. Runs in a thread."""

Told = Callable[[], object]
InThread = Callable[..., Awaitable[Any]]

BEAT_S = 15.0
"""A comment this often shows a proxy, and us, that the other side is still there."""


class Watcher:
    """A page that is watched: its topic, how that was when the page was told last, and notes that it has not read."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.seen = b""
        self.notes: asyncio.Queue[str] = asyncio.Queue(STREAM_NOTES_MAX)

    def tell(self, event: str) -> None:
        """A note, unless there are too many."""
        if not self.notes.full():
            self.notes.put_nowait(f"event: {event}\ndata:\n\n")


class Live:
    """Who watches what. A page is told once when it begins: something may have changed since it was made.

    Args:
        look: Asks about one topic.
        changed: Called before anybody is told: pages must not be made of answers from before.
        in_thread: Runs `look` without holding up the loop.
    """

    def __init__(self, look: Look, changed: Told, in_thread: InThread = asyncio.to_thread) -> None:
        self._look = look
        self._changed = changed
        self._in_thread = in_thread
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether nobody more may watch."""
        return self._closed or len(self._watchers) >= STREAMS_MAX

    async def stream(self, topic: str) -> AsyncGenerator[str, None]:
        """The event stream of one page."""
        watcher = Watcher(topic)
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield "retry: 1000\n\n"
            while not self._closed:
                try:
                    yield await asyncio.wait_for(watcher.notes.get(), BEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """Ends all streams. From the loop's thread."""
        self._closed = True
        for watcher in self._watchers:
            watcher.tell("closed")
        if self._task is not None:
            self._task.cancel()

    async def _poll(self) -> None:
        while self._watchers:
            for topic in {watcher.topic for watcher in self._watchers}:
                seen = await self._in_thread(self._digest, topic)
                behind = [each for each in self._watchers if each.topic == topic and each.seen != seen]
                if behind:
                    self._changed()
                for watcher in behind:
                    watcher.seen = seen
                    watcher.tell("changed")
            await asyncio.sleep(PACE_S)

    def _digest(self, topic: str) -> bytes:
        return hashlib.sha256(msgspec.json.encode(self._look(topic))).digest()
