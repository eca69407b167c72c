"""The jobs of `eventmq demo`, in a module of its own so that workers import nothing else of the command line."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path

from eventmq import job


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
def worker_pid() -> int:
    """Process id of the worker that runs it."""
    return os.getpid()
