"""What a job manager decides, with a fake clock, fake workers and a fake Router: no process, no socket, no sleep."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from eventmq import limits
from eventmq.protocol import calls, conversation, v1, v2
from eventmq.protocol.packing import batches
from eventmq.protocol.v2 import Failure, Held, Job, Outcome, Verdict
from eventmq.workers import backlog, effects, messages, pool, session
from eventmq.workers.foreman import FAREWELL_S, Foreman, Rules
from eventmq.workers.lookahead import KNOWN_AFTER, Lookahead
from eventmq.workers.session import Identity
from eventmq.workers.worker import Death

TINY_S = 0.000_01
SIGKILL = "signal 9 (SIGKILL)"


class Manager:
    """A manager with nothing real around it, as its Router and its workers see it."""

    def __init__(self, workers: int = 2, fair: bool = False, **rules: object) -> None:
        self.now = 1000.0
        self.boards: dict[int, tuple[int, float]] = {}
        self.ids = iter(range(10_000))
        self.foreman = Foreman(
            Rules(workers, **rules),  # type: ignore[arg-type]
            Identity("m", "nonce", ((15, "email"), (10, "default")), fair=fair),
            lambda: self.boards,
            lambda: str(next(self.ids)),
        )
        self.foreman.start()
        self.sent = 0
        self.leases = 0
        self.asked: list[tuple[int, int | None]] = []
        self.terminated: list[int] = []
        self.killed: list[int] = []
        self.spawned: list[int] = []
        self.told: list[tuple[int, messages.Command]] = []
        self.frames: list[list[bytes]] = []
        self.all_frames: list[list[bytes]] = []
        self.reports: list[str] = []
        self.connects = 0
        self.exit: int | None = None
        self.turn()

    # ---- time and effects ------------------------------------------------------------------------

    def turn(self, seconds: float = 0.0) -> None:
        """One turn of the loop, later by `seconds`."""
        self.now += seconds
        again = True
        while again:
            again = False
            for effect in self.foreman.end_turn(self.now, 0.0):
                again |= self._do(effect)

    def _do(self, effect: effects.Effect) -> bool:
        match effect:
            case effects.Spawn(worker):
                self.spawned.append(worker)
            case effects.Stop(worker, lease):
                self.asked.append((worker, lease))
            case effects.Terminate(worker):
                self.terminated.append(worker)
            case effects.Kill(worker):
                self.killed.append(worker)
            case effects.Tell(worker, message):
                self.told.append((worker, messages.decode_command(message)))
            case effects.Send(frames):
                self.frames.append(frames)
                self.all_frames.append(frames)
            case effects.Report(_, text, detail):
                self.reports.append(text + detail)
            case effects.Exit(code):
                self.exit = code
            case effects.Connect():
                self.connects += 1
                self.foreman.on_connected(self.now)
                return True
        return False

    def pass_time(self, seconds: float, step: float = 0.1) -> None:
        end = self.now + seconds
        while self.now < end:
            self.turn(step)

    # ---- the workers' side ---------------------------------------------------------------------------

    def ready(self, *workers: int) -> None:
        for worker in workers:
            self.foreman.on_event(worker, messages.Ready(), self.now)
        self.turn()

    def given(self) -> dict[int, list[Job]]:
        """Jobs handed to workers since last asked."""
        found: dict[int, list[Job]] = {}
        for worker, command in self.told:
            if isinstance(command, messages.Run):
                found.setdefault(worker, []).extend(command.jobs)
        self.told = [(w, c) for w, c in self.told if not isinstance(c, messages.Run)]
        return found

    def begin(self, worker: int, job: Job, ago: float = 0.0) -> None:
        self.boards[worker] = (job.lease, self.now - ago)

    def done(self, worker: int, *jobs: Job, run_s: float = TINY_S) -> None:
        outcomes = [Outcome(job.id, job.lease, "succeeded", b"\xc0", None, run_s) for job in jobs]
        self.boards.pop(worker, None)
        self.foreman.on_event(worker, messages.Done(outcomes), self.now)
        self.turn()

    def returned(self, worker: int, *jobs: Job) -> None:
        self.foreman.on_event(worker, messages.Returned([job.lease for job in jobs]), self.now)
        self.turn()

    def dies(
        self,
        worker: int,
        running: Job | None = None,
        finished: list[Job] | None = None,
        text: str = SIGKILL,
    ) -> None:
        self.boards.pop(worker, None)
        outcomes = [Outcome(job.id, job.lease, "succeeded", b"\xc0") for job in finished or []]
        death = Death(text, text == "exit code 0", outcomes, running.lease if running else None)
        self.foreman.on_death(worker, death, self.now)
        self.turn()

    # ---- the Router's side ---------------------------------------------------------------------------

    def hears(self, command: bytes, body: v2.Body) -> None:
        self.foreman.on_frames(v2.encode(command, body), self.now)
        self.turn()

    def informs(self) -> list[v2.Inform]:
        return [v2.decode(f[3], v2.Inform) for f in self._take(b"INFORM") if f[1] == v2.VERSION]

    def replies(self) -> list[v2.Reply]:
        return [v2.decode(f[3], v2.Reply) for f in self._take(b"REPLY")]

    def outcomes(self) -> dict[int, Outcome]:
        """Outcomes told since last asked, by lease; ACKs them."""
        replies = self.replies()
        for reply in replies:
            self.foreman.on_frames(v2.encode(b"ACK", v2.Ack(reply.n)), self.now)
        return {outcome.lease: outcome for reply in replies for outcome in reply.outcomes}

    def limit(self) -> int:
        """The credit told last."""
        kinds = {b"READY": v2.Ready, b"REPLY": v2.Reply}
        return [v2.decode(f[3], kinds[f[2]]).limit for f in self.all_frames if f[2] in kinds][-1]

    def _take(self, command: bytes) -> list[list[bytes]]:
        taken = [frames for frames in self.frames if frames[2] == command]
        self.frames = [frames for frames in self.frames if frames[2] != command]
        return taken

    def accept(self, *verdicts: Verdict) -> v2.Inform:
        """ACK the INFORM that was sent last; a new session."""
        inform = self.informs()[-1]
        self.sent = 0
        self.hears(b"ACK", v2.Informed(inform.n, list(verdicts)))
        return inform

    def jobs(self, count: int, name: str = "t.f", **fields: object) -> list[Job]:
        """New jobs."""
        made = []
        for _ in range(count):
            self.leases += 1
            made.append(Job(f"j{self.leases}", "default", name, b"\x92\x90\x80", lease=self.leases, **fields))  # type: ignore[arg-type]
        return made

    def request(self, count: int = 1, name: str = "t.f", **fields: object) -> list[Job]:
        """Send new jobs."""
        made = self.jobs(count, name, **fields)
        self.sent += count
        self.hears(b"REQUEST", v2.Request(self.sent, made))
        return made

    def train(self, name: str = "t.f", run_s: float = TINY_S, runs: int = KNOWN_AFTER) -> None:
        """Run some jobs of this name, so that its run time is known."""
        for _ in range(runs):
            (job,) = self.request(1, name)
            ((worker, _),) = self.given().items()
            self.done(worker, job, run_s=run_s)
        self.outcomes()


@pytest.fixture
def manager() -> Manager:
    """With two workers, accepted by its Router."""
    made = Manager()
    made.ready(1, 2)
    made.accept()
    return made


# ---- coming, and credit -----------------------------------------------------------------------------


def test_says_nothing_until_a_worker_is_ready() -> None:
    manager = Manager()
    manager.pass_time(1)
    assert (manager.connects, manager.frames) == (0, [])
    manager.ready(1)
    (inform,) = manager.informs()
    assert (inform.name, inform.nonce, inform.queues, inform.held) == (
        "m", "nonce", [(15, "email"), (10, "default")], [],
    )  # fmt: skip


def test_credit_grows_with_workers_that_are_ready() -> None:
    manager = Manager()
    manager.ready(1)
    manager.accept()
    assert manager.limit() == 1
    manager.ready(2)
    assert manager.limit() == 2


def test_credit_is_cumulative(manager: Manager) -> None:
    a, b = manager.request(2, "slow")
    given = manager.given()
    assert {worker: [job.id for job in jobs] for worker, jobs in given.items()} == {1: [a.id], 2: [b.id]}
    manager.done(1, a, run_s=1.0)
    assert manager.limit() == 3
    manager.done(2, b, run_s=1.0)
    assert manager.limit() == 4


def test_tiny_jobs_open_a_window_and_slow_ones_close_it(manager: Manager) -> None:
    manager.train(run_s=TINY_S)
    received = KNOWN_AFTER
    assert manager.limit() == received + 2 * (1 + limits.WINDOW_JOBS_MAX)
    (slow,) = manager.request(1, "slow")
    manager.done(1, slow, run_s=1.0)
    assert manager.limit() == received + 1 + 2


def test_a_fair_manager_says_so_and_asks_for_no_more_than_can_run() -> None:
    manager = Manager(fair=True)
    manager.ready(1, 2)
    assert manager.accept().fair
    manager.train(run_s=TINY_S)
    assert manager.limit() == KNOWN_AFTER + 2


def test_lookahead_is_about_window_s_of_work() -> None:
    lookahead = Lookahead()
    lookahead.learn("f", 100, 100 * 0.0005)
    assert lookahead.window == int(limits.WINDOW_S / 0.0005)
    assert "f" in lookahead.tiny
    lookahead.learn("g", 1, TINY_S)
    assert "g" not in lookahead.tiny, "one run proves nothing"


def test_a_single_outlier_does_not_make_a_tiny_job_slow() -> None:
    lookahead = Lookahead()
    lookahead.learn("f", 200, 200 * TINY_S)
    lookahead.learn("f", 1, 0.010)  # another process had the core for a time slice
    assert "f" in lookahead.tiny
    lookahead.learn("f", 1, 1.0)
    assert "f" not in lookahead.tiny


# ---- who gets what --------------------------------------------------------------------------------------


def test_tiny_jobs_are_given_ahead_in_equal_shares(manager: Manager) -> None:
    manager.train()
    manager.request(10)
    assert {worker: len(jobs) for worker, jobs in manager.given().items()} == {1: 5, 2: 5}


def test_a_job_of_unknown_length_gets_a_worker_to_itself(manager: Manager) -> None:
    manager.train()
    manager.request(1, "new")
    ((busy, _),) = manager.given().items()
    manager.request(4)
    assert list(manager.given()) == [3 - busy]


def test_nothing_is_put_behind_a_busy_worker_for_a_job_of_unknown_length(manager: Manager) -> None:
    manager.train()
    first = manager.request(4)
    given = manager.given()
    (new,) = manager.request(1, "new")
    assert manager.given() == {}
    manager.done(1, *given[1])
    assert manager.given() == {1: [new]}
    assert len(first) == 4


def test_what_a_stuck_worker_returns_goes_to_a_free_one(manager: Manager) -> None:
    manager.train()
    manager.request(6)
    given = manager.given()
    manager.done(2, *given[2])
    manager.returned(1, *given[1][1:])
    assert manager.given() == {2: given[1][1:]}
    assert manager.outcomes().keys() == {job.lease for job in given[2]}


def test_a_stuck_worker_gets_nothing_until_it_has_finished(manager: Manager) -> None:
    manager.train()
    manager.request(4)
    given = manager.given()
    manager.returned(1, given[1][1])
    assert manager.given()[2] == [given[1][1]]
    manager.request(2)
    assert 1 not in manager.given()
    manager.done(1, given[1][0])
    manager.request(4)
    assert 1 in manager.given()


@pytest.mark.parametrize("trained", [True, False])
def test_a_worker_that_gave_back_all_it_had_gets_work_again(manager: Manager, trained: bool) -> None:
    """They were called off before the first of them began."""
    if trained:
        manager.train()
    manager.request(4 if trained else 2)
    for worker, jobs in manager.given().items():
        kill(manager, *jobs)
        manager.returned(worker, *jobs)
    assert set(told(manager).values()) == {"returned"}
    manager.request(2)
    assert manager.given().keys() == {1, 2}


def test_a_worker_that_ended_its_job_before_its_return_arrives_is_not_stuck(manager: Manager) -> None:
    manager.train()
    manager.request(4)
    given = manager.given()
    manager.done(1, given[1][0])
    manager.returned(1, given[1][1])
    manager.done(2, *given[2])
    manager.given()
    manager.turn(backlog.WAIT_S * 2)
    manager.request(8)
    assert manager.given().keys() == {1, 2}


def test_what_nobody_here_can_take_goes_back_to_the_router(manager: Manager) -> None:
    manager.train()
    manager.request(4)
    given = manager.given()
    manager.returned(1, given[1][1])
    manager.returned(2, given[1][1], given[2][1])
    manager.turn(backlog.WAIT_S / 2)
    assert manager.outcomes() == {}
    manager.turn(backlog.WAIT_S)
    assert {lease: outcome.state for lease, outcome in manager.outcomes().items()} == {
        given[1][1].lease: "returned",
        given[2][1].lease: "returned",
    }
    assert manager.limit() == manager.sent, "and no more are asked for while both are stuck"


def test_a_worker_is_replaced_after_max_job_count() -> None:
    manager = Manager(1, max_job_count=2)
    manager.ready(1)
    manager.accept()
    assert manager.limit() == 1
    for _ in range(2):
        (job,) = manager.request(1)
        assert manager.given() == {1: [job]}
        if job.lease == 2:
            assert manager.spawned == [1, 2], "while the old one still runs its last job"
        manager.done(1, job)
    assert (1, messages.Stop()) in manager.told
    (job,) = manager.request(1)
    assert manager.given() == {}
    manager.ready(2)
    assert manager.given() == {2: [job]}
    manager.dies(1, text="exit code 0")
    assert manager.spawned == [1, 2]


def test_a_window_is_never_larger_than_what_workers_may_still_run() -> None:
    manager = Manager(1, max_job_count=KNOWN_AFTER + 4)
    manager.ready(1)
    manager.accept()
    manager.train()
    assert manager.limit() == KNOWN_AFTER + 4


def test_a_retiring_worker_that_does_not_leave_is_killed() -> None:
    manager = Manager(1, max_job_count=1)
    manager.ready(1)
    manager.accept()
    (job,) = manager.request(1)
    manager.done(1, job)
    manager.pass_time(limits.KILL_GRACE_S + 0.1)
    assert manager.killed == [1]


# ---- deaths ------------------------------------------------------------------------------------------------


def test_a_death_is_charged_to_the_job_that_ran_and_to_no_other(manager: Manager) -> None:
    manager.train()
    manager.request(6)
    given = manager.given()
    finished, running, waiting = given[1]
    manager.dies(1, running=running, finished=[finished])
    outcomes = manager.outcomes()
    assert outcomes[finished.lease].state == "succeeded"
    assert outcomes[running.lease].state == "crashed"
    assert outcomes[running.lease].failure == Failure("eventmq.JobCrashed", "worker process died: signal 9 (SIGKILL)")
    assert waiting.lease not in outcomes
    assert manager.spawned == [1, 2, 3]
    manager.done(2, *given[2])
    manager.ready(3)
    again = [job for jobs in manager.given().values() for job in jobs]
    assert again == [waiting]


def test_an_outcome_sent_just_before_death_counts_once(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.given()
    manager.done(1, job)
    manager.dies(1, running=job, finished=[job])
    assert [outcome.state for outcome in manager.outcomes().values()] == ["succeeded"]
    assert manager.replies() == []


def test_a_worker_that_dies_idle_is_replaced_and_charges_nobody(manager: Manager) -> None:
    manager.dies(1)
    assert manager.outcomes() == {}
    assert manager.spawned == [1, 2, 3]


def test_a_manager_whose_workers_cannot_start_ends() -> None:
    manager = Manager()
    manager.foreman.on_event(1, messages.Unready("ModuleNotFoundError: tasks"), manager.now)
    manager.dies(1, text="exit code 3")
    assert manager.exit == 1
    assert any("ModuleNotFoundError: tasks" in text for text in manager.reports)
    assert manager.frames == []


def test_replacements_that_die_at_start_are_spawned_ever_more_slowly(manager: Manager) -> None:
    manager.dies(1)
    pauses = []
    for _ in range(8):
        died = manager.now
        manager.dies(manager.spawned[-1], text="exit code 3")
        before = len(manager.spawned)
        while len(manager.spawned) == before:
            manager.turn(0.1)
        pauses.append(manager.now - died)
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pool.RESPAWN_S_MAX <= pauses[-1] < pool.RESPAWN_S_MAX + 0.2
    assert manager.exit is None


def test_a_job_is_killed_at_its_own_timeout_or_at_the_managers() -> None:
    manager = Manager(2, job_timeout_s=60.0)
    manager.ready(1, 2)
    manager.accept()
    (own,) = manager.request(1, options=v2.pack(v2.Options(timeout_s=2.0)))
    (general,) = manager.request(1)
    manager.given()
    manager.begin(1, own)
    manager.begin(2, general)
    manager.turn(1.9)
    assert manager.killed == []
    manager.turn(0.2)
    manager.turn(0.2)
    assert manager.killed == [1]
    manager.dies(1, running=own)
    assert manager.outcomes()[own.lease].failure == Failure(
        "eventmq.JobTimeout", "ran longer than its timeout of 2 s and was killed"
    )
    manager.turn(60)
    assert manager.killed == [1, 2]


def test_a_timeout_of_nought_is_none() -> None:
    manager = Manager(1, job_timeout_s=60.0)
    manager.ready(1)
    manager.accept()
    (job,) = manager.request(1, options=v2.pack(v2.Options(timeout_s=0.0)))
    manager.begin(1, job)
    manager.turn(10_000)
    assert manager.killed == []


def test_a_job_that_ended_while_its_killer_was_on_the_way_has_succeeded(manager: Manager) -> None:
    manager.train()
    manager.request(4, options=v2.pack(v2.Options(timeout_s=1.0)))
    first, second = manager.given()[1]
    manager.begin(1, first)
    manager.turn(1.1)
    assert manager.killed == [1]
    manager.dies(1, running=second, finished=[first])
    outcomes = manager.outcomes()
    assert outcomes[first.lease].state == "succeeded"
    assert outcomes[second.lease].state == "interrupted", "it was killed for the other's sake: not charged"


# ---- the conversation ---------------------------------------------------------------------------------------


def test_outcomes_are_repeated_until_acked(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.done(1, job)
    (first,) = manager.replies()
    manager.turn(limits.RESEND_S / 2)
    assert manager.replies() == []
    manager.turn(limits.RESEND_S / 2)
    (second,) = manager.replies()
    assert (second.n, second.outcomes) == (first.n, first.outcomes)
    manager.hears(b"ACK", v2.Ack(first.n))
    manager.turn(limits.RESEND_S * 2)
    assert manager.replies() == []


def test_unknown_peer_leads_to_inform_at_once_with_everything_held(manager: Manager) -> None:
    manager.train()
    jobs = manager.request(4)
    given = manager.given()
    finished = given[1][0]
    manager.done(1, finished)
    manager.replies()
    manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
    (inform,) = manager.informs()
    assert {(held.id, held.lease) for held in inform.held} == {(job.id, job.lease) for job in jobs}


def test_an_outcome_of_the_same_turn_as_the_inform_is_held(manager: Manager) -> None:
    (job,) = manager.request(1)
    outcome = Outcome(job.id, job.lease, "succeeded", b"\xc0")
    manager.foreman.on_event(1, messages.Done([outcome]), manager.now)
    manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
    (inform,) = manager.informs()
    assert inform.held == [Held(job.id, job.lease)]


def test_verdicts_are_obeyed(manager: Manager) -> None:
    manager.train()
    manager.request(6)
    given = manager.given()
    told, kept, unwanted = given[1]
    manager.done(1, told)
    manager.begin(1, kept)
    manager.begin(2, given[2][0])
    manager.frames.clear()
    manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
    manager.accept(
        Verdict(told.id, told.lease, "done"),
        Verdict(unwanted.id, unwanted.lease, "kill"),
        Verdict(kept.id, kept.lease, "keep"),
        Verdict(given[2][0].id, given[2][0].lease, "kill"),
    )
    assert manager.replies() == [], "what is done is not told again"
    assert manager.killed == [2], "what runs and is not wanted is killed"
    assert (1, messages.Return()) in manager.told, "what has not begun is fetched back"
    manager.returned(1, unwanted)
    manager.dies(2, running=given[2][0])
    manager.done(1, kept)
    assert manager.outcomes().keys() == {kept.lease}
    assert unwanted not in [job for jobs in manager.given().values() for job in jobs]


def test_outcomes_that_the_router_wants_are_told_in_the_new_session(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.done(1, job)
    manager.replies()
    manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
    manager.accept(Verdict(job.id, job.lease, "keep"))
    (reply,) = manager.replies()
    assert [outcome.lease for outcome in reply.outcomes] == [job.lease]
    assert reply.limit == 2, "counts begin at 0 in a new session"


def test_a_lost_request_is_noticed_by_the_next(manager: Manager) -> None:
    lost = manager.jobs(1)
    manager.sent += 1
    late = manager.request(1)
    (inform,) = manager.informs()
    assert inform.held == [], "neither the lost one nor those that came after it"
    assert manager.given() == {}
    assert lost != late


def test_a_lost_request_is_noticed_by_a_beat(manager: Manager) -> None:
    manager.hears(b"HEARTBEAT", v2.Beat(0.0, 0))
    assert manager.informs() == []
    manager.hears(b"HEARTBEAT", v2.Beat(0.0, 1))
    assert len(manager.informs()) == 1


def test_a_repeated_request_runs_once(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.hears(b"REQUEST", v2.Request(1, [job]))
    assert [job for jobs in manager.given().values() for job in jobs] == [job]
    assert manager.informs() == []


def test_requests_of_the_session_before_are_ignored(manager: Manager) -> None:
    manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
    manager.request(1)
    assert manager.given() == {}
    manager.accept()
    (job,) = manager.request(1)
    assert manager.given() == {1: [job]}


def test_an_unanswered_inform_is_repeated_ever_more_slowly() -> None:
    manager = Manager()
    manager.ready(1)
    manager.pass_time(limits.ROUTER_SILENCE_S - 0.2)
    assert len(manager.informs()) == 3  # at 0, 1 and 3 s


def test_a_silent_router_gets_a_new_connection(manager: Manager) -> None:
    manager.pass_time(limits.ROUTER_SILENCE_S - 0.2)
    assert manager.connects == 1
    manager.pass_time(0.4)
    assert manager.connects == 2
    assert len(manager.informs()) == 1


def test_our_own_stall_is_not_held_against_the_router(manager: Manager) -> None:
    manager.turn(0.1)
    manager.turn(60.0)
    assert manager.connects == 1


def test_work_goes_on_while_the_router_is_away_for_days(manager: Manager) -> None:
    a, b = manager.request(2)
    manager.given()
    manager.foreman.on_unsent(manager.now)
    manager.done(1, a)
    for _ in range(3):
        manager.pass_time(86_400, step=300)
        manager.foreman.on_unsent(manager.now)
    manager.done(2, b)
    manager.frames.clear()
    manager.foreman.on_sendable(manager.now)
    manager.turn()
    inform = manager.accept(Verdict(a.id, a.lease, "keep"), Verdict(b.id, b.lease, "keep"))
    assert {held.id for held in inform.held} == {a.id, b.id}
    assert manager.outcomes().keys() == {a.lease, b.lease}


def test_beats_carry_the_credit(manager: Manager) -> None:
    manager.request(1)
    manager.turn(limits.HEARTBEAT_S)
    beat = v2.decode(manager._take(b"HEARTBEAT")[-1][3], v2.Beat)
    assert beat.count == 2


# ---- stopping hand-outs ---------------------------------------------------------------------------------


def kill(manager: Manager, *jobs: Job, grace_s: float = 0.0) -> None:
    manager.hears(b"KILL", v2.Kill([Held(job.id, job.lease) for job in jobs], grace_s))


def told(manager: Manager) -> dict[str, str]:
    """States told since last asked, by job."""
    return {outcome.id: outcome.state for outcome in manager.outcomes().values()}


def test_without_a_grace_what_runs_is_killed_at_once(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job)
    assert (manager.asked, manager.terminated, manager.killed) == ([], [], [1])
    manager.dies(1, running=job)
    assert told(manager) == {job.id: "killed"}
    assert manager.limit() == 2, "while the replacement starts there is one worker"
    manager.ready(3)
    assert manager.limit() == 3


def test_what_runs_is_asked_then_terminated_then_killed(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job, grace_s=4.0)
    assert manager.asked == [(1, job.lease)], "at once"
    manager.pass_time(1.8)
    assert manager.terminated == []
    manager.pass_time(0.4)
    assert (manager.terminated, manager.killed) == ([1], [])
    manager.pass_time(1.5)
    assert manager.killed == []
    manager.pass_time(0.5)
    assert (manager.asked, manager.terminated, manager.killed) == ([(1, job.lease)], [1], [1]), "each once"
    assert told(manager) == {}, "not before it is over"
    manager.dies(1, running=job)
    assert told(manager) == {job.id: "killed"}


@pytest.mark.parametrize(("after_s", "state"), [(0.0, "stopped"), (2.5, "terminated")])
def test_a_worker_whose_job_stops_works_on(manager: Manager, after_s: float, state: str) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job, grace_s=4.0)
    manager.pass_time(after_s)
    manager.done(1, job)
    assert told(manager) == {job.id: state}
    manager.pass_time(4)
    assert (manager.killed, manager.spawned) == ([], [1, 2])
    assert manager.request(2)[0] in [job for jobs in manager.given().values() for job in jobs]


@pytest.mark.parametrize(("after_s", "state"), [(0.0, "stopped"), (2.5, "terminated")])
def test_a_worker_that_dies_of_it_is_no_crash(manager: Manager, after_s: float, state: str) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job, grace_s=4.0)
    manager.pass_time(after_s)
    manager.dies(1, running=job, text="exit code 1")
    assert told(manager) == {job.id: state}


def test_what_waits_behind_it_is_given_back_and_not_charged(manager: Manager) -> None:
    manager.train()
    manager.request(6)
    first, second, third = manager.given()[1]
    manager.begin(1, first)
    kill(manager, first, second, grace_s=0.2)
    assert (1, messages.Return()) in manager.told
    manager.returned(1, third)
    manager.pass_time(0.3)
    manager.dies(1, running=first)
    assert told(manager) == {first.id: "killed", second.id: "returned"}
    assert third in manager.given()[2]


def test_one_that_waits_here_is_returned_and_one_that_is_not_here_is_none_of_ours(manager: Manager) -> None:
    jobs = manager.request(3, "slow")
    assert manager.given().keys() == {1, 2}
    kill(manager, jobs[2], Job("other", "default", "t.f", b"", lease=99), grace_s=4.0)
    assert told(manager) == {jobs[2].id: "returned"}
    manager.done(1, jobs[0])
    assert manager.given() == {}


def test_one_that_begins_before_it_is_given_back_is_asked_then(manager: Manager) -> None:
    manager.train()
    manager.request(4)
    first, second = manager.given()[1]
    manager.begin(1, first)
    kill(manager, second, grace_s=4.0)
    assert manager.asked == []
    manager.done(1, first)
    manager.begin(1, second)
    manager.turn()
    assert manager.asked == [(1, second.lease)]


def test_a_second_order_gives_less_time_and_never_more(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job, grace_s=4.0)
    manager.pass_time(1.0)
    kill(manager, job, grace_s=40.0)
    manager.pass_time(1.2)
    assert manager.terminated == [1]
    kill(manager, job, grace_s=0.0)
    assert manager.killed == [1]


def test_a_new_session_changes_nothing_about_what_is_being_stopped(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    kill(manager, job, grace_s=4.0)
    for verdict in ("done", "keep"):
        manager.hears(b"REFUSED", v2.Refused(0, "unknown_peer"))
        manager.accept(Verdict(job.id, job.lease, verdict))
        manager.turn()
    assert manager.killed == []
    manager.done(1, job)
    assert told(manager) == {job.id: "stopped"}


def test_a_timeout_counts_while_it_is_being_stopped(manager: Manager) -> None:
    (job,) = manager.request(1, options=v2.pack(v2.Options(timeout_s=1.0)))
    manager.begin(1, job)
    kill(manager, job, grace_s=100.0)
    manager.pass_time(1.2)
    assert manager.killed == [1]
    manager.dies(1, running=job)
    assert told(manager) == {job.id: "killed"}


def test_draining_tells_the_workers_and_a_job_that_asks_for_a_retry_is_handed_out_again(manager: Manager) -> None:
    first, second = manager.request(2)
    manager.begin(1, first)
    manager.begin(2, second)
    manager.foreman.drain(manager.now)
    manager.turn()
    assert manager.asked == [(1, None), (2, None)]
    again = [Outcome(first.id, first.lease, "retry"), Outcome(second.id, second.lease, "retry", delay_s=60.0)]
    for worker, outcome in enumerate(again, 1):
        del manager.boards[worker]
        manager.foreman.on_event(worker, messages.Done([outcome]), manager.now)
    manager.turn()
    assert told(manager) == {first.id: "interrupted", second.id: "retry"}, "who wants a delay wants a retry"


def test_what_jobs_say_of_themselves_is_passed_on_in_order(manager: Manager) -> None:
    first, second = manager.request(2)
    for worker, job, value in ((1, first, b"\x01"), (2, second, b"\x05"), (1, first, b"\x02")):
        manager.foreman.on_event(worker, messages.Progress([v2.Report(job.id, job.lease, value)]), manager.now)
    manager.foreman.on_event(1, messages.Progress([v2.Report("x", 77, b"\x01")]), manager.now)
    manager.turn()
    (frames,) = manager._take(b"PROGRESS")
    assert v2.decode(frames[3], v2.Progress).reports == [
        v2.Report(first.id, first.lease, b"\x01"),
        v2.Report(second.id, second.lease, b"\x05"),
        v2.Report(first.id, first.lease, b"\x02"),
    ]
    manager.turn()
    assert manager._take(b"PROGRESS") == []


# ---- odds and ends --------------------------------------------------------------------------------------


def test_garbage_from_the_router_is_reported_and_ignored(manager: Manager) -> None:
    for frames in (
        [],
        [b""],
        [b"", b"eMQP/9", b"ACK", b""],
        [b"", v2.VERSION, b"NO", b""],
        [b"", v2.VERSION, b"ACK", b"\xc1"],
    ):
        manager.foreman.on_frames(frames, manager.now)
    manager.turn()
    assert manager.reports
    (job,) = manager.request(1)
    assert manager.given() == {1: [job]}


def test_replies_are_cut_into_batches() -> None:
    many = [Outcome(str(i), i, "succeeded") for i in range(limits.BATCH_JOBS_MAX * 2 + 1)]
    cut = batches(many, list(map(session.size_of, many)))
    assert [len(batch) for batch in cut] == [limits.BATCH_JOBS_MAX, limits.BATCH_JOBS_MAX, 1]
    large = [Outcome(str(i), i, "succeeded", bytes(limits.BATCH_BYTES // 2)) for i in range(4)]
    assert [len(batch) for batch in batches(large, list(map(session.size_of, large)))] == [2, 2]


# ---- leaving ---------------------------------------------------------------------------------------------------


def drained(manager: Manager) -> Iterator[bool]:
    """Workers that are told to stop leave, until the manager exits."""
    for _ in range(10):
        for worker in [worker for worker, command in manager.told if isinstance(command, messages.Stop)]:
            manager.told.remove((worker, messages.Stop()))
            manager.dies(worker, text="exit code 0")
        manager.turn(0.1)
        yield manager.exit is not None


def test_drain_finishes_what_runs_and_gives_back_what_waits(manager: Manager) -> None:
    manager.train()
    manager.request(4)
    given = manager.given()
    for worker in (1, 2):
        manager.begin(worker, given[worker][0])
    manager.frames.clear()
    manager.hears(b"DISCONNECT", v2.Empty())
    assert manager.limit() == manager.sent, "no credit is left"
    for worker in (1, 2):
        assert (worker, messages.Return()) in manager.told
        manager.returned(worker, given[worker][1])
    assert {o.state for o in manager.outcomes().values()} == {"returned"}
    manager.done(1, given[1][0])
    assert manager.exit is None
    manager.done(2, given[2][0])
    replies = manager.replies()
    assert not any(drained(manager)), "it waits for the ACK"
    for reply in replies:
        manager.hears(b"ACK", v2.Ack(reply.n))
    assert manager.exit == 0
    assert manager.frames[-1][2] == b"KBYE"


def test_drain_ends_in_time() -> None:
    manager = Manager(2, drain_s=3.0)
    manager.ready(1, 2)
    manager.accept()
    (job,) = manager.request(1)
    manager.begin(1, job)
    manager.foreman.drain(manager.now)
    manager.pass_time(2)
    assert 1 not in manager.killed
    manager.pass_time(1.1)
    assert 1 in manager.killed
    manager.dies(1, running=job)
    outcome = manager.outcomes()[job.lease]
    assert outcome.state == "interrupted", "it has begun, which is more than returned"
    assert any(drained(manager))


def test_a_second_request_to_leave_kills_at_once(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.begin(1, job)
    manager.foreman.drain(manager.now)
    manager.turn()
    assert 1 not in manager.killed
    manager.foreman.drain(manager.now)
    manager.turn()
    assert manager.killed == [1, 2]


def test_a_router_that_does_not_ack_holds_up_nobody_for_long(manager: Manager) -> None:
    (job,) = manager.request(1)
    manager.done(1, job)
    manager.foreman.drain(manager.now)
    manager.turn()
    for worker in (1, 2):
        manager.dies(worker, text="exit code 0")
    manager.pass_time(FAREWELL_S + 0.2)
    assert manager.exit == 0
    assert any("may run again" in text for text in manager.reports)


def test_jobs_that_arrive_while_draining_go_straight_back(manager: Manager) -> None:
    (running,) = manager.request(1)
    manager.foreman.drain(manager.now)
    (late,) = manager.request(1)
    assert manager.outcomes()[late.lease].state == "returned"
    assert manager.given() == {1: [running]}


# ---- eMQP/1.0 ------------------------------------------------------------------------------------------------------


class OldRouter:
    """A Router of the 2020 release, for a manager that speaks eMQP/1.0."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager

    def take(self, command: bytes) -> list[list[bytes]]:
        return self.manager._take(command)

    def sends(self, command: bytes, message_id: str, *frames: str) -> None:
        self.manager.foreman.on_frames(v1.encode(command, message_id, *frames), self.manager.now)
        self.manager.turn()

    def requests(self, message_id: str, headers: str = "reply-requested") -> None:
        call = {"path": "t", "callable": "f", "args": [1], "kwargs": {}, "class_args": [], "class_kwargs": {}}
        self.sends(b"REQUEST", message_id, "default", headers, json.dumps(["run", call]))


@pytest.fixture
def old() -> OldRouter:
    manager = Manager(2, wire="1.0")
    manager.ready(1, 2)
    router = OldRouter(manager)
    (inform,) = router.take(b"INFORM")
    assert inform[1] == v1.VERSION
    assert inform[4:] == [b'[[15, "email"], [10, "default"]]', b"worker"]
    router.sends(b"ACK", "a", inform[3].decode())
    return router


def test_1_0_one_ready_per_slot_and_one_after_each_job(old: OldRouter) -> None:
    assert len(old.take(b"READY")) == 2
    old.requests("x")
    ((worker, (job,)),) = old.manager.given().items()
    assert (job.id, job.name, calls.unpack_call(job.payload).args) == ("x", "t.f", [1])
    assert old.take(b"READY") == []
    outcome = Outcome(job.id, job.lease, "succeeded", v2.pack(42))
    old.manager.foreman.on_event(worker, messages.Done([outcome]), old.manager.now)
    old.manager.turn()
    (reply,) = old.take(b"REPLY")
    assert reply[4:] == [b'{"value":42}', b"x"]
    assert len(old.take(b"READY")) == 1


def test_1_0_no_reply_unless_requested(old: OldRouter) -> None:
    old.requests("x", "")
    ((worker, (job,)),) = old.manager.given().items()
    old.manager.done(worker, job)
    assert old.take(b"REPLY") == []


def test_1_0_a_failing_job_is_run_again_here(old: OldRouter) -> None:
    old.requests("x", "reply-requested,retry-count:1")
    for attempt in (1, 2):
        ((worker, (job,)),) = old.manager.given().items()
        assert job.attempt == attempt
        outcome = Outcome(job.id, job.lease, "failed", b"", Failure("builtins.ValueError", "no"))
        old.manager.foreman.on_event(worker, messages.Done([outcome]), old.manager.now)
        old.manager.turn()
    (reply,) = old.take(b"REPLY")
    assert reply[4:] == [b'{"value":"no"}', b"x"]


def test_1_0_timeout_header(old: OldRouter) -> None:
    old.requests("x", "reply-requested,timeout:2")
    ((worker, (job,)),) = old.manager.given().items()
    old.manager.begin(worker, job, ago=2.1)
    old.manager.turn()
    assert old.manager.killed == [worker]
    old.manager.dies(worker, running=job)
    (reply,) = old.take(b"REPLY")
    assert reply[4:] == [b'{"value":"TimeoutError"}', b"x"]


def test_1_0_beats_every_three_seconds_and_gives_up_after_fifteen(old: OldRouter) -> None:
    old.manager.pass_time(9.5)
    assert len(old.take(b"HEARTBEAT")) == 4
    old.manager.pass_time(6)
    assert old.manager.connects == 2


def test_people_hear_of_it_when_no_router_answers_and_not_all_the_time() -> None:
    manager = Manager()
    manager.ready(1, 2)
    manager.pass_time(conversation.UNANSWERED_S - 1)
    assert manager.reports == []
    manager.pass_time(20)
    assert [text for text in manager.reports if "no Router answers" in text] == manager.reports
    assert len(manager.reports) == 1
    manager.accept()
    manager.reports.clear()
    manager.pass_time(3)
    assert manager.reports == []


def test_it_is_of_use_while_the_router_knows_it_and_it_does_not_drain() -> None:
    manager = Manager()
    manager.ready(1, 2)
    assert manager.foreman.absence == "the Router does not know it"
    manager.accept()
    assert manager.foreman.absence == ""
    manager.pass_time(limits.ROUTER_SILENCE_S + 0.2)
    assert manager.foreman.absence == "the Router does not know it"
    manager.accept()
    manager.foreman.drain(manager.now)
    assert manager.foreman.absence == "it drains"
