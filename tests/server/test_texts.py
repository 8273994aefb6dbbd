"""Texts of messages: folded, bounded, and as trees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from converra.server.viewer import texts
from converra.server.viewer.texts import Node, Text, Texts


def test_a_page_holds_so_much_and_no_more() -> None:
    """A message of three megabytes, and many of them: what is left out is counted."""
    page = Texts()
    first = page.plain("x" * 3_000_000)
    assert (len(first.shown), len(first.folded), first.left) == (3_000, 197_000, 2_800_000)
    others = [page.plain("x" * 150_000) for _ in range(100)]
    assert sum(len(each.folded) for each in others) + len(first.folded) == texts.PAGE_CHARACTERS
    assert all(len(each.shown) + len(each.folded) + each.left == 150_000 for each in others)


def test_a_page_renders_so_much_markdown() -> None:
    """The rest is shown as it was sent."""
    page = Texts()
    found = [page.markdown(f"**{number}** " + "word " * 1_900).markdown for number in range(100)]
    assert [each is not None for each in found] == [True] * 21 + [False] * 79


def test_a_file_holds_everything() -> None:
    """An export has no server to ask for the rest."""
    found = Texts(everything=True).plain("x" * 5_000_000)
    assert (len(found.shown + found.folded), found.left) == (5_000_000, 0)


def test_large_json_is_a_tree() -> None:
    """Its first two levels are open; deeper ones show how they begin."""
    value: dict[str, Any] = {"orders": [{"id": n, "lines": [1, 2]} for n in range(9)], "none": None, "empty": {}}
    tree = Texts().data(json.dumps(value)).tree
    assert tree is not None
    assert (tree.value, tree.open, [child.key for child in tree.children]) == (
        "{ 3 }",
        True,
        ["orders", "none", "empty"],
    )
    orders, *leaves = tree.children
    assert leaves == [Node("none", "null"), Node("empty", "{}")]
    assert (orders.value, orders.open) == ("[ 9 ]", True)
    assert orders.children[0]._replace(children=()) == Node("0", "{ 2 }", "id: 0, lines: [ 2 ]")


@pytest.mark.parametrize(
    "value", ['{"a": 1}', "no JSON", "{broken", "[" * 5_000, json.dumps(list(range(5_000))), "x" * 300_000]
)
def test_other_texts_are_no_trees(value: str) -> None:
    """Short JSON, broken JSON, too many entries or levels: text as it is, or pretty-printed."""
    assert Texts().data(value).tree is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("How do I **count** words? ```sh wc …", "How do I count words? wc …"),
        ("[image: image/png, 293.0 KB] What is this?", "What is this?"),
        ("[image: image/png]", "[image: image/png]"),
        ("See [the docs](https://x.example) # 2", "See the docs 2"),
        ("## Title", "Title"),
        ("snake_case * 2, a_b__c", "snake_case 2, a_b__c"),
        ("plain", "plain"),
        (None, ""),
    ],
)
def test_titles_are_words(given: str | None, shown: str) -> None:
    """Without the signs of Markdown and the lines that stand for attachments."""
    assert texts.title(given) == shown


def test_an_attachment_is_shown_once() -> None:
    """The line that stands for it in the text is left out where it is shown beside the text."""
    line = "[image: image/png, 293.0 KB]"
    assert texts.without_placeholders(f"Look:\n{line}", 1) == "Look:"
    assert texts.without_placeholders(f"Look: {line}", 0) == f"Look: {line}"
    assert texts.without_placeholders("see [image: x]\n[image: y]", 1) == "see \n[image: y]"


def test_plain_texts_fold() -> None:
    """At so many characters."""
    assert Texts().plain("abc", 2) == Text("ab", "c")
