"""The page about OpenAI names what the integration reads, and the versions that it is tested with."""

from __future__ import annotations

import re

from converra.integrations.openai import ENDPOINTS
from converra.integrations.openai.items import _READERS
from scripts.compat import ROWS
from tests.markdown import page

PAGE = page("docs/reference/openai.md")


OWN = {kind for kind in _READERS if "." not in kind}
"""Kinds of OpenAI's own; those with a dot are Mistral's."""


def test_every_path_is_documented() -> None:
    """The paths of the table are those whose requests are turns."""
    assert [cells[0] for cells in PAGE.rows() if cells[0].startswith("`/")] == [f"`{path}`" for path in ENDPOINTS]


def test_every_kind_of_item_is_documented() -> None:
    """Each kind of item that is read has its place in the table, and no other is promised."""
    kinds = {kind for cells in PAGE.rows() for kind in re.findall(r"`(\w+)`", cells[0]) if kind in _READERS}
    rows = [cells[0] for cells in PAGE.rows() if "_call" in cells[0]]
    assert kinds == OWN
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == OWN


def test_the_versions_are_those_that_are_tested() -> None:
    """The table of versions has what the compatibility rows install."""
    tested = {
        requirement.partition("==")[2] or "current"
        for name, row in ROWS.items()
        if name != "neighbours"
        for requirement in row.requirements
        if re.match(r"(openai|wrapt)(==|$)", requirement)
    }
    rows = [cells for cells in PAGE.rows() if re.fullmatch(r"[\d.]+|current", cells[0])]
    assert {version for cells in rows for version in cells[:2]} == tested
