"""Markdown on the viewer's pages: shown as it was meant, whoever wrote it."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.server.viewer import markdown

PIXEL = "data:image/png;base64,iVBORw0KGgo="
TAGS = set(
    "p strong em s a br hr img code pre div span ul ol li blockquote table thead tbody tr th td".split()  # noqa: SIM905
)
ATTRIBUTES = {"class", "href", "rel", "target", "src", "alt", "data-copy", "tabindex", "role", "aria-label", "scope"}
ATTRIBUTES |= {"start"}


class Reader(HTMLParser):
    """Collects what a browser would make of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data


def html(text: str, shown: int = 3000) -> str:
    found = markdown.rendered(text, shown)
    return "" if found is None else found.shown + found.folded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## Steps", '<p class="heading h2">Steps</p>\n'),
        (
            "**bold** _soft_ `a<b` ~~gone~~",
            "<p><strong>bold</strong> <em>soft</em> <code>a&lt;b</code> <s>gone</s></p>\n",
        ),
        ("one\ntwo", "<p>one<br />\ntwo</p>\n"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>\n"),
        ("3. a", '<ol start="3">\n<li>a</li>\n</ol>\n'),
        (
            "```sh\nls <dir>\n```",
            '<span class="language">sh</span><pre data-copy tabindex="0"><code>ls &lt;dir&gt;\n</code></pre></div>\n',
        ),
        ("|a|b|\n|:-|-:|\n|1|2|", '<td class="left">1</td>\n<td class="right">2</td>'),
        (
            "[docs](https://x.example/?a=1&b=2)",
            '<a href="https://x.example/?a=1&amp;b=2" rel="noopener noreferrer nofollow" target="_blank">docs</a>',
        ),
        ("![a chart](https://x.example/y.png)", ">picture: a chart</a>"),
        (f"![dot]({PIXEL})", f'<img src="{PIXEL}" alt="dot">'),
    ],
)
def test_markdown_is_shown_as_it_is_meant(text: str, expected: str) -> None:
    """Headings, lists, code, tables and links look like what they are."""
    assert expected in html(text)


@pytest.mark.parametrize("text", ["plain words, and more", "snake_case is 2 * 3", "x" * 30_000, ">" * 100, "[" * 9_000])
def test_a_text_without_markdown_is_shown_as_it_is(text: str) -> None:
    """So is one that is too long or too intricate to be parsed while a page is made."""
    assert markdown.rendered(text, 3000) is None


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x) [y](file:///etc/passwd) [z](/chaos) [w](//evil.example)",
        "<javascript:alert(1)>",
        '[x](https://x.example/"onmouseover="alert(1))',
        '![x" onerror="alert(1)](https://x.example/a.png)',
        "![x](data:image/svg+xml;base64,PHN2Zz4=)",
        "```<script>\nx\n```",
        '``` "><img src=x onerror=alert(1)>\nx\n```',
        '|<script>|\n|:-"onx|\n|<b>|',
        "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x&#62;",
        "# <svg onload=alert(1)>\n\n> <style>*{display:none}</style>",
    ],
)
def test_hostile_markdown_is_only_words(text: str) -> None:
    """No tag, attribute or address of the text comes alive."""
    _is_safe(f"**a**\n\n{text}")


PIECES = st.sampled_from(
    [
        *(
            "*",
            "_",
            "`",
            "```",
            "#",
            ">",
            "-",
            "1.",
            "[",
            "]",
            "(",
            ")",
            "!",
            "|",
            "|-|",
            "\n",
            "\n\n",
            " ",
            "    ",
            "\\",
            "&",
        ),
        *(
            "<",
            '"',
            "'",
            "javascript:",
            "https://x.example/",
            "//evil",
            "data:text/html,",
            PIXEL,
            "<script>",
            "onload=",
            "a",
        ),
        *("&#x3c;", "\0", "\u202e", "\ud83d", "<!--", "]]>", "<?", "~~", "&colon;", "\t"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_markdown_is_harmless(text: str) -> None:
    """Whatever the pieces, only known tags with known attributes come out, and links to http(s)."""
    _is_safe(text)


def _is_safe(text: str) -> None:
    for tag, attributes in Reader(html(text)).tags:
        assert tag in TAGS
        assert set(attributes) <= ATTRIBUTES
        if "href" in attributes:
            assert re.match("https?://", attributes["href"], re.IGNORECASE)
            assert "noopener" in attributes["rel"]
        assert attributes.get("src", PIXEL).startswith("data:image/")


@given(
    st.lists(st.sampled_from(["a", "b ", "*", "`", "```", "#", "> ", "- ", "[", "](c)", "\n", "\n\n", "    "])).map(
        "".join
    )
)
def test_no_word_is_left_out(text: str) -> None:
    """All letters of the text are on the page, before or behind the fold."""
    shown = html(text, 20)
    if shown:
        assert re.findall("[abc]", Reader(shown).words) == re.findall("[abc]", text)


def test_the_fold_is_between_two_blocks() -> None:
    """What is folded away begins with a block of its own; nothing is said twice."""
    text = "\n\n".join(f"**No. {number}** " + "word " * 30 for number in range(10))
    found = markdown.rendered(text, 500)
    assert found is not None
    assert found.shown.startswith("<p>")
    assert found.folded.startswith("<p>")
    assert len(Reader(found.shown).words) < 600
    assert found.shown + found.folded == html(text, 10**6)


@pytest.mark.parametrize(
    "text",
    [
        *(sign * 20_000 for sign in "[*_`<|~!>-#&\\"),
        "![a](" * 4_000,
        "*a " * 6_000,
        "[a](https://x) " * 1_300,
        "> " * 9_999,
    ],
)
def test_rendering_takes_steps_by_the_length(text: str) -> None:
    """However intricate the text, the parser is never asked for quadratic work."""
    count = 0

    def trace(_frame: Any, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        markdown.rendered.__wrapped__(text[: markdown.MAX_CHARACTERS], 3000)
    finally:
        sys.settrace(previous)
    assert count < 3_000_000
