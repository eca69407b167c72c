"""What one scheduler and a Router of the 2020 release say to each other: eMQP/1.0. Pure, as `session`.

That Router keeps no schedules: what it passes on is known here alone, and gone with this process. A run is a REQUEST
like any other, and nothing says whether it has arrived. Source: `docs/protocol.md`, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventmq.errors import InvalidMessageError, InvalidSchedule
from eventmq.protocol import calls, v1
from eventmq.protocol.conversation import ConversationV1
from eventmq.protocol.scheduling import Assignment
from eventmq.schedules import due as dues
from eventmq.schedules.agenda import Agenda
from eventmq.schedules.rule import check
from eventmq.schedules.session import LEAVE, Scheduling


class SchedulerSessionV1(Scheduling, ConversationV1[bool]):
    """A scheduler that speaks eMQP/1.0.

    Args:
        new_id: Makes message ids.
    """

    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id, "scheduler")
        self.agenda = Agenda()
        self._jobs: dict[str, list[Any]] = {}  # by schedule: the job, its headers, how many runs are left

    def tick(self, now: float, wall: float) -> None:
        """Look at the clock; the only one here is our own."""
        self._ahead = wall - now
        super().tick(now, wall)

    def _handle(self, command: bytes, message_id: str, frames: list[bytes]) -> bool:
        match command:
            case b"SCHEDULE":
                self._put(message_id, frames)
            case b"UNSCHEDULE":
                job, _, _ = v1.parse_schedule(message_id, frames)
                self._forget(calls.call_key(job.name, job.payload))
            case b"DISCONNECT":
                return LEAVE
        return super()._handle(command, message_id, frames)

    def _put(self, message_id: str, frames: list[bytes]) -> None:
        job, headers, rule = v1.parse_schedule(message_id, frames)
        try:
            check(rule)
        except InvalidSchedule as error:
            raise InvalidMessageError(str(error)) from error
        id, wall = calls.call_key(job.name, job.payload), round(self._heard + (self._ahead or 0.0), 3)
        headers = v1.Headers(timeout_s=headers.timeout_s, retry_count=headers.retry_count, guarantee=True)
        self._jobs[id] = [job, v1.format_headers(headers), rule.run_count or -1]
        self.agenda.put(Assignment(id, message_id, rule, wall, dues.first_moment(rule, wall)), wall)

    def _forget(self, id: str) -> None:
        self.agenda.remove(id)
        self._jobs.pop(id, None)

    def flush(self, now: float) -> None:
        """End of a turn: hand in what is due."""
        while ticks := self._due(now):
            for tick in ticks:
                job, headers, left = self._jobs[tick.schedule]
                id = dues.run_id(tick.schedule, tick.due)
                self.outgoing.append(v1.encode(b"REQUEST", id, job.queue, headers, v1.format_call(job)))
                self.agenda.done(tick)
                self._jobs[tick.schedule][2] = left - 1
                if left == 1:
                    self._forget(tick.schedule)

    def settled(self) -> bool:
        """Nothing is ever ACKed here."""
        return True
