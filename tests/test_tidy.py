"""Tidiness: the shape of the code, kept by a test so that nobody has to argue about it.

Reads the source with `ast`; imports none of it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PACKAGE_LINES_MAX = 16_240
"""Lines of code: what is left without blank lines, comments and docstrings."""

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

LAYERS = (
    {"errors", "limits", "values", "inifile", "machine", "logs", "protocol", "schedules"},
    {"net", "store", "broker", "workers", "client", "settings", "monitoring"},
    {"router", "jobmanager", "scheduler"},
    {"cli", "web", "__main__"},
)
"""From bottom to top; a module imports from its own layer and those below. `eventmq` itself is loaded lazily."""

SIDEWAYS = {
    "broker": {"broker", "store"},
    "store": {"store"},
    "net": {"net", "broker"},
    "settings": {"settings", "net"},
    "workers": {"workers", "net", "client"},
    "client": {"client", "net", "settings", "workers"},
    "monitoring": {"monitoring", "net", "client"},
}
"""What the parts of the second layer may know of each other. `broker` and `store` know nobody who does IO. `workers`
know the `@job` mark, which is of `client`; that knows how workers run a job, to do it in place without a Router."""

PURE = {
    "broker": {"zmq", "time", "random", "threading", "logging", "socket", "select", "asyncio", "os", "uuid", "secrets"},
    "protocol": {"zmq", "time", "random", "threading", "logging", "socket", "os"},
    "schedules": {"zmq", "time", "random", "threading", "logging", "socket", "os", "uuid", "secrets"},
}
"""Deciding code has time, ids, randomness and sockets as arguments."""


class Module:
    """One source file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        parts = path.relative_to(SOURCE).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    def __repr__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def lines_of_code(self) -> int:
        texts = (
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        said = {line for text in texts for line in range(text.lineno, (text.end_lineno or 0) + 1)}
        lines = enumerate(map(str.strip, self.text.splitlines()), 1)
        return sum(bool(line) and not line.startswith("#") and number not in said for number, line in lines)

    @property
    def part(self) -> str:
        """The folder or file right under the package that it belongs to; "" for the package itself."""
        return part_of(self.name)

    def imports(self, typing_too: bool = True) -> Iterator[str]:
        """Names of everything imported, anywhere in the file."""
        for node in self._import_nodes(self.tree, typing_too):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            else:
                assert node.level == 0, f"{self}:{node.lineno}: relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def _import_nodes(self, tree: ast.AST, typing_too: bool) -> Iterator[ast.Import | ast.ImportFrom]:
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield node
            elif typing_too or not _is_type_checking(node):
                yield from self._import_nodes(node, typing_too)

    def imports_at_load(self) -> Iterator[str]:
        """Names of what importing this module imports."""
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


MODULES = [Module(path) for path in sorted(SOURCE.rglob("*.py"))]
NAMES = {module.name for module in MODULES}

each_module = pytest.mark.parametrize("module", MODULES, ids=repr)


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name is, or is in."""
    while imported:
        if imported in NAMES:
            return imported
        imported = imported.rpartition(".")[0]
    return None


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


# ---- who knows whom -----------------------------------------------------------------------------


def test_no_import_cycles() -> None:
    graph = {
        module.name: {
            found for name in module.imports_at_load() if (found := module_of(name)) not in (None, module.name)
        }
        for module in MODULES
    }
    for name in graph:
        graph[name].discard("eventmq")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' → '.join(reversed(error.args[1]))}")


@each_module
def test_imports_go_one_way(module: Module) -> None:
    level = {part: number for number, parts in enumerate(LAYERS) for part in parts}
    if not module.part:
        return
    assert module.part in level, f"{module} is in no layer: add {module.part!r} to LAYERS"
    for name in module.imports(typing_too=False):
        target = part_of(module_of(name) or "")
        if not target or target == module.part:
            continue
        assert level[target] <= level[module.part], f"{module} imports {name}, which is above it"
        if target in SIDEWAYS and module.part in SIDEWAYS:
            assert target in SIDEWAYS[module.part], f"{module} must not know {target} ({name})"


@each_module
def test_deciding_code_does_no_io(module: Module) -> None:
    found = {name.split(".")[0] for name in module.imports()} & PURE.get(module.part, set())
    assert not found, f"{module} imports {found}: hand it in as an argument"


@each_module
def test_no_pickle(module: Module) -> None:
    found = {name.split(".")[0] for name in module.imports()} & {"pickle", "cPickle", "dill", "marshal", "shelve"}
    assert not found, f"{module} imports {found}; nothing of ours may unpickle what a peer sent"


# ---- size -----------------------------------------------------------------------------------------


@each_module
def test_files_are_short(module: Module) -> None:
    assert len(module.text.splitlines()) <= FILE_LINES_MAX, f"{module}: split it by what it owns"


@each_module
def test_functions_are_short(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{module}:{node.lineno}: {node.name} has {lines} lines"


def test_the_package_is_small() -> None:
    assert sum(module.lines_of_code for module in MODULES) <= PACKAGE_LINES_MAX


# ---- manners --------------------------------------------------------------------------------------


@each_module
def test_every_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module} has no docstring"


@each_module
def test_names_say_something(module: Module) -> None:
    assert not VAGUE_NAMES.intersection(module.name.split(".")), f"{module}: name it by what it owns"


@each_module
def test_no_error_is_swallowed(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{module}:{node.lineno}: bare except"
            silent = all(isinstance(inner, ast.Pass | ast.Continue) for inner in node.body)
            wide = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            assert not (silent and wide), f"{module}:{node.lineno}: swallows every error"


WHOLE_PROJECT = [
    path
    for pattern in (
        "src/**/*.py",
        "tests/**/*.py",
        "bench/**/*",
        "examples/**/*",
        "docs/**/*",
        "contrib/**/*",
        "*.md",
        "*.toml",
        "Makefile",
        ".ci/*",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".png"
]

PROMISE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|Users|work)/[\w.]")


@pytest.mark.parametrize("path", WHOLE_PROJECT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_loose_ends_and_no_machine_of_ours(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert path == Path(__file__) or not PROMISE.search(line), f"{path}:{number}: do it, or open an issue"
        assert not MACHINE_PATH.search(line), f"{path}:{number}: a path of one machine"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_no_link_is_kept() -> None:
    entries = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True)
    links = [line for line in entries.stdout.splitlines() if line.startswith("120000")]
    assert not links, "leads to a path of one machine, or nowhere"
