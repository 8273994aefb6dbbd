"""The page about Anthropic names the clients that are patched, and the versions that are tested."""

from __future__ import annotations

import re

from converra.integrations.anthropic import CLIENTS, ENDPOINTS
from converra.integrations.anthropic.blocks import HOSTED
from scripts.compat import ROWS
from tests.markdown import page

PAGE = page("docs/reference/anthropic.md")


def test_every_client_and_path_is_documented() -> None:
    """The clients and the path are those of the integration."""
    named = PAGE.inline_code
    assert [name for name in CLIENTS if name not in named] == []
    assert [path for path in ENDPOINTS if path not in named] == []
    assert [kind for kind in HOSTED if kind not in named] == []


def test_the_versions_are_those_that_are_tested() -> None:
    """The page names what the compatibility rows install."""
    rows = [row for name, row in ROWS.items() if name.startswith("anthropic-")]
    requirements = [requirement for row in rows for requirement in row.requirements]
    tested = {found[1] for each in requirements if (found := re.match(r"anthropic==(.+)", each))}
    text = PAGE.path.read_text().partition("## Versions")[2]
    assert set(re.findall(r"\d+\.\d+\.\d+", text)) == tested
    assert "anthropic" in requirements
    assert "current" in text
