"""Jobs with a key: of those that are in each other's way never two, and who is told that another one stands for his.

What is in the way of what is said here once more, from `docs/protocol.md` 3.2 and not from the code that decides it.
Only what was so before and after a turn counts: what happened in between, in which order, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol

from eventmq.broker import lifecycle
from eventmq.protocol import v2
from sim.disk import Disk
from sim.timeline import Timeline, Violation
from sim.truth import Truth


class View(Protocol):
    """A job as the Router has it."""

    @property
    def state(self) -> str: ...


Views = Mapping[str, View]


class Keys:
    """All jobs with a key that were ever accepted."""

    def __init__(self, timeline: Timeline, disk: Disk, truth: Truth) -> None:
        self.timeline = timeline
        self.disk = disk
        self.truth = truth
        self._holders: dict[tuple[str, str], list[str]] = {}
        self._answers: dict[str, str] = {}
        self._first_seq = 0
        self._recovering = False

    def boot(self, next_seq: int, expects: bool) -> None:
        """A Router starts; what was answered is remembered until then."""
        self._answers.clear()
        self._first_seq = next_seq
        self._recovering = expects

    def judge(self, before: Views, after: Views, new: list[str], requeued: list[str], expects: bool) -> None:
        """The jobs that a turn has accepted or requeued.

        Args:
            before: Those that there were before the turn.
            after: Those that there are now.
            new: Accepted in this turn.
            requeued: Ended before, and not now.
            expects: The Router waits for managers of before its start; what they run it does not know.
        """
        for id in new:
            job = self.truth.plans[id].job
            if job.unique:
                self._holders.setdefault((job.name, job.unique), []).append(id)
                if id in self._answers:
                    raise Violation(f"{id} is stored, and {self._answers[id]} was said to stand for it")
                rivals = [each for each in self._others(job, after) if self._is_in_the_way(each, job, before, after)]
                if rivals:
                    raise Violation(f"{id} was accepted, and in its way are {rivals}: {[after[id] for id in rivals]}")
        for id in requeued:
            job = self.truth.plans[id].job
            held = [each for each in self._others(job, after) if _is_live(each, before, after)] if job.unique else []
            if held and after[id].state not in lifecycle.TERMINAL:
                raise Violation(f"{id} was requeued, and its key is held by {held}")
        self._recovering = expects

    def _others(self, job: v2.Job, after: Views) -> Iterator[str]:
        others = self._holders.get((job.name, job.unique), [])
        return (id for id in others if id != job.id and id in after and self.truth.plans[id].job.unique == job.unique)

    def _is_in_the_way(self, id: str, job: v2.Job, before: Views, after: Views) -> bool:
        seq, created = self.disk.seq_of(id), self.disk.created(id)
        if seq > self.disk.seq_of(job.id):
            return False
        options, own = v2.options_of(job.options), v2.options_of(self.truth.plans[id].job.options)
        wall = self.timeline.wall
        states = {each[id].state for each in (before, after) if id in each}
        if options.unique_for_s is not None:
            if states & lifecycle.TERMINAL and (self.timeline.jumped or not self._is_kept(job, id)):
                return False  # what was in nobody's way once is never again, whatever the clock says then
            called_off = states & {lifecycle.CANCELLED, lifecycle.EXPIRED}
            return not called_off and wall < created + min(options.unique_for_s, own.unique_for_s or math.inf)
        if states & lifecycle.TERMINAL or (own.expires_s is not None and wall >= created + own.expires_s):
            return False
        if options.unique_scope == "waiting":
            return lifecycle.RUNNING not in states and not (self._recovering and seq < self._first_seq)
        return True

    def _is_kept(self, job: v2.Job, id: str) -> bool:
        """Whether a job that has ended is still in the way of others: it wanted that, and none took its place."""
        if v2.options_of(job.options).on_conflict == "replace" or v2.options_of(self._options(id)).unique_for_s is None:
            return False
        later = self._holders[job.name, job.unique]
        later = later[later.index(id) + 1 :]
        return not any(v2.options_of(self._options(each)).on_conflict == "replace" for each in later if each != job.id)

    def _options(self, id: str) -> bytes:
        return self.truth.plans[id].job.options

    def replaced(self, id: str, new: list[str]) -> bool:
        """Whether a job that was accepted in this turn has taken the place of this one."""
        old = self.truth.plans[id].job
        return bool(old.unique) and any(
            (job.name, job.unique) == (old.name, old.unique) and v2.options_of(job.options).on_conflict == "replace"
            for job in (self.truth.plans[each].job for each in new)
        )

    def judge_existing(self, id: str, other: str) -> None:
        """A client is told that another job stands for his."""
        told = self._answers.setdefault(id, other)
        if told != other:
            raise Violation(f"{other} stands for {id}, and before that it was {told}")
        if self.disk.has(id):
            raise Violation(f"{other} is said to stand for {id}, and that is stored")
        one, two = self.truth.plans[id].job, self.truth.plans[other].job
        if not one.unique or (one.name, one.unique) != (two.name, two.unique):
            raise Violation(f"{other} is said to stand for {id}, and their keys are {one.unique} and {two.unique}")


def _is_live(id: str, before: Views, after: Views) -> bool:
    """It is live now and was before."""
    return all(id in each and each[id].state not in lifecycle.TERMINAL for each in (before, after))
