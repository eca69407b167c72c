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

BEAT_S = 15.0
"""A comment this often shows a proxy, and us, that the other side is still there."""


class Live:
    """Who watches what.

    Args:
        look: Asks about one topic.
        in_thread: Runs it without holding up the loop.
    """

    def __init__(self, look: Look, in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread) -> None:
        self._look = look
        self._in_thread = in_thread
        self._watching: dict[asyncio.Queue[str], str] = {}
        self._seen: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether nobody more may watch."""
        return self.closed or len(self._watching) >= STREAMS_MAX

    async def stream(self, topic: str) -> AsyncGenerator[str, None]:
        """The event stream of one page."""
        notes: asyncio.Queue[str] = asyncio.Queue(STREAM_NOTES_MAX)
        self._watching[notes] = topic
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield "retry: 1000\n\n"
            while not self.closed:
                try:
                    yield await asyncio.wait_for(notes.get(), BEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._watching.pop(notes, None)

    def close(self) -> None:
        """Ends all streams. From the loop's thread."""
        self.closed = True
        for notes in self._watching:
            _put(notes, "event: closed\ndata:\n\n")
        if self._task is not None:
            self._task.cancel()

    async def _poll(self) -> None:
        while self._watching:
            for topic in set(self._watching.values()):
                seen = await self._in_thread(self._digest, topic)
                if self._seen.get(topic) not in (None, seen):
                    self._tell(topic)
                self._seen[topic] = seen
            await asyncio.sleep(PACE_S)
            self._seen = {topic: seen for topic, seen in self._seen.items() if topic in self._watching.values()}

    def _tell(self, topic: str) -> None:
        for notes, watched in self._watching.items():
            if watched == topic:
                _put(notes, "event: changed\ndata:\n\n")

    def _digest(self, topic: str) -> bytes:
        return hashlib.sha256(msgspec.json.encode(self._look(topic))).digest()


def _put(notes: asyncio.Queue[str], note: str) -> None:
    if not notes.full():
        notes.put_nowait(note)
