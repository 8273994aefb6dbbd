"""Draw docs/demo.svg, the terminal output of `make demo`. Run it as `make picture`.

The picture is of one real run, so its ids, port and milliseconds are that run's; everything else is the same each time,
and a test holds the picture against a run of its own.
"""

from __future__ import annotations

import html
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.terminal import in_a_terminal

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
COLUMNS = 96

_FETCHED = re.compile(r"\s*(@font-face \{.*?\}|<!--.*?-->)", re.DOTALL)
"""Fonts that rich would load from the web: this picture fetches nothing."""

_BY_CHANCE = re.compile(r"conv_[0-9a-f]{16}|127\.0\.0\.1:\d+|\d+(?:\.\d)?m?s|\d\d:\d\d:\d\d")
_WORDS = re.compile(r'<text class="demo-r\d+"[^>]*>(.*?)</text>')


def run() -> str:
    """Run the demo and return its terminal output."""
    seen = in_a_terminal([sys.executable, "-m", "converra", "demo"], columns=COLUMNS)
    if seen.status:
        raise SystemExit(seen.screen)
    return seen.screen


def drawn(screen: str) -> str:
    """Draw the screen as a picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    return _FETCHED.sub("", console.export_svg(title="make demo", unique_id="demo"))


def words(picture: str) -> str:
    """Return all words of a picture, without white space and random parts."""
    text = html.unescape("".join(_WORDS.findall(picture)))
    return _BY_CHANCE.sub("*", re.sub(r"\s", "", text))


if __name__ == "__main__":
    PICTURE.write_text(drawn(run()), "utf-8")
