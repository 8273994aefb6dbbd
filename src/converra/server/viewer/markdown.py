"""Markdown of a message as HTML that is safe on the viewer's pages.

HTML in the text stays text, pictures are links unless their bytes are in the text, and links lead to http(s) only.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

MAX_CHARACTERS = 20_000
"""Longer texts are shown as they are."""

_MAX_SIGNS = 3_000
_MAX_NESTING = 20
"""Texts with more signs, which take the parser long, or deeper ones, which it cuts, are shown as they are."""

_KEPT = 500

_SIGNS = re.compile(r"[*_`#\[\]<>|~\\&\n]|^\s*(?:[-+]|\d+[.)])\s|^(?:\t| {4})")
"""A text without any of these is the same with and without Markdown."""

_COSTLY = re.compile(r"[*_`\[\]<|~!]")
_LINK = re.compile(r"https?://", re.IGNORECASE)
PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]*", re.IGNORECASE)
"""A picture that needs no request: a data URL of a raster format."""

_ALIGNED = {"text-align:left": "left", "text-align:center": "center", "text-align:right": "right"}


class Rendered(NamedTuple):
    """A text as HTML, split where the page folds it."""

    shown: Markup
    folded: Markup


@lru_cache(_KEPT)
def rendered(text: str, shown: int) -> Rendered | None:
    """Render a text; None if it is shown as it is, because it is plain, too long or too intricate.

    About `shown` characters stand before the fold, which is between two blocks.
    """
    if len(text) > MAX_CHARACTERS or not _SIGNS.search(text) or len(_COSTLY.findall(text)) > _MAX_SIGNS:
        return None
    parser = _parser()
    tokens = parser.parse(text)
    if _is_plain(tokens) or any(token.level >= _MAX_NESTING - 1 for token in tokens):
        return None
    fold = _fold(tokens, text, shown)
    parts = (parser.renderer.render(part, parser.options, {}) for part in (tokens[:fold], tokens[fold:]))
    return Rendered(*map(Markup, parts))


def _is_plain(tokens: Sequence[Token]) -> bool:
    """Return True for one paragraph without any formatting."""
    if [token.type for token in tokens] != ["paragraph_open", "inline", "paragraph_close"]:
        return False
    return all(child.type == "text" for child in tokens[1].children or ())


def _fold(tokens: Sequence[Token], text: str, shown: int) -> int:
    """Return the number of tokens before the fold: at least one block, or all of a text that is short enough."""
    if len(text) <= shown:
        return len(tokens)
    ends = [0]
    for line in text.split("\n"):
        ends.append(ends[-1] + len(line) + 1)
    for at, token in enumerate(tokens):
        if at and token.level == 0 and token.nesting >= 0 and token.map and ends[token.map[1]] > shown:
            return at
    return len(tokens)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "breaks": True, "maxNesting": _MAX_NESTING}, renderer_cls=_Renderer
    )
    parser.enable(["table", "strikethrough"])
    parser.disable("reference")  # definitions would be left out of what is shown
    parser.validateLink = lambda url: bool(_LINK.match(url) or PICTURE.fullmatch(url))  # type: ignore[method-assign]
    return parser


class _Renderer(RendererHTML):
    """HTML without styles, for the viewer's content security policy, and without headings that break its outline."""

    def heading_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f'<p class="heading {tokens[at].tag}">'

    def heading_close(self, *_: Any) -> str:
        return "</p>\n"

    def link_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return _link(str(tokens[at].attrGet("href") or ""))

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:
        """Show a picture whose bytes are here; any other is a link, since fetching it would tell its host."""
        source = str(tokens[idx].attrGet("src") or "")
        alt = escape(self.renderInlineAsText(tokens[idx].children or [], options, env))
        if PICTURE.fullmatch(source):
            return f'<img src="{escape(source)}" alt="{alt}">'
        return f"{_link(source)}picture: {alt or escape(source)}</a>"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:  # noqa: ARG002 - as in the base
        return _code(tokens[idx].content, tokens[idx].info.strip())

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Any) -> str:  # noqa: ARG002 - as above
        return _code(tokens[idx].content, "")

    def table_open(self, *_: Any) -> str:
        return '<div class="wide" tabindex="0" role="region" aria-label="Table"><table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f'<th{_alignment(tokens[at])} scope="col">'

    def td_open(self, tokens: Sequence[Token], at: int, *_: Any) -> str:
        return f"<td{_alignment(tokens[at])}>"


def _link(url: str) -> str:
    """Open a link to another site; one to a data URL leads nowhere."""
    if not _LINK.match(url):
        return "<a>"
    return f'<a href="{escape(url)}" rel="noopener noreferrer nofollow" target="_blank">'


def _code(text: str, language: str) -> str:
    named = f'<span class="language">{escape(language)}</span>' if language else ""
    return f'<div class="codeblock">{named}<pre data-copy tabindex="0"><code>{escape(text)}</code></pre></div>\n'


def _alignment(token: Token) -> str:
    name = _ALIGNED.get(str(token.attrGet("style")))
    return f' class="{name}"' if name else ""
