"""The page about what is captured for whom has a row for each integration, with the versions that it supports."""

from __future__ import annotations

import re
import tomllib

from converra.integrations.discovery import integrations
from converra.integrations.sessions import READERS
from tests.markdown import ROOT, page

PAGE = page("docs/reference/captured.md")


def _rows() -> dict[str, list[str]]:
    """The cells of each row, by the first name in it."""
    found = ((re.match(r"\[?`([^`]+)`", cells[0]), cells) for cells in PAGE.rows())
    return {name[1]: cells for name, cells in found if name}


def test_every_integration_has_a_row() -> None:
    """Each library that is captured, with its oldest version, and a page that tells the rest."""
    rows = _rows()
    for one in integrations():
        if one.captures:
            assert one.package in rows, f"{one.name} has no row"
            assert rows[one.package][1] == f"{one.since} and newer"
            assert re.search(r"\]\([\w./-]+\.md\)", rows[one.package][0]), f"{one.name} has no page"
    assert [one.name for one in READERS if one.name not in rows] == []
    known = {one.package for one in integrations() if one.captures} | {one.name for one in READERS}
    assert rows.keys() - known - {"library", "framework"} == set()


def test_the_extras_ask_for_the_same_versions() -> None:
    """Who installs an extra gets a version that is captured."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {requirement for requirements in extras.values() for requirement in requirements}
    for one in integrations():
        if one.captures:
            assert f"{one.package}>={one.since}" in asked
