"""Remembers the number of the last commit that was synced, in a small file beside the store.

SQLite takes a damaged log for one whose end was torn by a crash, and goes on without what is behind the damage. Who
knows how many commits there were can tell the two apart. The number is written after each commit and not synced: it
outlives the process, which is when there is a log to look at. After a power cut it may be behind, never ahead of what
was synced.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path


class Witness:
    """The file; there is none while nothing needs to be remembered.

    Attributes:
        path: Where it is; None: nothing is ever remembered.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: int | None = None

    def commits(self) -> int:
        """What is remembered; 0 if that is nothing, or nothing that can be read."""
        with suppress(OSError, ValueError):
            if self.path is None:
                return 0
            number, _, found = self.path.read_bytes().partition(b" ")
            if int(found, 16) == zlib.crc32(number):
                return int(number)
        return 0

    def begin(self, commits: int) -> None:
        """Starts anew. Never, with 0: where commits are not synced, a power cut may take what was remembered here."""
        self.end()
        if commits and self.path is not None:
            self._file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self.saw(commits)

    def saw(self, commits: int) -> None:
        """So many are synced now."""
        if self._file is not None:
            number = b"%020d" % commits
            os.pwrite(self._file, b"%b %08x" % (number, zlib.crc32(number)), 0)

    def end(self) -> None:
        """There is no log any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self.path is not None:
            self.path.unlink(missing_ok=True)
