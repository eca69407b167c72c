"""What all tests share: a sample or all of it, and in CI a part that is missing is a failure, not a skip."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="all of what the suite takes a sample of; may take an hour"
    )
    parser.addoption("--messages", type=int, default=5_000, help="how many a real Router is sent by the fuzzer")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("thorough", max_examples=2_000, deadline=None)
    settings.register_profile("sample", deadline=None)
    settings.load_profile("thorough" if config.getoption("--thorough") else "sample")


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time: `make faults` and its like have it, the suite has not."""
    return bool(request.config.getoption("--thorough"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turns a skip into a failure when CI is set: there, everything that the suite needs has to be there."""
    outcome = yield
    report = outcome.get_result()
    # testers tell each other of it in UTF-8, which has no place for bytes that were none
    report.sections = [(title, _encodable(text)) for title, text in report.sections]
    if report.failed and _encodable(said := str(report.longrepr)) != said:
        report.longrepr = _encodable(said)
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, but CI must run everything: {call.excinfo and call.excinfo.value}"


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
