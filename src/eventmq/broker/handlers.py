"""The tables of the sockets: which command of which version is whose business."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from eventmq import limits
from eventmq.protocol import v1, v2


class Handler(NamedTuple):
    """What to do with one command: the type of its eMQP/2.0 body (None: eMQP/1.0 frames), and the method's name.

    Attributes:
        more: What else the method is given.
        many: A method for messages that came one after the other, as lists of frames: eMQP/1.0 has one job in each.
    """

    method: str
    body: type[v2.Body] | None = None
    more: tuple[Any, ...] = ()
    many: str = ""


Handlers = dict[tuple[bytes, bytes], Handler]
"""(version, command) → handler: one such table for each socket."""


Message = tuple[str, list[bytes]]
"""A socket, and frames with the sender's identity in front."""


def together(received: Iterable[Message], tables: dict[str, Handlers]) -> Iterator[tuple[str, Iterator[Message]]]:
    """Messages in their order: those that one method takes `many` of, with its name; "" = each is handled alone."""

    def many(message: Message) -> str:
        socket, frames = message
        if not 5 <= len(frames) <= limits.FRAMES_MAX or frames[2] != v1.VERSION or frames[1]:
            return ""
        handler = tables[socket].get((v1.VERSION, frames[3]))
        return handler.many if handler else ""

    return groupby(received, many)
