"""The source itself: imports go one way, files and functions stay small, writes are durable.

DESIGN.md section 3 is the source of the layers and of the top level, STYLE.md of the rest.
"""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    "artstorefs_tools",
    "artstorefs_daemon",
    "artstorefs.recovery",
    "artstorefs.transfer",
    "artstorefs.filesystem",
    "artstorefs.state",
    "artstorefs.elements",
    "artstorefs.core",
)
"""From the top down; a module imports its own layer and those below."""

SOURCE_FOLDERS = {"artstorefs": "", "daemon": "daemon/", "tools": "tools/"}
TOP_LEVEL = {*SOURCE_FOLDERS, "systemd", "tests", "pyproject.toml", "README.md", "LICENSE"}
NOT_IN_CORE = {"trio", "sqlite3", "pyfuse3", "boto3", "time", "socket", "subprocess", "threading"}
DURABLE = {"artstorefs/elements/durable.py", "artstorefs/elements/publication.py"}
"""Where files are written and renamed: the helper, and the publishing step of the local element."""

FILE_LINES_MAX = 500
LONG_FILES = {"artstorefs/recovery/restore.py": 550}
"""What lies on every element has to be one file."""

FUNCTION_LINES_MAX = 70


def source_files() -> Iterator[tuple[str, Path]]:
    """Module name and path of every file of the program."""
    for folder, prefix in SOURCE_FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT).as_posix().removeprefix(prefix)
            yield relative.removesuffix(".py").removesuffix("/__init__").replace("/", "."), path


MODULES = dict(source_files())
FROZEN = ROOT / "tests" / "samples"
"""Below it is what releases have left on elements, their restore.py for example."""

OF_TESTS = [p for p in (ROOT / "tests").rglob("*.py") if FROZEN not in p.parents[1:]]
ALL_FILES = [*MODULES.values(), *sorted(OF_TESTS)]


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Everything in the syntax tree of a file."""
    return list(ast.walk(ast.parse(path.read_bytes())))


def imported_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every module that is named in an import, wherever it stands; `from a import b` gives both."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def dependencies(module: str) -> set[str]:
    """The modules of the program that `module` imports."""
    return {name for name in imported_names(nodes_of(MODULES[module])) if name in MODULES}


def layer_of(module: str) -> int | None:
    """Index in LAYERS; `None` for a package above the layers, such as `artstorefs` itself."""
    layers = (n for n, layer in enumerate(LAYERS) if f"{module}.".startswith(f"{layer}."))
    return next(layers, None)


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """A chain of modules that leads back to its first, empty if there is none."""
    finished: set[str] = set()

    def visit(module: str, chain: list[str]) -> list[str]:
        if module in chain:
            return [*chain[chain.index(module) :], module]
        if module in finished:
            return []
        for imported in sorted(graph[module]):
            if cycle := visit(imported, [*chain, module]):
                return cycle
        finished.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


def undurable_calls(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Calls that write or rename files, with the line; text and binary, `os` and `pathlib`."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        if called not in {"open", "replace", "rename", "write_text", "write_bytes"}:
            continue
        name = ast.unparse(node.func)
        mode = next((k.value for k in node.keywords if k.arg == "mode"), None)
        if name == "open" and mode is None and len(node.args) > 1:
            mode = node.args[1]
        elif name.endswith(".open") and mode is None and node.args and name != "os.open":
            mode = node.args[0]
        writes = isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+")
        opens = name == "open" or (name.endswith(".open") and name != "os.open")
        renames = name in {"os.replace", "os.rename"}
        if renames or name.endswith((".write_text", ".write_bytes")) or (opens and writes):
            yield f"line {node.lineno}: {name}"


# One test each for all files. One for each file would be a fifth of all tests, which every process
# of a run that is split collects, and most would read the same files.


def test_imports_go_downwards_only() -> None:
    wrong = []
    for module in MODULES:
        own = layer_of(module)
        for name in dependencies(module):
            layer = layer_of(name)
            if own is None:
                wrong.append(f"{module} stands above the layers, and imports {name}")
            elif layer is not None and layer < own:
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other() -> None:
    assert find_cycle({module: dependencies(module) for module in MODULES}) == []


def test_core_is_pure() -> None:
    wrong = []
    for module in MODULES:
        if module.startswith("artstorefs.core"):
            roots = {name.partition(".")[0] for name in imported_names(nodes_of(MODULES[module]))}
            wrong += [f"{module} imports {root}" for root in sorted(roots & NOT_IN_CORE)]
    assert not wrong, "\n".join(wrong)


def too_long(path: Path) -> Iterator[str]:
    """What is longer than it may be: the file, and functions in it."""
    file = path.relative_to(ROOT).as_posix()
    lines = len(path.read_bytes().splitlines())
    if lines > LONG_FILES.get(file, FILE_LINES_MAX):
        yield f"{file} has {lines} lines"
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{file}: {node.name} has {length} lines"


def test_files_and_functions_stay_small() -> None:
    wrong = [one for path in ALL_FILES for one in too_long(path)]
    assert not wrong, "\n".join(wrong)


def test_files_are_written_and_renamed_durably() -> None:
    wrong = []
    for path in MODULES.values():
        file = path.relative_to(ROOT).as_posix()
        if file not in DURABLE:
            wrong += [f"{file}, {call}" for call in undurable_calls(nodes_of(path))]
    assert not wrong, "\n".join(wrong)


def test_top_level_is_that_of_the_design() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    names = {name.partition("/")[0] for name in listed if name}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("folder", ["daemon", "tools", "systemd", "tests"])
def test_folders_that_are_no_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_the_checks_themselves_find_what_they_look_for() -> None:
    source = 'open(p, "w"); p.open("ab"); os.rename(a, b); p.write_text(t); open(p); os.open(p, f)'
    assert len(list(undurable_calls(ast.walk(ast.parse(source))))) == 4
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    imports = ast.walk(ast.parse("import a.b\nfrom c import d"))
    assert set(imported_names(imports)) == {"a.b", "c", "c.d"}
