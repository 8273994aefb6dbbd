"""The architecture page agrees with the code: rooms, imports, the picture's arrows, the glossary and the file names."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any

from tests.markdown import ROOT, page

PAGE = page("docs/explanation/architecture.md")
PACKAGE = ROOT / "src" / "converra"

EVERYWHERE = {"cli", "testing"}
"""Rooms at the top, whose imports the page does not list."""

ENTRY = {"__init__", "__main__", "_version"}
"""Files that only name what users import, or hold a constant."""

CALL_PATH = """
import json
from pathlib import Path
from scripts.call_path import CLIMBS, MAX_FILES, MAX_FUNCTIONS, PACKAGE, measure

path = measure()
ran = sorted({(Path(code.co_filename).relative_to(PACKAGE).parts[0], code.co_qualname) for code in path.functions})
climbs = [[*rooms, through] for rooms, through in CLIMBS.items()]
length = {"files": len(path.files), "functions": len(path.functions - path.comprehensions)}
bounds = {"files": MAX_FILES, "functions": MAX_FUNCTIONS}
calls, unnamed = sorted(path.calls), sorted(path.unnamed)
print(json.dumps({"ran": ran, "calls": calls, "climbs": climbs, "unnamed": unnamed, "over": [
    f"{length[name]} {name}, at most {most}" for name, most in bounds.items() if length[name] > most
]}))
"""


def _room(name: str) -> str:
    return name.removesuffix(".py")


def _rooms() -> dict[str, list[str]]:
    """The table of rooms: each with the rooms that it imports."""
    rows = (cells for cells in PAGE.rows() if len(cells) == 3 and _is_room(cells[0]))
    return {cells[0].strip("`"): re.findall(r"`(\w+)`", cells[2]) for cells in rows}


def _is_room(cell: str) -> bool:
    name = cell.strip("`")
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@functools.cache
def _imports() -> dict[str, set[str]]:
    """Each room with the rooms that its files import, type-only imports included."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = _room(path.relative_to(PACKAGE).parts[0])
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "converra":
                parts = (node.module or "").split(".")
                found[room] |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {room: targets - {room} for room, targets in found.items()}


@functools.cache
def _defined() -> dict[str, set[str]]:
    """Each room with the names of its classes and functions."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names = {n.name for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
        found[_room(path.relative_to(PACKAGE).parts[0])] |= names
    return found


def _picture() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """The rooms of the picture with their labels, and its arrows."""
    picture = PAGE.code("mermaid")
    labels = dict(re.findall(r'^\s*(?:\w+ --> )?(\w+)\["(.+)"\]$', picture, re.MULTILINE))
    arrows = set(re.findall(r"^\s*(\w+) --> (\w+)", picture, re.MULTILINE))
    return labels, arrows - {arrow for arrow in arrows if "app" in arrow}


def test_every_room_is_on_the_map() -> None:
    """The table has each directory and module of the package, and no other."""
    there = {_room(path.name) for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(_rooms()) == there - ENTRY


def test_the_map_has_the_imports() -> None:
    """Each room's row lists the rooms that it imports, all of them further down in the table."""
    rooms = _rooms()
    order = list(rooms)
    imported = {room: set(rooms[room]) for room in order if room not in EVERYWHERE}
    assert imported == {room: _imports().get(room, set()) for room in imported}
    climbing = {
        (room, below)
        for room, targets in imported.items()
        for below in targets - ENTRY
        if order.index(below) < order.index(room)
    }
    assert climbing == set()


@functools.cache
def _measured() -> dict[str, Any]:
    """What one recorded call passes."""
    program = [sys.executable, "-c", CALL_PATH]
    finished = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(finished.stdout))


def test_the_page_names_every_climb() -> None:
    """The table of calls into a higher room is complete, and names what each goes through."""
    rows = [[cell.strip("`") for cell in cells[:2]] + [cells[2]] for cells in PAGE.rows() if len(cells) == 4]
    assert [row for row in rows if _is_room(row[0])] == _measured()["climbs"]
    assert _measured()["unnamed"] == []


def test_the_path_of_a_call_is_short() -> None:
    """One call passes few files and functions, so that a newcomer can follow it in an afternoon."""
    assert _measured()["over"] == []


def test_the_picture_is_the_path_of_a_call() -> None:
    """Rooms, classes and arrows of the picture are those that one recorded call passes."""
    measured = _measured()
    ran: dict[str, set[str]] = defaultdict(set)
    for room, qualified in measured["ran"]:
        ran[_room(room)].add(qualified.split(".")[0])
    labels, arrows = _picture()
    assert arrows - {tuple(call) for call in measured["calls"]} == set()
    assert set(ran) - set(labels) <= {"__init__", "_default", "config", "transcript", "errors"}
    named = {word for label in labels.values() for word in re.findall(r"\b[A-Z]\w*[a-z]\w*", label)}
    assert named - set().union(*_defined().values()) == set()


def test_every_term_lives_where_the_page_says() -> None:
    """A class or function that the page names with its room is defined in that room."""
    pairs = [
        (room, name)
        for cells in PAGE.rows()
        for room, names in re.findall(r"`(\w+)`: ((?:`\w+`(?:, )?)+)", cells[-1])
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(pairs) > 40
    assert [(room, name) for room, name in pairs if name not in _defined()[room]] == []


def test_every_file_exists() -> None:
    """A path that the page names leads to a file or a directory of the project."""
    paths = [code for code in PAGE.inline_code if "/" in code]
    assert [path for path in paths if not any((root / path).exists() for root in (ROOT, PACKAGE))] == []


def test_every_server_has_its_row() -> None:
    """Each server with a hook of its own is in the table of how a process ends."""
    text = PAGE.path.read_text()
    hooked = re.findall(r'^    Server\("(\w+)"', (PACKAGE / "process" / "servers.py").read_text(), re.MULTILINE)
    assert hooked
    assert [name for name in hooked if name not in text] == []
