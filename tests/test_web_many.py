"""The dashboard before a real Router and store with many jobs: what a page takes does not grow with their number."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from world import World, job

from eventmq.broker.outbox import ADMINISTRATIVE
from eventmq.client.admin import Admin
from eventmq.errors import QuestionRefused
from eventmq.protocol import v2
from eventmq.router import Router
from eventmq.settings import Settings
from eventmq.web.app import Dashboard, create_app

BENCH = Path(__file__).parent.parent / "bench"
FEW, MANY = 5_000, 20_000
LOOKED_THROUGH_S = 1.0
"""Far above what `SEARCH_S` allows a page, and what follows it."""

OLDEST = f"{1:032x}"
QUICK = ("/", "/failures", "/queues", "/queue?name=rare", "/workers", "/types", f"/job?id={OLDEST}")
LISTS = ("", "state:dead", "state:dead queue:rare", "since:1s", f"id:{OLDEST}")
NOWHERE = ("name:nothing.such", "worker:nobody", "state:dead error:TypeError", "until:1970-01-01T00:00:01Z", "arg.0:8")


class Turned(Admin):
    """Asks a Router that is turned by hand, and measures the turns."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.turns_s: list[float] = []

    def close(self) -> None:
        pass

    def ask(self, command: str, **params: Any) -> Any:
        question = (ADMINISTRATIVE, [b"dashboard", *v2.encode(command.encode(), v2.Question(1, params))])
        began = time.process_time()
        sent = self.router.turn([question], [], time.monotonic(), time.time())
        self.turns_s.append(time.process_time() - began)
        (answer,) = (each.frames for each in sent if each.peer == b"dashboard")
        if answer[2] == b"REFUSED":
            raise QuestionRefused(v2.decode(answer[3], v2.Refused).text)
        return v2.decode(answer[3], v2.Answer).answer


class Site:
    """A dashboard before so many dead jobs and as many waiting ones."""

    def __init__(self, path: Path, jobs: int) -> None:
        from operators import filled

        self.store = filled(str(path), jobs, jobs)
        self.admin = Turned(Router(self.store))
        self.client = TestClient(create_app(Dashboard(Settings(), self.admin, self.admin)), "http://localhost")

    def cpu_s(self, page: str) -> float:
        """What a page takes."""
        found = []
        for _ in range(3):
            began = time.process_time()
            assert self.client.get(page).status_code == 200
            found.append(time.process_time() - began)
        return min(found)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        folder = tmp_path_factory.mktemp("many")
        made = Site(folder / "few.db", FEW), Site(folder / "many.db", MANY)
    yield made
    for site in made:
        site.store.close()


@pytest.mark.parametrize("page", [*QUICK, *(f"/jobs?q={query}" for query in LISTS)])
def test_four_times_the_jobs_make_no_page_slower(sites: tuple[Site, Site], page: str) -> None:
    few, many = sites
    assert many.cpu_s(page) < 2 * few.cpu_s(page) + 0.02


def test_ten_thousand_queues_cost_a_page_about_jobs_or_one_queue_no_more() -> None:
    world = World()
    for first in range(0, 9_000, 1_000):
        world.enqueue(*(job(f"j{n:05}", queue=f"q{n:05}") for n in range(first, first + 1_000)))
    admin = Turned(world.router)
    client = TestClient(create_app(Dashboard(Settings(), admin, admin)), "http://localhost")
    for page in ("/jobs", "/queue?name=q00007", "/job?id=j00007"):
        admin.turns_s.clear()
        assert client.get(page).status_code == 200
        assert len(admin.turns_s) < 10, page


@pytest.mark.parametrize("query", NOWHERE)
def test_a_search_that_finds_nothing_stops_and_says_where_to_go_on(sites: tuple[Site, Site], query: str) -> None:
    site = sites[1]
    site.admin.turns_s.clear()
    began = time.process_time()
    found = site.client.get("/jobs.json", params={"q": query}).json()
    assert time.process_time() - began < LOOKED_THROUGH_S
    assert not found["jobs"]
    assert found["searched_on"] == (found["next"] is not None)
    turns = sorted(site.admin.turns_s)
    assert turns[len(turns) // 2] < 0.02, "no answer holds up the Router's loop"
