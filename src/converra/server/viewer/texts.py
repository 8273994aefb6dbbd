"""Texts of messages as a page shows them: split where they are folded, as Markdown or as JSON, and never too much."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from converra.server.viewer import markdown

SHOWN_CHARACTERS = 3000
"""More of one message is folded away."""

MESSAGE_CHARACTERS = 200_000
"""More of one message has an address of its own."""

PAGE_CHARACTERS = 2_000_000
"""Characters that one page folds away, altogether."""

MARKDOWN_CHARACTERS = 200_000
"""Characters that one page renders as Markdown, altogether."""

_LINE = 60
_LARGE_LINES = 16
"""JSON of more lines is a tree."""
_NODES = 2_000
"""Entries of a tree; larger JSON is text."""
_OPEN_LEVELS = 2
_PEEK = 80

_PLACEHOLDER = re.compile(r"\[(?:image|audio|video|document|file)(?:: [^\]\n]*)?(?:\]|…|$)")
_MARKS = (
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)?"), r"\1"),
    (re.compile(r"```\w*|[`*~]{1,3}|(?:^|(?<= ))#{1,6} |(?:^|(?<= ))__(?=\w)|(?<=\w)__(?= |$)"), " "),
)


class Node(NamedTuple):
    """An entry of a JSON tree: a value in one line, or an object or list with its entries."""

    key: str
    value: str
    """The value as JSON; of an object or list the number of entries."""
    peek: str = ""
    """The beginning of the entries, for an object or list that is closed."""
    children: tuple[Node, ...] = ()
    open: bool = False


class Text(NamedTuple):
    """A text, split where the page folds it."""

    shown: str
    folded: str
    markdown: markdown.Rendered | None = None
    """The same as HTML, if that is another."""
    left: int = 0
    """Characters that are not on the page."""
    tree: Node | None = None
    """Large JSON as a tree."""


class Texts:
    """The texts of one page. `everything`: for a file, which has to hold all of them."""

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self._left = PAGE_CHARACTERS
        self._markdown_left = MARKDOWN_CHARACTERS

    def plain(self, text: str, shown: int = SHOWN_CHARACTERS) -> Text:
        """Fold a text."""
        folded = text[shown:]
        if not self._everything:
            folded = folded[: max(0, min(MESSAGE_CHARACTERS - shown, self._left))]
            self._left -= len(folded)
        return Text(text[:shown], folded, left=max(0, len(text) - shown - len(folded)))

    def markdown(self, text: str, shown: int = SHOWN_CHARACTERS) -> Text:
        """Fold a text that may be Markdown."""
        plain = self.plain(text, shown)
        if plain.left or len(text) > self._markdown_left:
            return plain
        found = markdown.rendered(text, shown)
        self._markdown_left -= len(text) if found else 0
        return plain._replace(markdown=found)

    def data(self, value: Any) -> Text:
        """Fold JSON, or a text that may contain it."""
        if isinstance(value, str):
            parsed = _parsed(value)
            if parsed is None:
                return self.plain(value)
            value = parsed
        text = pretty(value)
        found = self.plain(text)
        return found._replace(tree=_tree(value)) if text.count("\n") > _LARGE_LINES and not found.left else found


def pretty(value: Any) -> str:
    """JSON as a person reads it, on one line where that is short; text as it is."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= _LINE else json.dumps(value, ensure_ascii=False, indent=2)


def title(text: str | None) -> str:
    """Return a title without the signs of Markdown and the placeholders of attachments."""
    plain = _PLACEHOLDER.sub(" ", text or "")
    for marks, instead in _MARKS:
        plain = marks.sub(instead, plain)
    return " ".join(plain.split()) or text or ""


def without_placeholders(text: str, attachments: int) -> str:
    """Leave out the lines that stand for attachments, where those are shown beside the text."""
    return _PLACEHOLDER.sub("", text, count=attachments).strip("\n") if attachments else text


def _parsed(text: str) -> Any:
    """Decode a JSON object or list; None for other texts."""
    if not text.lstrip().startswith(("{", "[")) or len(text) > MESSAGE_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _tree(value: Any) -> Node | None:
    """Return the tree; None for a value that has too many entries or levels."""
    try:
        return _node("", value, [_NODES], 0)
    except RecursionError:
        return None


def _node(key: str, value: Any, left: list[int], level: int) -> Node | None:
    left[0] -= 1
    if left[0] < 0 or level > _LINE:
        return None
    if not isinstance(value, dict | list) or not value:
        return Node(key, json.dumps(value, ensure_ascii=False))
    named = value.items() if isinstance(value, dict) else enumerate(value)
    children: list[Node] = []
    for name, entry in named:
        child = _node(str(name), entry, left, level + 1)
        if child is None:
            return None
        children.append(child)
    sign = f"{{ {len(value):,} }}" if isinstance(value, dict) else f"[ {len(value):,} ]"
    peek = ", ".join(f"{child.key}: {child.value}" for child in children[:_PEEK])
    return Node(key, sign, peek[:_PEEK], tuple(children), open=level < _OPEN_LEVELS)
