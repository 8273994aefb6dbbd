"""The README and the docs tell the truth: their links lead somewhere, their code runs, their commands exist."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
import pytest

from converra.cli import child
from converra.cli.checks import OTHER_VARIABLES
from converra.cli.group import commands
from converra.config import SETTINGS
from converra.server.run import serve
from converra.spans.names import PROMPTS
from tests.markdown import PAGES, ROOT, Page
from tests.patience import UNHURRIED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converra.server.run import LocalServer

THEIRS = {"docs/reference/litellm.md": ("-W", "ignore")}
"""Pages about a library that warns of itself."""

MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """Run an API and a model for one page's code."""
    with serve() as server:
        yield server


def _environment(server: LocalServer) -> dict[str, str]:
    """Variables as `converra dev --fake-llm` sets them, without its hook: a page's program switches capture on."""
    given = child.environment({}, base_url=server.base_url, openai_url=server.openai_url, prompt_id=None, key="docs")
    faked = {name: value for name, value in given.items() if not name.startswith(("CONVERRA_", "PYTHONPATH"))}
    return os.environ | {
        **UNHURRIED,
        **faked,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "docs",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched at import
    }


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
    """The Python of a page, from top to bottom, is a program that ends well and warns of nothing.

    The client of a model may stay open: the collector closes its sockets, or has not come to it at exit.
    """
    warnings = THEIRS.get(page.name, ("-W", "error", "-W", "ignore::ResourceWarning"))
    program = [sys.executable, *warnings, "-c", page.code("python")]
    finished = subprocess.run(program, env=_environment(server), capture_output=True, text=True, check=False)
    assert finished.stderr == ""
    assert finished.returncode == 0
    stored = (server.store.messages(found) for found in server.store.conversations()[0])
    recorded = [[one for one in messages if one["content"] != "Conversation ended."] for messages in stored]
    for shown in page.tables("role"):
        (messages,) = [each for each in recorded if _says(each, [cells[1] for cells in shown])]
        for (role, _, fields), message in zip(shown, messages, strict=True):
            assert role == f"`{message['role']}`"
            assert [name for name in re.findall(r"`([\w.]+)`", fields) if not _has(message, name)] == []


def _says(messages: list[dict[str, Any]], shown: list[str]) -> bool:
    """Report whether these are the contents of a conversation; one in italics is described, not shown."""
    if len(messages) != len(shown):
        return False
    pairs = zip(messages, shown, strict=True)
    return all(words.startswith("*") or words == message["content"] for message, words in pairs)


def _has(message: dict[str, Any], name: str) -> bool:
    """Report whether a message has a field, such as `metadata.reasoning`."""
    first, _, rest = name.partition(".")
    return first in message and (not rest or rest in message[first])


def test_the_pages_of_libraries_show_a_conversation() -> None:
    """The page of each library that is captured shows the conversation that its program records.

    The programs that need more than a stand-in model are not run: those pages describe it.
    """
    pages = [page for page in PAGES if page.headings[0].startswith("What is captured of") and page.code("python")]
    assert len(pages) >= 8
    assert [page.name for page in pages if not [*page.tables("role")]] == []


@pytest.mark.parametrize("page", _with_code("py"), ids=lambda page: page.name)
def test_tests_pass(page: Page, server: LocalServer, tmp_path: Path) -> None:
    """The tests that a page shows pass, for an app as the page assumes it."""
    shutil.copy(ROOT / "tests" / "shop.py", tmp_path)
    (tmp_path / "test_page.py").write_text(page.code("py"))
    program = [sys.executable, "-m", "pytest", "-q", "-p", "converra.testing", "-p", "no:cacheprovider", "-W", "error"]
    environment = _environment(server) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    count = page.code("py").count("def test_")
    assert f"{count} passed" in ran.stdout, ran.stdout


def _typed(page: Page) -> Iterator[str]:
    """Yield the commands of a page, from its shell blocks and its text."""
    yield from re.findall(r"^\$? ?((?:make|converra) .+)", page.code("sh"), re.MULTILINE)
    yield from (code for code in page.inline_code if re.match(r"(make|converra) [a-z]", code))


@pytest.mark.parametrize("page", [page for page in PAGES if [*_typed(page)]], ids=lambda page: page.name)
def test_commands_exist(page: Page) -> None:
    """Each make target and each `converra` command on a page exists, with these options."""
    for line in _typed(page):
        if not set(line) & set("|[<"):  # a pattern, not a command
            program, *words = shlex.split(line, comments=True)
            assert words[0] in MAKE_TARGETS if program == "make" else _is_understood(words), line


def _is_understood(words: list[str]) -> bool:
    command: click.Command | None = commands
    context = click.Context(commands)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(context, words.pop(0))
    assert command is not None
    command.make_parser(context).parse_args(words)  # raises for an unknown option
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist(page: Page) -> None:
    """A name of the package or a variable that a page mentions in its text exists."""
    text = "\n".join(code for code in page.inline_code if "://" not in code)
    assert [name for name in re.findall(r"\bconverra(?:\.[A-Za-z_]\w*)+", text) if not _is_there(name)] == []
    variables = {row.environment for row in SETTINGS} | set(OTHER_VARIABLES)
    assert set(re.findall(r"\bCONVERRA_[A-Z_]+", page.path.read_text())) <= variables


def _is_there(name: str) -> bool:
    """Return True if a dotted name is an attribute of spans, or resolves from the package, by attributes or imports."""
    if name in PROMPTS:
        return True
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_index_is_complete() -> None:
    """The page of the docs leads to each of them, and each is reached from the README or from there."""
    index = next(page for page in PAGES if page.name == "docs/README.md")
    linked = {(index.path.parent / link).resolve() for link in index.links if not urlsplit(link).scheme}
    assert [
        page.name for page in PAGES if page.name.startswith("docs/") and page.path not in linked | {index.path}
    ] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.code("sh")], ids=lambda page: page.name)
def test_commands_can_be_pasted(page: Page) -> None:
    """No command has a gap for the reader to fill in, such as `<this>` or `/path/to`, but for keys."""
    gaps = re.findall(r"<[a-z ]+>|/path/to|\byour[-_]\w+", page.code("sh"))
    assert gaps == []


def _is_text(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def test_nothing_is_installed_from_the_package_index_by_our_name() -> None:
    """There, the name belongs to an unrelated package; the extras are those of the checkout."""
    files = [page.path for page in PAGES] + [path for path in (ROOT / "examples").rglob("*") if _is_text(path)]
    pattern = r"^(?!#).*pip install[^\n]* \"?converra\b"
    assert [path.name for path in files if re.search(pattern, path.read_text(), re.MULTILINE)] == []


def test_the_two_commands_are_on_the_first_screen() -> None:
    """The README begins with the commands for a newcomer."""
    first_screen = (ROOT / "README.md").read_text().splitlines()[:20]
    assert {"make demo", "make test"} <= set(first_screen)
