"""The jobs of `eventmq demo`, in a module of its own so that workers import nothing else of the command line."""

from __future__ import annotations

import ast
import os
import time
import warnings
from pathlib import Path

from eventmq import job
from eventmq.workers.context import current_job

KILLED_WITHIN_S = 30.0
"""How long the first attempt waits; nobody kills it only if something is broken."""


@job
def count(path: str) -> list[int]:
    """Lines, functions and classes of one Python file, and 1 if it cannot be parsed (its lines count all the same)."""
    source = Path(path).read_bytes()
    lines = source.count(b"\n") + (not source.endswith(b"\n") and source != b"")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = [type(node) for node in ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [lines, 0, 0, 1]
    functions = nodes.count(ast.FunctionDef) + nodes.count(ast.AsyncFunctionDef)
    return [lines, functions, nodes.count(ast.ClassDef), 0]


@job
def count_under_fire(path: str, note: str) -> list[int]:
    """The same, but its first attempt writes its process id to the file `note` and waits to be killed."""
    attempt = current_job()
    if attempt is not None and attempt.attempt == 1:
        Path(note).write_text(f"{os.getpid()}\n")
        time.sleep(KILLED_WITHIN_S)
    return count(path)
