"""The rules of this code base that no linter knows."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.markdown import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "converra").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

FILE_LINES = 400
FUNCTION_LINES = 50
CATCH_EVERYTHING = {
    "guard.py": "failures of our own code end here, counted and logged",
    "decorators.py": "passes to a generator what its consumer throws into it",
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
FOREIGN_PATH = re.compile(r"(?<![\w/])/(?:work|root|home)/")

PROSE = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(path for name in ("examples", "benchmarks", "scripts") for path in (ROOT / name).glob("*.py")),
    ]
)

AVOIDED = re.compile(
    r"\b(nobody|whoever|of ours|told|(is|are) said|so many|where there is|goes on|as ever|how-manieth|steady clock)\b",
    re.IGNORECASE,
)
"""Words for which this project has a better one: see the rules in `CONTRIBUTING.md`."""

VAGUE = re.compile(r"(What|Whether|Which|How)\b")
"""Beginnings of docstrings that name neither an action nor a thing."""

UNREVISED: set[str] = set()
"""Rooms of `src/converra` whose words are not revised yet."""

MAX_SENTENCE = 25


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in _nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(function) is None else _lines(function.body[0])


def _offenders(paths: Iterable[Path], find: Callable[[Path], Sequence[object]]) -> dict[str, Sequence[object]]:
    """Return the findings of each file that has any, by its name."""
    return {_named(path): found for path in paths if (found := find(path))}


def test_files_stay_small() -> None:
    """One noun fits into a file."""
    lengths = {_named(path): path.read_text().count("\n") for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_functions_stay_small() -> None:
    """One step fits into a function; its docstring may be as long as its arguments need."""

    def long(path: Path) -> list[str]:
        return [f.name for f in _functions(path) if _lines(f) - _docstring_lines(f) > FUNCTION_LINES]

    assert _offenders(SOURCES, long) == {}


def test_only_the_guard_swallows_everything() -> None:
    """Only one file swallows failures of any kind, where they are counted and logged; others pass them on to it."""

    def swallowing(path: Path) -> list[int]:
        handlers = (node for node in _nodes(path) if isinstance(node, ast.ExceptHandler))
        blind = (n for n in handlers if n.type is None or ast.unparse(n.type) in ("Exception", "BaseException"))
        silent = (n for n in blind if ast.unparse(n.body[-1]) != "raise")
        return [n.lineno for n in silent if not ast.unparse(n.body[0]).startswith("report(")]

    assert _offenders((path for path in SOURCES if path.name not in CATCH_EVERYTHING), swallowing) == {}


def test_nothing_is_left_for_later() -> None:
    """Shipped files are finished, and contain no path of the machine that they were written on."""

    def unfinished(path: Path) -> list[str]:
        text = path.read_text()
        return [*UNFINISHED.findall(text), *FOREIGN_PATH.findall(text)]

    assert _offenders(SOURCES, unfinished) == {}


def test_every_test_is_a_promise() -> None:
    """Each test states in one sentence the promise to the user."""

    def silent(path: Path) -> list[str]:
        tests = (node for node in _functions(path) if node.name.startswith("test_"))
        return [node.name for node in tests if not (ast.get_docstring(node) or "").rstrip().endswith(".")]

    assert _offenders(TESTS, silent) == {}


def _matches(find: re.Pattern[str]) -> Callable[[Path], list[str]]:
    """Find the lines that match, as `number: match`."""

    def found(path: Path) -> list[str]:
        lines = enumerate(path.read_text().splitlines(), 1)
        return [f"{number}: {match[0]}" for number, line in lines if (match := find.search(line))]

    return found


def _vague(path: Path) -> list[str]:
    """Find the docstrings, also those of attributes, that begin with a question word."""
    texts = (
        (node.lineno, node.value.value)
        for node in _nodes(path)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    return [f"{line}: {text.splitlines()[0]}" for line, text in sorted(texts) if VAGUE.match(text)]


def _sentences(path: Path) -> Iterator[str]:
    """Yield the sentences of a page's paragraphs and list items; tables, code and headings have their own form."""
    page = Page(path)
    outside = [
        token for token, before in zip(page.tokens[1:], page.tokens, strict=False) if before.type == "paragraph_open"
    ]
    for token in outside:
        text = "".join(
            "code" if child.type == "code_inline" else " " if child.type == "softbreak" else child.content
            for child in token.children or []
        )
        yield from re.split(r"(?<=[.!?:;])\s+", text)


def test_pages_use_the_fields_terms() -> None:
    """README, docs, changelog, examples, benchmarks and scripts use the field's terms."""
    assert _offenders(PROSE, _matches(AVOIDED)) == {}
    assert _offenders((path for path in PROSE if path.suffix == ".py"), _vague) == {}


def test_sentences_stay_short() -> None:
    """A sentence of README, docs and changelog has at most 25 words, lists after a colon counted on their own."""

    def long(path: Path) -> list[str]:
        return [sentence for sentence in _sentences(path) if len(sentence.split()) > MAX_SENTENCE]

    assert _offenders((path for path in PROSE if path.suffix == ".md"), long) == {}


def test_source_uses_the_fields_terms() -> None:
    """Docstrings, comments, log lines and errors use the field's terms; docstrings begin with a verb or a noun."""
    revised = [path for path in SOURCES if _room(path) not in UNREVISED]
    assert _offenders(revised, _matches(AVOIDED)) == {}
    assert _offenders(revised, _vague) == {}


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "converra").parts[0].removesuffix(".py")


def test_there_is_something_to_check() -> None:
    """The rules above find files to check: they would hold for none as well."""
    assert len(SOURCES) > 100
    assert len(TESTS) > 100
    assert len(PROSE) > 40
