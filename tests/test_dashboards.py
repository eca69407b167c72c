"""What comes with the metrics: every name, label and state that the dashboard and the alert rules use is exposed."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from itertools import combinations
from typing import Any

import click
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from test_monitoring import asked, busy

from eventmq.cli.main import eventmq
from eventmq.monitoring.metrics import METRICS, text_of

DATA = files("eventmq.monitoring").joinpath("data")


def rules() -> list[dict[str, Any]]:
    """The rules. Reads what of YAML the file needs, and fails at everything else."""
    lines = [line for line in DATA.joinpath("rules.yaml").read_text().splitlines() if not line.startswith("#")]
    assert lines[:3] == ["groups:", "  - name: eventmq", "    rules:"]
    found: list[dict[str, Any]] = []
    place: dict[str, Any] = {}
    for line in lines[3:]:
        match = re.fullmatch(r"( {6}- | {8}| {10})(\w+):(?: (.+))?", line)
        assert match, line
        indent, key, value = match.groups()
        if indent.endswith("- "):
            found.append({})
        if len(indent) == 8:
            place = found[-1]
        if value is None:
            place = found[-1][key] = {}
            continue
        if value.startswith('"'):
            value = json.loads(value)
        else:
            assert not re.search(r": | #|^[\[\]{}&*!|>%@`']", value), f"needs quotes: {line}"
        assert key not in place, line
        place[key] = value
    return found


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DATA.joinpath("dashboard.json").read_text())
    return read


def expressions() -> list[str]:
    panels = (target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ()))
    return [*panels, *(rule["expr"] for rule in rules())]


@pytest.fixture(scope="module")
def exposed() -> dict[str, dict[str, set[str]]]:
    """By the name of a sample: its labels, and the values that each has."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text_of(asked(busy()), inside=False)[0].decode()):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
            found.setdefault(sample.name, {})
    return found


@pytest.mark.parametrize("expression", expressions())
def test_what_an_expression_names_is_exposed(expression: str, exposed: dict[str, dict[str, set[str]]]) -> None:
    selectors = re.findall(r"\b(eventmq_\w+)(?:\{([^}]*)\})?", expression)
    assert selectors
    for name, selector in selectors:
        assert name in exposed
        for label, operator, values in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', selector):
            assert label in exposed[name], f"{name} has no label {label}"
            if label != "reason" and "$" not in values:
                assert set(values.split("|")) <= exposed[name][label], f"{name}{{{label}{operator}…}}"
    known = {"instance", "le"}.union(*(exposed[name] for name, _ in selectors))
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(labels.split(", ")) <= known
    rated = set(re.findall(r"(?:rate|increase)\((eventmq_\w+)", expression))
    counting = {name for name, _ in selectors if re.search("_(total|bucket)$", name)}
    assert rated == counting, "counters are rated, nothing else is"


def test_every_alert_says_what_is_wrong_and_how_bad_that_is() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) >= 10
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))
        text = " ".join(rule["annotations"].values())
        for command in re.findall("`eventmq ([^`]+)`", text):
            first, second, *_ = [*command.split(), ""]
            verb = getattr(eventmq.commands[first], "real", eventmq.commands[first])
            assert not isinstance(verb, click.Group) or verb.get_command(click.Context(verb), second), command
        assert text.count("{{") == text.count("}}") == len(re.findall(r"\{\{ \$(?:value|labels\.\w+)[^{}]* \}\}", text))


def test_the_dashboard_asks_for_its_data_source_and_its_panels_lie_side_by_side() -> None:
    read = dashboard()
    variables = {each["name"]: each["type"] for each in read["templating"]["list"]}
    assert variables == {"datasource": "datasource", "queue": "query"}
    places = []
    for panel in read["panels"]:
        place = panel["gridPos"]
        places.append((place["x"], place["y"], place["x"] + place["w"], place["y"] + place["h"]))
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    for a, b in combinations(places, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], "two panels on one place"
    assert len({panel["id"] for panel in read["panels"]}) == len(read["panels"])
    assert "uid" not in re.sub(r'"uid": "(\$\{datasource\}|eventmq)"', "", json.dumps(read))


def test_most_of_what_is_exposed_is_shown_or_watched() -> None:
    used = set(re.findall(r"eventmq_\w+", " ".join(expressions())))
    left = {row.name for row in METRICS} - {re.sub("_bucket$", "", name) for name in used}
    assert left <= {
        "eventmq_build_info",
        "eventmq_router_draining",
        "eventmq_outcomes_stale_total",
        "eventmq_queues",
        "eventmq_queue_draining",
        "eventmq_schedulers",
        "eventmq_schedule_last_run_timestamp_seconds",
    }


@pytest.mark.parametrize(("verb", "file"), [("dashboard", "dashboard.json"), ("rules", "rules.yaml")])
def test_the_command_line_prints_them(verb: str, file: str) -> None:
    told = CliRunner().invoke(eventmq, ["metrics", verb])
    assert (told.exit_code, told.output) == (0, DATA.joinpath(file).read_text())
