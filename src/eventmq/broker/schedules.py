"""The schedules: what they are, how far each has come, what became of its runs. Kept over restarts as facts.

Two facts for each: `schedule:<id>` is what was asked for, written when that changes; `tick:<id>` is how far it is,
written with each tick, in the commit that adds its job. So a tick and its job are durable together or not at all, and
a due time that is not behind the last one has had its run: it is void, whoever sends it and however late.

    put ─▶ active ─▶ over ─▶ forgotten after `DEDUPE_S`: until then a SCHEDULE that comes twice begins nothing anew
            tick, pause      whoever may tick it now is its `holder`, a connected scheduler

Knows no clock, nobody who sends and no time zone but those in a rule; `wall` is wall time, in seconds.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from eventmq import limits
from eventmq.broker import lifecycle
from eventmq.broker.admission import fault
from eventmq.broker.ledger import Ledger
from eventmq.broker.pool import PeerId
from eventmq.broker.schedule import Entry, State, run_of
from eventmq.errors import InvalidMessageError, InvalidSchedule
from eventmq.protocol import calls, v2
from eventmq.protocol.scheduling import Schedule, Tick
from eventmq.protocol.v2 import Job, Refusal
from eventmq.schedules import due as dues
from eventmq.schedules.rule import check

SCHEDULE_FACT = "schedule:"
TICK_FACT = "tick:"
MODULE_FACT = "module:"
"""Facts `module:<name>`: age of the newest announcement of what a module declares."""

HAS_ITS_JOB = ("conflict", "duplicate")
"""Refusals of a run that stay as they are: its id, or its key, belongs to another job. So it is left out."""


class Schedules:
    """All schedules.

    Args:
        ledger: Takes in their jobs; its changes carry the facts.

    Attributes:
        entries: By id.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        facts = ledger.facts
        self.entries: dict[str, Entry] = {}
        self._modules: dict[str, float] = {}
        for fact, value in facts.items():
            if fact.startswith(SCHEDULE_FACT):
                id = fact.removeprefix(SCHEDULE_FACT)
                self.entries[id] = Entry(v2.decode(value, Schedule), v2.decode(facts[TICK_FACT + id], State))
            elif fact.startswith(MODULE_FACT):
                self._modules[fact.removeprefix(MODULE_FACT)] = v2.decode(value, float)
        self._changed: dict[str, None] = {}
        self._alarms: list[Entry] = []

    # ---- what is asked for -------------------------------------------------------------------------

    def put(self, schedule: Schedule, wall: float) -> None:
        """A new schedule, or a new form of one that there is. The same form goes on as before.

        Raises:
            InvalidMessageError: It cannot be, or there are too many.
        """
        entry = self.entries.get(schedule.id)
        if entry is not None and entry.schedule.token == schedule.token:
            return
        self._check(schedule)
        rule = schedule.rule
        left = rule.run_count or -1
        if entry is None or entry.state.over or entry.schedule.rule != rule:
            anchor = round(wall, 3)
            last = dues.first_moment(rule, anchor)
            paused = entry is not None and entry.state.paused and not entry.state.over
            state = State(anchor, last, _ahead(rule, anchor, last), paused, left=left)
            if not state.ahead:
                raise InvalidMessageError("the schedule is never due from now on", "invalid_schedule")
        else:
            state = entry.state
            state.left = left
        holder = entry.holder if entry is not None else None
        entry = self.entries[schedule.id] = Entry(schedule, state)
        entry.holder = holder
        self._ledger.changes.facts[SCHEDULE_FACT + schedule.id] = v2.pack(schedule)
        self._write(entry)

    def _check(self, schedule: Schedule) -> None:
        if len(schedule.job.payload) > limits.SCHEDULE_BYTES_MAX:
            text = f"the arguments of a schedule have {limits.SCHEDULE_BYTES_MAX} bytes at most"
            raise InvalidMessageError(text, "too_large")
        schedule.job.id = "run"
        try:
            if not 0 < len(schedule.id) <= limits.NAME_CHARS_MAX or not 0 < len(schedule.token) <= limits.ID_CHARS_MAX:
                most = f"{limits.NAME_CHARS_MAX} characters, token 1 to {limits.ID_CHARS_MAX}"
                raise InvalidSchedule(f"id has 1 to {most}")
            check(schedule.rule)
            calls.unpack_call(schedule.job.payload)
            if schedule.rule.overlap != "allow" and schedule.job.unique:
                raise InvalidSchedule("overlap and unique exclude each other")
            if refusal := fault(schedule.job) or fault(run_of(schedule)):
                raise InvalidSchedule(refusal.text)
        except (InvalidSchedule, msgspec.MsgspecError) as error:
            raise InvalidMessageError(str(error), "invalid_schedule") from error
        if schedule.id not in self.entries and len(self.entries) >= limits.SCHEDULES_MAX:
            over = [id for id, entry in self.entries.items() if entry.state.over and not entry.holder]
            if not over:
                raise InvalidMessageError(f"there are {limits.SCHEDULES_MAX} schedules already", "too_large")
            self._forget(min(over, key=lambda id: self.entries[id].state.over))

    def remove(self, id: str, wall: float) -> bool:
        """Ends a schedule; jobs that it has made go on. Returns whether there was one."""
        entry = self.entries.get(id)
        if entry is None or entry.state.over:
            return False
        self._end(entry, wall)
        return True

    def pause(self, entry: Entry, paused: bool, wall: float) -> None:
        """Pauses or resumes. What was due in between is not made up for."""
        state = entry.state
        if not paused and state.paused:
            state.last = max(state.last, wall)
            state.ahead = _ahead(entry.schedule.rule, state.anchor, state.last)
            state.missed = 0
        state.paused = paused
        state.over = 0.0 if paused or state.ahead else wall
        self._write(entry)

    def declare(self, module: str, since: float, schedules: list[Schedule], wall: float) -> list[str]:
        """What a module of some age declares. Those of the same module that it does not declare are removed, unless a
        newer age of it is known: then nothing happens.

        Returns:
            Sentences about those that cannot be.
        """
        if not since >= self._modules.get(module, 0.0):
            return []
        if module not in self._modules and len(self._modules) >= limits.MODULES_MAX:
            self._ledger.changes.facts[MODULE_FACT + self._modules.popitem()[0]] = None  # the newest one
        self._modules[module] = since
        self._ledger.changes.facts[MODULE_FACT + module] = v2.pack(since)
        declared = {schedule.id: schedule for schedule in schedules}
        for id, entry in list(self.entries.items()):
            if entry.schedule.owner == module and id not in declared:
                self.remove(id, wall)
        wrong = []
        for id, schedule in declared.items():
            known = self.entries.get(id)
            if known is not None and not known.state.over and _same(known.schedule, schedule, module):
                continue
            try:
                self.put(replace(schedule, owner=module, token=f"declared {since}"), wall)
            except InvalidMessageError as error:
                wrong.append(f"module {module} declares schedule {id[:80]!r}: {error}")
        return wrong

    # ---- runs ---------------------------------------------------------------------------------------

    def tick(self, sender: PeerId, tick: Tick, wall: float, recovering: bool) -> Refusal | None:
        """A scheduler says that something is due. What is not its business, or had its run, is void.

        Returns:
            Why it has to come again, if it has to.
        """
        entry = self.entries.get(tick.schedule)
        if entry is None or entry.holder != sender or entry.schedule.token != tick.token or not entry.active:
            return None
        if not tick.due > entry.state.last:
            self._ledger.counts["stale_ticks"] += 1
            return None
        if tick.due > wall + limits.EARLY_S:
            return Refusal(tick.schedule, "too_early", "its time has not come by the Router's clock")
        job = replace(entry.job, id=dues.run_id(tick.schedule, tick.due))
        ahead = [each for each in tick.ahead if tick.due < each <= limits.FUTURE_S_MAX]
        return self._run(entry, job, tick.due, ahead, wall, recovering)

    def tick_1_0(self, sender: PeerId, job: Job, wall: float, recovering: bool) -> bool:
        """The same from a 2020 scheduler. Its REQUEST names a call and no time, and comes even after an UNSCHEDULE.

        Returns:
            Whether there is such a schedule.

        Raises:
            InvalidMessageError: The job is refused.
        """
        call = calls.call_key(job.name, job.payload)
        same = [entry for entry in self.entries.values() if entry.call == call]
        for entry in same:
            if entry.holder == sender and entry.active:
                due = max((each for each in entry.state.ahead if entry.state.last < each <= wall), default=wall)
                ahead = _ahead(entry.schedule.rule, entry.state.anchor, due)
                refusal = self._run(entry, replace(entry.job, id=job.id), due, ahead, wall, recovering)
                if refusal is not None:
                    raise InvalidMessageError(refusal.text, refusal.reason)
        return bool(same)

    def _run(
        self, entry: Entry, job: Job, due: float, ahead: list[float], wall: float, recovering: bool
    ) -> Refusal | None:
        accepted = self._ledger.accept([job], wall, recovering)
        for refusal in accepted.refusals:
            if refusal.reason not in HAS_ITS_JOB:
                return replace(refusal, id=entry.schedule.id)
        state = entry.state
        overdue = entry.schedule.rule.overdue
        state.missed = min(state.missed + 1 + sum(each < due for each in state.ahead), overdue + 1)
        state.last, state.ahead = due, ahead[: overdue + 1]
        if not (accepted.existing or accepted.refusals):
            state.job, state.ran, state.outcome = job.id, wall, ""
            state.runs += 1
            state.left -= state.left > 0
        if not state.ahead or state.left == 0:
            self._end(entry, wall)
        else:
            self._write(entry, news=False)
        self._judge(entry, wall)
        return None

    def run_now(self, entry: Entry, id: str, wall: float, recovering: bool) -> str:
        """A run beside the rule, which goes on as if there had been none. The same id again is the same run.

        Returns:
            The job, which is another one if that is in its way.

        Raises:
            InvalidMessageError: The job is refused.
        """
        accepted = self._ledger.accept([replace(entry.job, id=id)], wall, recovering)
        for refusal in accepted.refusals:
            raise InvalidMessageError(refusal.text, refusal.reason)
        if accepted.existing:
            return accepted.existing[0][1]
        entry.state.job, entry.state.ran, entry.state.outcome = id, wall, ""
        self._write(entry, news=False)
        return id

    def ended(self, wall: float) -> None:
        """Jobs have ended: what that says of their schedules. To be called before the changes are applied."""
        for schedule, job, state in self._ledger.runs_ended:
            entry = self.entries.get(schedule)
            if entry is None:
                continue
            if state == lifecycle.SUCCEEDED:
                entry.state.missed = 0
            if job == entry.state.job:
                entry.state.outcome = state
            self._write(entry, news=False)
            self._judge(entry, wall)
        self._ledger.runs_ended.clear()

    # ---- time passes ------------------------------------------------------------------------------------

    def sweep(self, wall: float, keep: bool = False) -> None:
        """Looks for schedules that should have run, and forgets those that are long over, unless all are to be kept."""
        for id, entry in list(self.entries.items()):
            state = entry.state
            if state.over:
                if wall >= state.over + limits.DEDUPE_S and not keep:
                    self._forget(id)
                continue
            rule = entry.schedule.rule
            if rule.end and rule.misfire == "skip" and wall > rule.end + rule.grace_s + rule.jitter_s:
                self._end(entry, wall)
            self._judge(entry, wall)

    def _forget(self, id: str) -> None:
        del self.entries[id]
        self._ledger.changes.facts[SCHEDULE_FACT + id] = None
        self._ledger.changes.facts[TICK_FACT + id] = None

    def _judge(self, entry: Entry, wall: float) -> None:
        """Raises the alarm or takes it back: so many due times have come since the last success that this many periods
        have passed."""
        rule, state = entry.schedule.rule, entry.state
        late = wall - rule.grace_s - rule.jitter_s
        missed = state.missed + sum(each < late for each in state.ahead)
        if state.ahead and state.last > wall + rule.grace_s:  # the clock was set back: how many it has to catch up
            missed += int((state.last - wall) / (state.ahead[0] - state.last))
        overdue = entry.active and 0 < rule.overdue < missed
        if overdue != entry.overdue:
            entry.overdue = overdue
            self._alarms.append(entry)

    def _end(self, entry: Entry, wall: float) -> None:
        entry.state.over = wall
        self._write(entry)

    def _write(self, entry: Entry, news: bool = True) -> None:
        self._ledger.changes.facts[TICK_FACT + entry.schedule.id] = v2.pack(entry.state)
        if news:
            self._changed[entry.schedule.id] = None

    # ---- who ticks what -----------------------------------------------------------------------------

    def offer(self) -> None:
        """There is a new scheduler: what nobody ticks is for it."""
        self._changed.update((id, None) for id, entry in self.entries.items() if entry.active and entry.holder is None)

    def release(self, peer: PeerId) -> int:
        """A scheduler is gone. Returns how many schedules it had."""
        released = [id for id, entry in self.entries.items() if entry.holder == peer]
        for id in released:
            self.entries[id].holder = None
            self._changed[id] = None
        return len(released)

    def take_changed(self) -> list[Entry]:
        """Those that a scheduler has to hear of; each is told once."""
        changed, self._changed = self._changed, {}
        return [self.entries[id] for id in changed if id in self.entries]

    def take_alarms(self) -> list[Entry]:
        """Those that have become overdue, or are so no longer; each is told once."""
        alarms, self._alarms = self._alarms, []
        return alarms

    # ---- questions --------------------------------------------------------------------------------------

    def listed(self) -> list[str]:
        """The ids of all that are not over, in order."""
        return sorted(id for id, entry in self.entries.items() if not entry.state.over)

    def summary(self) -> dict[str, Any]:
        """How many there are, how many nobody ticks though somebody should, and which are overdue."""
        live = [entry for entry in self.entries.values() if not entry.state.over]
        unassigned = sum(entry.active and entry.holder is None for entry in live)
        overdue = [entry.schedule.id for entry in live if entry.overdue]
        counts = {"total": len(live), "paused": sum(entry.state.paused for entry in live), "unassigned": unassigned}
        return counts | {"overdue": len(overdue), "overdue_first": overdue[: limits.NAMES_MAX]}

    def describe(self, entry: Entry) -> dict[str, Any]:
        """Everything that is known of a schedule, for a person."""
        state = entry.state
        live = self._ledger.live.get(state.job)
        return entry.described(state.outcome or (lifecycle.state_of(live) if live else lifecycle.WAITING))


def _ahead(rule: Any, anchor: float, last: float) -> list[float]:
    return list(islice(dues.times(rule, anchor, last), rule.overdue + 1))


def _same(known: Schedule, declared: Schedule, module: str) -> bool:
    """Whether a declaration says nothing new."""
    declared.job.id = known.job.id
    return known == replace(declared, owner=module, token=known.token)
