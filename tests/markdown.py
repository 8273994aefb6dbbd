"""The README and the docs as the tests read them: pages with headings, links, tables and code."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).parents[1]


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))

    @cached_property
    def tokens(self) -> list[Token]:
        """Tokens of the page, tables included."""
        return MarkdownIt().enable("table").parse(self.path.read_text())

    def code(self, language: str) -> str:
        """Return its code blocks of one language, each on its lines of the page."""
        lines: list[str] = []
        for token in self.tokens:
            if token.type == "fence" and token.info.split()[:1] == [language] and token.map:
                lines += [""] * (token.map[0] + 1 - len(lines))
                lines += token.content.splitlines()
        return "\n".join(lines)

    @property
    def inline_code(self) -> list[str]:
        """Inline code of the text."""
        inner = (child for token in self.tokens for child in token.children or [])
        return [child.content for child in inner if child.type == "code_inline"]

    @property
    def headings(self) -> list[str]:
        """Texts of its headings, marks of code included."""
        follows = zip(self.tokens, self.tokens[1:], strict=False)
        return [after.content for token, after in follows if token.type == "heading_open"]

    @property
    def anchors(self) -> set[str]:
        """Fragments that a link to this page may have."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings}

    @property
    def links(self) -> list[str]:
        """Targets of its links and pictures."""
        inner = (child for token in self.tokens for child in token.children or [])
        targets = (str(child.attrs.get("href") or child.attrs.get("src") or "") for child in inner)
        return [target for target in targets if target]

    def rows(self) -> Iterator[list[str]]:
        """Yield the cells of every table row except the heads, as written."""
        cells: list[str] = []
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == "td_open":
                cells.append(after.content)
            elif token.type == "tr_close" and cells:
                yield cells
                cells = []

    def tables(self, head: str) -> Iterator[list[list[str]]]:
        """Yield the rows of each table whose first cell is `head`."""
        rows: list[list[str]] = []
        cells: list[str] = []
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type in ("th_open", "td_open"):
                cells.append(after.content)
            elif token.type == "tr_close":
                rows.append(cells)
                cells = []
            elif token.type == "table_close":
                if rows[0][0] == head:
                    yield rows[1:]
                rows = []


PAGES = [
    Page(path)
    for path in (
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]


def page(name: str) -> Page:
    """Return the page at a path from the root of the project."""
    return next(page for page in PAGES if page.name == name)
