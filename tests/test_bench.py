"""The comparison with the peers: its parts work, tiny and with our own system only; its table is right."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).parent.parent / "bench"

RATES = {"one", "callers", "bulk", "drain", "through", "through_result", "old", "cpu_us"}


@pytest.fixture(autouse=True)
def _bench_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)


def compare(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "compare.py"), "--out", str(out), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_every_measurement_of_our_own_system_has_a_figure(tmp_path: Path) -> None:
    done = compare(tmp_path, "--only", "eventmq/none,emqp1/eventmq", "--rounds", "1", "--seconds", "0.05")
    assert done.returncode == 0, done.stderr
    contenders = json.loads((tmp_path / "bench.json").read_text())["contenders"]
    figures = contenders["eventmq/none"]["rounds"][0] | contenders["emqp1/eventmq"]["rounds"][0]
    assert figures.keys() == RATES | {f"{name}_p{n}" for name in ("idle", "result") for n in (50, 95, 99)}
    assert all(value > 0 for value in figures.values())
    assert figures["idle_p50"] <= figures["idle_p99"]
    assert "| eventmq/none" in done.stdout
    assert ElementTree.parse(tmp_path / "bench.svg").getroot().tag.endswith("svg")
    assert "killing what is left" not in done.stderr
    assert not list(tmp_path.glob("scratch-*"))


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import compare as module

    def commands(contender: str, *_: Any) -> list[list[str]]:
        said = {"figures": {"old": 1.0}, "versions": {}}
        good = f"print({json.dumps(said)!r})"
        return [[sys.executable, "-c", "exit('no luck')" if contender == "rq/off" else good]]

    monkeypatch.setattr(module, "commands", commands)
    data: dict[str, Any] = {"contenders": {}, "machine": {}}
    list(module.rounds(["rq/off", "huey/off"], Namespace(rounds=2, seconds=0.05), data, tmp_path))
    failed, went_on = data["contenders"]["rq/off"], data["contenders"]["huey/off"]
    assert failed["rounds"] == []
    assert [text.split()[-2:] for text in failed["failures"]] == [["no", "luck"]] * 2
    assert went_on["rounds"] == [{"old": 1.0}] * 2
    assert "rq/off failed 2 times" in module.table(data)


def test_ours_is_compared_with_the_best_peer_of_each_figure() -> None:
    from report import COLUMNS, table

    def made_up(value: float, **given: float) -> dict[str, float]:
        return {figure: value for column in COLUMNS for figure in column.figures} | given

    data = {
        "eventmq/full": made_up(100.0, bulk=1000.0),
        "rq/off": made_up(40.0, bulk=100.0, idle_p99=500.0),
        "huey/off": made_up(50.0, bulk=10.0, idle_p50=200.0),
    }
    entries = {name: {"rounds": [figures] * 3, "versions": {}, "failures": []} for name, figures in data.items()}
    lines = table({"contenders": entries, "machine": {}}).splitlines()
    (ratios,) = ([cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| full ÷"))
    assert ratios[1:3] == ["full ÷ best peer on off", "10 rq"]
    assert ratios[6] == "2 huey"
    assert ratios[8] == "2.5 rq / 2.5 rq / 2 huey", "of times the smallest is the best"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--rounds", "0"), "rounds and seconds have to be above 0"),
        (("--only", "huey/off"), "BENCH_REDIS_SERVER=/no/redis is no program that can be started"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], said: str
) -> None:
    monkeypatch.setenv("BENCH_REDIS_SERVER", "/no/redis")
    done = compare(tmp_path, *flags)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_contender_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = compare(tmp_path, "--only", "celery/of")
    assert done.returncode == 1
    assert "celery/of" in done.stderr
    assert "celery/off" in done.stderr


@pytest.mark.parametrize("name", ["backlog", "queues", "managers", "clients", "payload", "priorities", "delayed"])
def test_every_curve_has_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import crowd
    import curves

    for module, small, number in ((curves, "THROUGH", 500), (crowd, "JOBS", 500), (crowd, "IDLE_S", 0.05)):
        monkeypatch.setattr(module, small, number)
    assert curves.CURVES.keys() == curves.CURVES.keys() | {name}
    figures = curves.CURVES[name].measure(20)
    assert figures["rate"] > 0
    assert "memory_mb" in figures


def test_a_curve_is_drawn_with_its_slope() -> None:
    from curves import drawn, slope

    flat = {str(point): {"rate": 100.0} for point in (1, 10, 100)}
    steep = {str(point): {"rate": 1000.0 / point} for point in (1, 10, 100)}
    assert slope({int(point): each for point, each in flat.items()}) == pytest.approx(0.0)
    assert slope({int(point): each for point, each in steep.items()}) == pytest.approx(-0.9)
    svg = ElementTree.fromstring(drawn({"queues": flat, "payload": steep}))
    texts = [each.text for each in svg.iter() if each.text]
    assert "-90.0% with each ten times more" in texts
    assert {"Queues", "Bytes of arguments", "1,000"} <= set(texts)
