"""Keeps arguments that are nobody's business off the pages: by their names, at any depth. Pure.

A hidden value reads `HIDDEN`. Who runs a job again with edited arguments sends that back where he has left it alone,
and it is filled in from the job that he started from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "•••hidden•••"


class Redaction:
    """Hides what has one of these words in its name."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(word.lower() for word in words)

    def hides(self, name: str) -> bool:
        """Whether something of this name, or with it in its path, is hidden."""
        return any(word in name.lower() for word in self._words)

    def of(self, value: Any) -> Any:
        """The value without what is hidden."""
        if isinstance(value, Mapping):
            return {name: HIDDEN if self.hides(str(name)) else self.of(inner) for name, inner in value.items()}
        return [self.of(inner) for inner in value] if isinstance(value, list | tuple) else value

    def filled(self, edited: Any, original: Any) -> Any:
        """What was edited, with what was hidden in it taken from the original."""
        if isinstance(edited, Mapping):
            known = original if isinstance(original, Mapping) else {}
            return {
                name: known.get(name)
                if self.hides(str(name)) and inner == HIDDEN
                else self.filled(inner, known.get(name))
                for name, inner in edited.items()
            }
        if isinstance(edited, list):
            known_items = original if isinstance(original, list | tuple) else []
            return [
                self.filled(inner, known_items[number] if number < len(known_items) else None)
                for number, inner in enumerate(edited)
            ]
        return edited
