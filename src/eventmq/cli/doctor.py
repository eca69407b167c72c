"""`eventmq doctor`: looks at everything that can be seen from here, with a Router or without, and says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from eventmq.cli.ask import listened_to, router
from eventmq.cli.ending import FAILED, OK, UNREACHABLE, Mistake
from eventmq.cli.flags import asking, load, options, output, verb
from eventmq.cli.tables import Table, Told, tell
from eventmq.errors import BrokerUnavailable
from eventmq.monitoring import findings
from eventmq.monitoring.findings import ERROR, WARNING, Finding, judged
from eventmq.settings import COMPONENTS, LISTENING


@verb
@options(asking, output)
def doctor(config: str | None, addr: str | None, timeout: float, form: str) -> int:
    """Look for what is wrong: settings, versions, limits, clocks, the store, peers. Each finding says what to do.

    Exit code 1 if one of them is an error; 69 if no Router answers: then it says what can be seen without one.

    \b
    eventmq doctor
    eventmq doctor -C /etc/eventmq.conf -a tcp://127.0.0.1:47293
    eventmq doctor -o json
    """
    found = [*findings.of_machine(), *dict.fromkeys(_of_settings(config))]  # what several components read is said once
    code = OK
    try:
        with router(config, addr, timeout) as admin:
            found += findings.of_router(admin)
    except Mistake:
        pass  # told among the settings
    except (BrokerUnavailable, TimeoutError) as error:
        code = UNREACHABLE
        found.append(Finding(ERROR, "Router", str(error), "eventmq up starts all there is"))
        found += _without_router(config)
    if code == OK and any(each.level == ERROR for each in found):
        code = FAILED
    rows = [(each.level, each.what, "; ".join(filter(None, (each.text, each.advice)))) for each in found]
    table = Table("Findings", ("level", "what", "finding; what to do"), rows, folds=True)
    return tell(Told([each._asdict() for each in found], table, code=code), form)


def _of_settings(config: str | None) -> Iterator[Finding]:
    """Where each setting that is no default comes from; what is wrong in them."""
    for component in COMPONENTS:
        try:
            settings = load(component, config)
        except Mistake as error:
            yield Finding(ERROR, f"settings of {component}", str(error), "correct it; nothing of it starts before")
            continue
        assert settings.source is not None
        yield from (Finding(WARNING, "settings", note) for note in settings.source.notes)
        shown = settings.shown()
        for name, place in sorted(settings.source.origins.items()):
            yield Finding(findings.OK, "setting", f"{name} = {shown[name]!r}, from {place}")


def _without_router(config: str | None) -> Iterator[Finding]:
    try:
        settings = load("router", config)
    except Mistake:
        return
    for name in LISTENING["router"]:
        if text := getattr(settings, name):
            taken = listened_to(text)
            used = "somebody listens there; a Router of ours could not" if taken else "nobody listens there"
            yield judged(taken, "ports", f"{name} {text}: {used}")
    if settings.store.startswith("sqlite:///"):
        path = Path(settings.store.removeprefix("sqlite:///"))
        there = f"{path.stat().st_size:,} bytes" if path.exists() else "not there yet; a Router makes it"
        yield Finding(findings.OK, "store", f"{path}: {there}")
        if path.parent.is_dir():
            yield findings.of_space(shutil.disk_usage(path.parent).free)
