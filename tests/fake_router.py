"""A Router's frontend as small as it can be, for tests of the client: it stores, answers, and misbehaves on request."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import zmq

from eventmq.protocol import scheduling, v2

TURN_MS = 5
"""How soon the thread sees what a test has changed."""


class FakeRouter:
    """Listens in a thread of its own; a context manager.

    Attributes:
        jobs: What was accepted, by id.
        seen: How often each id came.
        messages: Every message after its sender: command and body.
        peers: Every identity that spoke.
        work: Makes the outcome of a job at once; None = jobs wait for `finish`.
        refuse: Says whether a job is refused.
        stand_in: Names the job that is in the way of one with a key.
        schedules: What is scheduled, by id.
        say_no: Reasons to refuse the next SCHEDULEs with.
        deaf: Messages to leave unanswered, as if lost. -1 = all.
    """

    def __init__(self, address: str = "tcp://127.0.0.1:*") -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self.address = self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self.jobs: dict[str, v2.Job] = {}
        self.seen: Counter[str] = Counter()
        self.messages: list[tuple[bytes, bytes]] = []
        self.peers: set[bytes] = set()
        self.work: Callable[[v2.Job], v2.Result] | None = None
        self.refuse: Callable[[v2.Job], v2.Refusal | None] = lambda job: None
        self.stand_in: Callable[[v2.Job], str | None] = lambda job: None
        self.deaf = 0
        self.results: dict[str, v2.Result] = {}
        self.waiters: dict[str, set[bytes]] = {}
        self.schedules: dict[str, scheduling.Schedule] = {}
        self.say_no: list[str] = []
        self._handlers = {
            b"REQUEST": self._on_request,
            b"WAIT": self._on_wait,
            b"INFO": self._on_info,
            b"SCHEDULE": self._on_schedule,
            b"UNSCHEDULE": self._on_unschedule,
        }
        self._finished: list[v2.Result] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._main, name="fake-router")
        self._thread.start()

    def __enter__(self) -> FakeRouter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def finish(self, *results: v2.Result) -> None:
        """These jobs have ended."""
        self._finished += results

    def forget_waiters(self) -> None:
        """As a restart does."""
        self.waiters.clear()

    def count(self, command: bytes) -> int:
        """Messages of one command that came."""
        return sum(seen == command for seen, _ in self.messages)

    def _main(self) -> None:
        while not self._ending.is_set():
            if self._socket.poll(TURN_MS):
                peer, _, _, command, body = self._socket.recv_multipart()
                self.peers.add(peer)
                self.messages.append((command, body))
                if self.deaf:
                    self.deaf -= 1
                else:
                    self._handlers[command](peer, body)
            while self._finished:
                self._tell(self._finished.pop(0))
        self._socket.close()
        self._context.term()

    def _send(self, peer: bytes, command: bytes, body: v2.Body) -> None:
        self._socket.send_multipart([peer, *v2.encode(command, body)])

    def _on_request(self, peer: bytes, body: bytes) -> None:
        request = v2.decode(body, v2.Request)
        refusals, existing = [], []
        for job in request.jobs:
            self.seen[job.id] += 1
            other = self.stand_in(job)
            if other is not None:
                existing.append((job.id, other))
            refusal = self.refuse(job)
            if refusal is not None:
                refusals.append(refusal)
            if refusal is not None or other is not None:
                continue
            self.jobs[job.id] = job
            if self.work is not None:
                self.results[job.id] = self.work(job)
        self._send(peer, b"ACK", v2.Ack(request.n, refusals, existing))

    def _on_wait(self, peer: bytes, body: bytes) -> None:
        known = []
        for id in v2.decode(body, v2.Wait).ids:
            if id in self.results:
                known.append(self.results[id])
            elif id in self.jobs:
                self.waiters.setdefault(id, set()).add(peer)
            else:
                known.append(v2.Result(id, "unknown"))
        if known:
            self._send(peer, b"REPLY", v2.Results(known))

    def _on_info(self, peer: bytes, body: bytes) -> None:
        info = v2.decode(body, v2.Info)
        answer: dict[str, Any] | None = None
        if info.id in self.jobs:
            result = self.results.get(info.id)
            job = self.jobs[info.id]
            answer = {"id": job.id, "state": result.state if result else "waiting", "queue": job.queue}
        self._send(peer, b"REPLY", v2.Answer(info.n, answer))

    def _on_schedule(self, peer: bytes, body: bytes) -> None:
        arrange = v2.decode(body, scheduling.Arrange)
        if self.say_no:
            self._send(peer, b"REFUSED", v2.Refused(arrange.n, self.say_no.pop(0), "no"))
            return
        self.schedules[arrange.schedule.id] = arrange.schedule
        self._send(peer, b"REPLY", v2.Answer(arrange.n, arrange.schedule.id))

    def _on_unschedule(self, peer: bytes, body: bytes) -> None:
        call_off = v2.decode(body, scheduling.CallOff)
        self._send(peer, b"REPLY", v2.Answer(call_off.n, self.schedules.pop(call_off.id, None) is not None))

    def _tell(self, result: v2.Result) -> None:
        self.results[result.id] = result
        for peer in self.waiters.pop(result.id, ()):
            self._send(peer, b"REPLY", v2.Results([result]))
