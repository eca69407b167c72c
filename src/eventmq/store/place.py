"""Where a store's database lies: in a file, or in memory.

Beside a file lie a note that says who holds it, and its witness. The note is for the message that a second Router
prints: it locks nothing and may be missing or stale.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from eventmq.errors import StoreError
from eventmq.store.witness import Witness


class Memory:
    """This process's memory: room without end, nobody else, nothing left behind."""

    url = "memory:"
    witness = Witness(None)
    database: Path | str = ":memory:"
    journal = "memory"

    def __str__(self) -> str:
        return self.url

    def sign(self) -> None:
        """Says that this process holds the store."""

    def leave(self) -> None:
        """Says so no more."""

    def holder(self) -> str:
        """Who holds the store, for people."""
        return "nobody else can"

    def free_bytes(self) -> float:
        """Room for more."""
        return math.inf

    def log_bytes(self) -> int:
        """Length of the write-ahead log."""
        return 0

    def lengthen_log(self, size: int) -> None:
        """Makes it at least so long, if there is room: what is written over, where the file does not grow, is synced in
        two thirds of the time."""


class File(Memory):
    """A file, made if it is missing, readable and writable for its owner alone.

    Raises:
        StoreError: It is out of reach.
    """

    journal = "wal"

    def __init__(self, path: str) -> None:
        self.url = f"sqlite:///{path}"
        self.database = self._path = Path(path).resolve()  # as SQLite does, which puts the log beside the real file
        self._folder, self._log = str(self._path.parent), f"{self._path}-wal"  # text: both are asked for in each turn
        self._note = Path(f"{self._path}.owner")
        self.witness = Witness(Path(f"{self._path}.commits"))
        self._create()

    def __str__(self) -> str:
        return str(self._path)

    def _create(self) -> None:
        path = self._path
        if not path.parent.is_dir():
            raise StoreError(f"{path}: there is no folder {path.parent}; create it or name another file")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
                raise StoreError(f"{path} is not a file that this process may read and write") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be created: {error.strerror}") from error

    def sign(self) -> None:
        self.leave()  # a link planted here is not followed
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        with os.fdopen(os.open(self._note, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(about, file)

    def leave(self) -> None:
        self._note.unlink(missing_ok=True)

    def holder(self) -> str:
        with suppress(OSError, ValueError, TypeError, KeyError):  # it may just be coming or going
            about = json.loads(self._note.read_text())
            return f"pid {about['pid']} on {about['host']} since {about['since']}"
        return "a process that has not left its name"

    def free_bytes(self) -> float:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize if disk.f_blocks else math.inf  # one that does not tell says 0 of 0

    def log_bytes(self) -> int:
        return os.stat(self._log).st_size

    def lengthen_log(self, size: int) -> None:
        with suppress(OSError), open(self._log, "r+b", buffering=0) as log:
            log.seek(0, os.SEEK_END)
            log.write(bytes(max(0, size - log.tell())))  # SQLite takes zeros for the log's end
            os.fsync(log)
