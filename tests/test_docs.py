"""The README and the docs tell the truth: their links lead somewhere, their code runs, their commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from converra.server.run import serve
from tests.markdown import PAGES, ROOT, Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An API and a model for one page's code."""
    with serve() as server:
        yield server


def _with_code(language: str) -> list[Page]:
    return [page for page in PAGES if page.code(language)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    """Every link to a file of the project finds the file, and the part of it that it names."""
    broken = []
    for link in page.links:
        url = urlsplit(link)
        if url.scheme:
            continue
        target = (page.path.parent / unquote(url.path)).resolve() if url.path else page.path
        found = target.exists() and (not url.fragment or url.fragment in Page(target).anchors)
        broken += [] if found else [link]
    assert broken == []


@pytest.mark.parametrize("page", _with_code("python"), ids=lambda page: page.name)
def test_python_runs(page: Page, server: LocalServer) -> None:
    """The Python of a page, from top to bottom, is a program that ends well and warns of nothing."""
    environment = os.environ | {
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "docs",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "docs",
    }
    program = [sys.executable, "-W", "error", "-c", page.code("python")]
    finished = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert finished.stderr == ""
    assert finished.returncode == 0


@pytest.mark.parametrize("page", _with_code("sh"), ids=lambda page: page.name)
def test_commands_exist(page: Page) -> None:
    """A make target that a page tells you to type is one."""
    assert set(re.findall(r"^\$? ?make ([a-z-]+)", page.code("sh"), re.MULTILINE)) <= MAKE_TARGETS
