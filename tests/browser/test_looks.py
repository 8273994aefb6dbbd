"""Every page at every width, light and dark: nothing overflows, controls can be hit, and axe finds nothing.

Colours do not change what is shown, so light and dark take turns, from width to width and from page to page. A page's
narrow form, at 320 and 400 px, is seen in both.
"""

from __future__ import annotations

import itertools
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import expect

from tests.browser.test_chat import append
from tests.browser.test_list import conversation
from tests.browser.test_reading import ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from playwright.sync_api import Browser, Page

    from converra.server.run import LocalServer

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
WIDTHS = (320, 400, 768, 1400)
COLOURS: tuple[Literal["light", "dark"], ...] = ("light", "dark")

# what passes need not be described: that takes axe twice as long
VIOLATIONS = """async () => (await axe.run({resultTypes: ["violations"]})).violations
    .flatMap(each => each.nodes.map(node => each.id + ": " + node.html.slice(0, 160)))"""

TOO_SMALL = """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")]
    .filter(each => each.checkVisibility() && !each.closest(".hidden, .skip, .md p, .md li, .md td"))
    .map(each => each.closest(each.matches("[data-item]") ? ".line, .span-line, li" : "label") ?? each)
    .filter(each => { const box = each.getBoundingClientRect(); return Math.min(box.width, box.height) < 23.9; })
    .map(each => each.outerHTML.slice(0, 120) + " " + JSON.stringify(each.getBoundingClientRect()))"""

OVERFLOW = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 120))"""

CLIPPED = """() => [...document.querySelectorAll("button, .button, .badge, .status, h1, h2, .tabs a")]
    .filter(each => each.checkVisibility() && !each.closest(".hidden") && each.scrollWidth > each.clientWidth + 1
        && getComputedStyle(each).display !== "inline").map(each => each.outerHTML.slice(0, 120))"""


def _everything(http: httpx.Client, server: LocalServer) -> list[str]:
    """Fill a server with what pages can show; return their addresses."""
    system = {"role": "system", "content": "You sell tents. " * 100, "timestamp": "2025-01-20T12:00:00Z"}
    metadata = {"sessionId": "session-1", "tenant": "t"}
    found = conversation(http, "", content=json.dumps({"messages": [system], "metadata": metadata}), companyName="ACME")
    orders = [{"order": n, "lines": [{"sku": f"s{n}", "deep": {"place": n}}]} for n in range(8)]
    calls = [
        {"id": str(n), "name": name, "arguments": {"city": "Rīga"}} for n, name in enumerate(("orders", "weather"))
    ]
    facts = {"model": "gpt-4o-mini", "usage": {"promptTokens": 1200, "completionTokens": 90}, "latencyMs": 812}
    picture = {"kind": "image", "mime": "image/png", "bytes": 300_000}
    append(
        http,
        found,
        {
            "role": "user",
            "content": "Where **is** it? [image: image/png, 293.0 KB]",
            "metadata": {"attachments": [picture]},
        },
        {"role": "tool", "content": "", "toolCalls": calls, "timestamp": "2025-01-20T12:00:04Z"} | facts,
        {"role": "tool", "content": json.dumps(orders), "toolCalls": [{"id": "0", "name": "orders"}], "latencyMs": 40},
        {
            "role": "tool",
            "content": "no",
            "toolCalls": [{"id": "1", "name": "weather"}],
            "metadata": {"status": "error"},
        },
        {"role": "assistant", "content": ANSWER, "timestamp": "2025-01-20T12:01:00Z", "metadata": {"reasoning": "Hm."}}
        | facts,
        {"role": "assistant", "content": "x", "metadata": {"error": {"type": "RateLimitError"}, "partial": True}}
        | facts,
        {"role": "user", "content": "שלום, איפה ההזמנה שלי?"},
        status="completed",
    )
    other = conversation(http, "Where **is** it?")
    http.post("/conversations", json={"promptId": 7})
    http.get("/conversations/none")
    server.faults.add("read", "status", times=None)
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    http.post(f"{server.openai_url}/chat/completions", json=ask)
    return [
        *(
            "/",
            "/?q=tents&status=completed",
            "/?q=nothing&since=2025-01-01",
            "/requests",
            "/requests?failed=yes",
            "/chaos",
        ),
        *(f"/requests/{request.number}" for request in server.requests[-2:]),
        *(f"/conversations/{found}?q=image", f"/conversations/{found}/timeline", f"/conversations/{other}"),
        *(f"/compare?a={found}", f"/compare?a={found}&b={other}", "/webhooks", "/nope", "/conversations/none"),
        *("/forget", f"/forget?id={found}&id={other}", "/forget?q=nothing", "/?deleted=2"),
    ]


@pytest.fixture
def pages(browser: Browser, server: LocalServer) -> Iterator[Page]:
    with browser.new_context(base_url=server.url, color_scheme="light") as context:
        yield context.new_page()


def test_every_page_can_be_used(pages: Page, http: httpx.Client, server: LocalServer) -> None:
    """With everything unfolded: no control is under 24 px, nothing is cut off, and axe has nothing to say."""
    wrong: list[str] = []
    for number, path in enumerate(_everything(http, server)):
        pages.set_viewport_size({"width": WIDTHS[0], "height": 800})
        pages.goto(path)
        expect(pages.locator("h1")).to_have_count(1)
        pages.evaluate(AXE)
        pages.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true; })")
        for width, colours in zip(WIDTHS, itertools.cycle(COLOURS[:: 1 if number % 2 else -1])):
            pages.set_viewport_size({"width": width, "height": 800})
            folded = pages.locator("#more-filters[aria-expanded=false]")
            if folded.is_visible():
                folded.click()
            pages.emulate_media(color_scheme=colours)
            found = [each for script in (TOO_SMALL, OVERFLOW, CLIPPED, VIOLATIONS) for each in pages.evaluate(script)]
            wrong += [f"{path}, {width} px, {colours}: {each}" for each in found]
    assert not wrong, "\n".join(wrong)
