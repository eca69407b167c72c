"""The tables of the sockets: which command of which version is whose business."""

from __future__ import annotations

from typing import Any, NamedTuple

from eventmq.protocol import v2


class Handler(NamedTuple):
    """What to do with one command: the type of its eMQP/2.0 body (None: eMQP/1.0 frames), and the method's name.

    Attributes:
        more: What else the method is given.
    """

    method: str
    body: type[v2.Body] | None = None
    more: tuple[Any, ...] = ()


Handlers = dict[tuple[bytes, bytes], Handler]
"""(version, command) → handler: one such table for each socket."""
