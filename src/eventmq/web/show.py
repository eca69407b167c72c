"""Data as people read it: the templates, and the words and forms that they use for numbers and times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlencode

import jinja2
import msgspec
from starlette.requests import Request

from eventmq.client import query
from eventmq.client.acts import KINDS
from eventmq.protocol.administration import STATES, Selection
from eventmq.values import iso, some, span
from eventmq.web import charts
from eventmq.web.guard import may

THEMES = ("light", "dark")

THEME = "eventmq_theme"
"""A cookie with the theme that was chosen; without it the browser's own counts."""


def url(base: str, path: str, **given: Any) -> str:
    """A link of ours; what is None or empty is left out."""
    text = urlencode({name: value for name, value in given.items() if value not in (None, "")})
    return f"{base}{path}" + (f"?{text}" if text else "")


def within(q: str, since: float, until: float) -> str:
    """A query about jobs that were accepted in a stretch of time besides."""
    return query.text_of(msgspec.structs.replace(query.parse(q, until), since=since, until=until))


@cache
def environment() -> jinja2.Environment:
    """The templates; what they are given is escaped wherever it stands."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "states": STATES,
        "within": within,
        "query_of": lambda **given: query.text_of(Selection(**given)),
        "outcomes": charts.OUTCOMES,
        "kinds": KINDS,
    }
    made.filters |= {each.__name__: each for each in (count, plain, some, span, short, progress, share, charts.points)}
    made.filters["iso"] = partial(iso, timespec="seconds")
    made.filters["json"] = lambda value: msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return made


def page(template: str, request: Request, base: str, **given: Any) -> str:
    """A page.

    Args:
        template: Its name.
        request: What is answered.
        base: The path below which we are.
        given: What the template shows.
    """
    role, theme = request.state.role, request.cookies.get(THEME, "")
    path = request.url.path.removeprefix(base) or "/"
    return (
        environment()
        .get_template(f"{template}.html")
        .render(
            base=base,
            url=partial(url, base),
            role=role,
            may=partial(may, role),
            path=path,
            here=f"{base}{path}" + (f"?{request.url.query}" if request.url.query else ""),
            now=time(),
            asked=request.query_params.get("q", ""),
            theme=theme if theme in THEMES else "auto",
            **given,
        )
    )


def count(number: float) -> str:
    """A number, its thousands apart."""
    return f"{round(number, 3):,}".removesuffix(".0").replace(",", "\u202f")


def plain(value: Any, name: str = "") -> str:
    """Anything that is called `name`, as people read it; queues and their bounds as they are written in settings."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, int | float):
        return iso(value, "seconds") if name == "wall" else short(value) if name.endswith("_s") else count(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        parts = (
            sorted(each, key=lambda part: isinstance(part, int)) if isinstance(each, tuple) else [each]
            for each in value
        )
        return ", ".join(":".join(map(str, each)) for each in parts)
    return str(value)


def short(seconds: float) -> str:
    """A length of time that may be tiny: `1.2 ms`, `3.4 s`, `3 m 5 s`."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else span(seconds)


def share(told: Any) -> float | None:
    """How much of a job is done, from 0 to 1, if it says so."""
    done, total = (told.get("done"), told.get("total")) if isinstance(told, dict) else (told, 1.0)
    if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
        return min(max(done / total, 0.0), 1.0)
    return None


def progress(told: Any) -> str:
    """How far a job says it is, in words."""
    if isinstance(told, dict) and "done" in told:
        of = f" of {told['total']}" if told.get("total") is not None else ""
        return f"{told['done']}{of} {told.get('text', '')}".strip()
    return f"{told:.0%}" if isinstance(told, float) else str(told)
