"""The guard against slow decay: the hot paths do no more work than `bench/work.json` says; a loss is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventmq.router import Router

BENCH = Path(__file__).parent.parent / "bench"

ADVICE = "If that is worth it, `make work RECORD=1` makes it the new standard; say why in the commit."


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    import work

    return work


def test_no_hot_path_does_more_work_than_is_recorded(work: Any) -> None:
    recorded = json.loads(work.RECORDED.read_text())
    assert recorded.keys() == work.SCENARIOS.keys(), ADVICE
    assert not (losses := work.losses(work.count_work(), recorded)), "\n".join([*losses, ADVICE])


def test_a_quarter_more_of_anything_is_a_loss(work: Any) -> None:
    recorded = json.loads(work.RECORDED.read_text())
    assert work.losses(recorded, recorded) == []
    for name, figures in recorded.items():
        for what, number in figures.items():
            if name != "reference" and number > 0.1:
                worse = recorded | {name: figures | {what: 1.25 * number}}
                assert len(work.losses(worse, recorded)) == 1, (name, what)


def test_a_loss_planted_in_the_router_is_seen(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = json.loads(work.RECORDED.read_text())
    commit, wasted = Router.commit, recorded["settle"]["opcodes"] * work.JOBS // 4

    def wasteful(router: Router) -> None:
        for _ in range(int(wasted // 3)):  # three steps each
            pass
        commit(router)

    monkeypatch.setattr(Router, "commit", wasteful)
    monkeypatch.setattr(work, "SCENARIOS", {name: work.SCENARIOS[name] for name in ("reference", "settle")})
    (sentence,) = work.losses(work.count_work(), recorded)
    assert sentence.startswith("settle: ")
