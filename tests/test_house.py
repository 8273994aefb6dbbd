"""The rules of this code base that no linter knows."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "converra").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

FILE_LINES = 400
FUNCTION_LINES = 50
CATCH_EVERYTHING = {
    "guard.py": "where a failure of ours ends, counted and told",
    "decorators.py": "hands on to a generator what its consumer throws into it",
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
FOREIGN_PATH = re.compile(r"(?<![\w/])/(?:work|root|home)/")


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in _nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _offenders(paths: Iterable[Path], find: Callable[[Path], Sequence[object]]) -> dict[str, Sequence[object]]:
    """What is wrong in each file, by its name, for the files in which anything is."""
    return {_named(path): found for path in paths if (found := find(path))}


def test_files_stay_small() -> None:
    """One noun fits into a file."""
    lengths = {_named(path): path.read_text().count("\n") for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_functions_stay_small() -> None:
    """One step fits into a function."""

    def long(path: Path) -> list[str]:
        return [f.name for f in _functions(path) if (f.end_lineno or f.lineno) - f.lineno + 1 > FUNCTION_LINES]

    assert _offenders(SOURCES, long) == {}


def test_only_the_guard_swallows_everything() -> None:
    """A failure of any kind is swallowed in one file, where it is counted and told; others pass it on, or to there."""

    def swallowing(path: Path) -> list[int]:
        handlers = (node for node in _nodes(path) if isinstance(node, ast.ExceptHandler))
        blind = (n for n in handlers if n.type is None or ast.unparse(n.type) in ("Exception", "BaseException"))
        silent = (n for n in blind if ast.unparse(n.body[-1]) != "raise")
        return [n.lineno for n in silent if not ast.unparse(n.body[0]).startswith("report(")]

    assert _offenders((path for path in SOURCES if path.name not in CATCH_EVERYTHING), swallowing) == {}


def test_nothing_is_left_for_later() -> None:
    """What is shipped is finished, and knows no machine that it was written on."""

    def unfinished(path: Path) -> list[str]:
        text = path.read_text()
        return [*UNFINISHED.findall(text), *FOREIGN_PATH.findall(text)]

    assert _offenders(SOURCES, unfinished) == {}


def test_every_test_is_a_promise() -> None:
    """Each test says in one sentence what a user may rely on."""

    def silent(path: Path) -> list[str]:
        tests = (node for node in _functions(path) if node.name.startswith("test_"))
        return [node.name for node in tests if not (ast.get_docstring(node) or "").rstrip().endswith(".")]

    assert _offenders(TESTS, silent) == {}


def test_there_is_something_to_check() -> None:
    """The rules above would hold for nothing at all, too."""
    assert len(SOURCES) > 100
    assert len(TESTS) > 100
