"""Debian's Chromium, driven by Playwright; a missing one fails in CI, and is said elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from converra.server.run import serve
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

    from converra.server.run import LocalServer

HERE = Path(__file__).parent
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""From the cheapest: the shell has pages without windows, and takes a third of the processor time."""
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
WITHOUT = (
    # of Playwright's own list, which ours replaces
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "MediaRouter"),
    *("HttpsFirstBalancedModeAutoEnable", "PaintHolding", "ThirdPartyStoragePartitioning", "OptimizationHints"),
    *("NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch", "LensOverlay"),
    # a window's tool bars are pages of their own, and each context has a window: half of what Chromium costs
    *("InitialWebUI", "PreloadTopChromeWebUI", "WebUIReloadButton", "WebUIToolbar", "WebUIOmniboxPopup"),
    *("WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "SpareRendererForSitePerProcess"),
)
"""Features of Chromium that tests do without."""
ARGUMENTS = (
    "--renderer-process-limit=1",  # a page begins as about:blank, which would have a process of its own
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    f"--disable-features={','.join(WITHOUT)}",
)
MISSING = "no chromium: the tests of tests/browser did not run (Debian: apt-get install chromium-headless-shell)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a browser these tests are left out, and said to be; in CI they fail instead."""
    if CHROMIUM or os.environ.get("CI") == "true":
        return
    ours = [item for item in items if HERE in item.path.parents]
    items[:] = [item for item in items if item not in ours]
    config.hook.pytest_deselected(items=ours)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The line that tells."""
    if not CHROMIUM:
        terminalreporter.write_line(MISSING, yellow=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: while it is open, no other event loop can run in this thread."""
    assert CHROMIUM, MISSING
    sandboxed = os.name == "nt" or os.getuid() != 0  # Chromium has no sandbox for root
    expect.set_options(timeout=1000 * LONG)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), chromium_sandbox=sandboxed, timeout=1000 * LONG
        )


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def http(server: LocalServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer key-of-a-test"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=LONG, trust_env=False, verify=False) as opened:  # noqa: S501 - loopback
        yield opened


@pytest.fixture
def context(browser: Browser, server: LocalServer) -> Iterator[BrowserContext]:
    with browser.new_context(base_url=server.url, viewport={"width": 1200, "height": 800}) as opened:
        opened.set_default_timeout(1000 * LONG)
        yield opened


@pytest.fixture
def page(context: BrowserContext, server: LocalServer) -> Iterator[Page]:
    """A page on which nothing may go wrong: no error of a script, no breach of the policy, no request elsewhere."""
    wrong: list[str] = []
    opened = context.new_page()

    def complain(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    opened.on("console", complain)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    opened.on("request", lambda request: None if request.url.startswith(server.url) else wrong.append(request.url))
    yield opened
    assert wrong == []
