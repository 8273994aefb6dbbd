"""Photograph the viewer for docs/viewer.png, with the conversation of examples/quickstart.py. Run it as `make picture`.

The picture is of one real run in a real browser. Beside it, docs/viewer.txt has the words of the photographed page
without ids, times and numbers. A test compares them with the page of a run of its own, which needs no browser.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import httpx
from playwright.sync_api import ViewportSize, sync_playwright

from converra import Converra
from converra.server.run import LocalServer, serve
from tests.browser.conftest import ARGUMENTS, CHROMIUM, MISSING
from tests.patience import LONG, UNHURRIED

ROOT = Path(__file__).parents[1]
PICTURE, WORDS = ROOT / "docs" / "viewer.png", ROOT / "docs" / "viewer.txt"
SIZE: ViewportSize = {"width": 1100, "height": 760}

_BY_CHANCE = re.compile(r"conv_\w+|\S*\d\S*( m?s\b)?")


class _Words(HTMLParser):
    """The texts of the page's main part, one a line."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._unread = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Leave out the insides of scripts and styles."""
        del attrs
        self._unread += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        """Go on behind them."""
        self._unread -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        words = _BY_CHANCE.sub("*", " ".join(data.split()))
        if words and not self._unread:
            self.lines.append(words)


def words(page: str) -> str:
    """Return the words of a page, without those that differ from run to run."""
    main = page[page.index("<main") : page.index("</main>")]
    return "\n".join(_Words(main).lines) + "\n"


def recorded(server: LocalServer) -> str:
    """Record the quickstart; return the address of its conversation in the viewer."""
    environment = os.environ | {
        **UNHURRIED,
        "CONVERRA_BASE_URL": server.base_url,
        "CONVERRA_API_KEY": "picture",
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "picture",
    }
    program = [sys.executable, str(ROOT / "examples" / "quickstart.py")]
    subprocess.run(program, env=environment, check=True, capture_output=True)
    with Converra(base_url=server.base_url, api_key="picture") as client:
        return f"{server.url}/conversations/{client.conversations.list().data[0].id}"


def page(address: str) -> str:
    """Return the page as the server sends it."""
    return httpx.get(address, timeout=LONG, trust_env=False).raise_for_status().text


def photograph(address: str) -> bytes:
    """Return a picture of the page in Chromium."""
    if not CHROMIUM:
        raise SystemExit(MISSING)
    sandboxed = os.name == "nt" or os.getuid() != 0  # Chromium has no sandbox for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), chromium_sandbox=sandboxed, timeout=1000 * LONG
        )
        opened = browser.new_page(viewport=SIZE, color_scheme="light")
        opened.goto(address, wait_until="load", timeout=1000 * LONG)
        return opened.screenshot(animations="disabled")


if __name__ == "__main__":
    with serve() as running:
        shown = recorded(running)
        PICTURE.write_bytes(photograph(shown))
        WORDS.write_text(words(page(shown)), "utf-8")
