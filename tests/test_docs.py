"""The documents say what the code does: the lifecycle's diagram, the reasons of refusals, the README's links."""

from __future__ import annotations

import re
from pathlib import Path

from eventmq.broker.lifecycle import DELAYED, TERMINAL, TRANSITIONS, WAITING
from eventmq.cli.ending import EXIT_CODES
from eventmq.client.options import Common, Given
from eventmq.errors import REASONS
from eventmq.settings import table

ROOT = Path(__file__).parent.parent


def test_the_lifecycles_diagram_is_the_transition_table() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text()
    drawn = set(re.findall(r"^    (\S+) --> (\S+?)(?:: (\w+))?$", text, re.MULTILINE))
    table = {(source, target, event) for event, (sources, target) in TRANSITIONS.items() for source in sources}
    ends = {(state, "[*]", "") for state in TERMINAL}
    assert drawn == table | ends | {("[*]", WAITING, "accept"), ("[*]", DELAYED, "accept")}


def test_every_reason_of_a_refusal_is_documented() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    section = text[text.index("## 4. Refusals") : text.index("## 5.")]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(REASONS)


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", text[text.index("## Settings") :], re.MULTILINE))
    assert {row.name for row in table()} <= documented


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text[text.index("## Exit codes") :], re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == list(EXIT_CODES.items())


def test_every_option_of_a_job_is_documented() -> None:
    text = (ROOT / "docs/jobs.md").read_text()
    heads = re.findall(r"^\| (`[^|]+`) \|", text[text.index("## Options") : text.index("## Retries")], re.MULTILINE)
    documented = {name for head in heads for name in re.findall(r"\w+", head)}
    assert documented == set(Given.__annotations__) | set(Common.__annotations__)
