"""The place of a store's file: makes the file, and leaves a note beside it that says who holds it.

The note is for the message that a second Router prints. It locks nothing and may be missing or stale.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from eventmq.errors import StoreError


def create(path: Path) -> None:
    """Makes the file if it is missing, readable and writable for its owner alone."""
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}; create it or name another file")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
            raise StoreError(f"{path} is not a file that this process may read and write") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror}") from error


# sqlite3 takes a plain tuple of exact types as it is, but looks up an adapter for each bytes object, which costs more
# than all the rest of binding it; a bytearray it takes as it is.


def sign(note: Path) -> None:
    """Says that this process holds the store."""
    note.unlink(missing_ok=True)  # a link planted here is not followed
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
    with os.fdopen(os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(about, file)


def holder(note: Path) -> str:
    """Who holds the store, for people."""
    with suppress(OSError, ValueError, TypeError, KeyError):  # it may just be coming or going
        about = json.loads(note.read_text())
        return f"pid {about['pid']} on {about['host']} since {about['since']}"
    return "a process that has not left its name"
