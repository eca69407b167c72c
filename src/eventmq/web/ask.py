"""What a page is asked: its parameters, checked, and what it needs to find the answer.

A view is a function of this and returns plain data; it knows nothing of HTTP or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventmq.client.admin import Admin
from eventmq.errors import EventMQError
from eventmq.limits import NAME_CHARS_MAX
from eventmq.settings import Settings
from eventmq.web.bulk import Bulk

Page = dict[str, Any]
"""What stands on a page, by name, as its template and JSON have it. Times are wall times, seconds since the epoch."""


class Wrong(EventMQError):
    """A parameter is not what it can be."""


@dataclass(frozen=True)
class Ask:
    """One request, for a view.

    Attributes:
        admin: The Router.
        given: Query or form: texts by name, in order.
        now: Wall time.
        settings: Ours.
        bulk: Acts on many jobs that are under way.
        role: Of who asks.
    """

    admin: Admin
    given: Mapping[str, Sequence[str]]
    now: float
    settings: Settings
    bulk: Bulk
    role: str = "admin"

    def text(self, name: str, chars_max: int = NAME_CHARS_MAX, needed: bool = False) -> str:
        """A text; empty if it is not given.

        Raises:
            Wrong: It is too long, or missing where it is needed.
        """
        text = self.given.get(name, ("",))[-1]
        if len(text) > chars_max:
            raise Wrong(f"{name} has {len(text)} characters, expected at most {chars_max}")
        if needed and not text:
            raise Wrong(f"{name} is missing")
        return text

    def choice(self, name: str, words: Sequence[str]) -> str:
        """One of these words; the first one if it is not given.

        Raises:
            Wrong: Another one.
        """
        text = self.text(name) or words[0]
        if text not in words:
            raise Wrong(f"{name} is {text!r}, expected {', '.join(words)}")
        return text

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 0; None if it is not given.

        Raises:
            Wrong: Something else.
        """
        text = self.text(name, len(str(most)))
        if not text:
            return None
        if not (text.isascii() and text.isdigit()) or int(text) > most:
            raise Wrong(f"{name} is {text!r}, expected a whole number from 0 to {most}")
        return int(text)
