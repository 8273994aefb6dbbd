"""The list of conversations in a real browser."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    import httpx
    from playwright.sync_api import Browser, BrowserContext, Page

    from converra.server.run import LocalServer

SEEN_BY = """words => {
    window.seen = new Promise(resolve => {
        const look = () => document.body.textContent.includes(words) && resolve(Date.now());
        new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
        look();
    });
}"""


def conversation(http: httpx.Client, said: str, **fields: Any) -> str:
    answer = http.post(
        "/conversations", json={"promptId": "p", "content": f"User: {said}", "status": "active"} | fields
    )
    return str(answer.raise_for_status().json()["id"])


def opened(page: Page, path: str = "/") -> None:
    """On the page, with its stream open."""
    page.goto(path)
    expect(page.locator("#live")).to_have_text("live")


def titles(page: Page) -> Any:
    return page.locator("a.title")


def test_a_conversation_arrives_at_once(page: Page, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 300 ms from sending it to the words on the page: the soonest of many, for the machine may be busy."""
    monkeypatch.setattr("converra.server.viewer.live._LOOK_SECONDS", 3600.0)  # none arrives early by a lucky look
    opened(page)
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    waits: list[float] = []
    while len(waits) < 5 or (min(waits) >= 300 and len(waits) < 40):
        number = len(waits)
        page.evaluate(SEEN_BY, f"Live {number}")
        sent = time.time() * 1000
        conversation(http, f"Live {number}")
        waits.append(page.evaluate("() => window.seen") - sent)
        expect(titles(page)).to_have_count(number + 1)
        expect(page.locator("#health")).to_contain_text(f"{number + 1} request")
    assert min(waits) < 300


def test_what_changes_is_shown_where_it_stands(page: Page, http: httpx.Client) -> None:
    """Turns and status of a conversation that goes on; the page keeps the focus."""
    first = conversation(http, "One")
    opened(page)
    page.keyboard.press("j")
    append = {"messages": [{"role": "assistant", "content": "x"}], "status": "completed"}
    http.post(f"/conversations/{first}/messages", json=append)
    row = page.locator(".line").filter(has=page.locator(f"#{first}"))
    expect(row.locator(".status")).to_have_text("completed")
    expect(row.locator(".number").first).to_have_text("2")
    expect(row.locator("a")).to_be_focused()


def test_a_search_follows_the_typing(page: Page, http: httpx.Client) -> None:
    """Hits are marked, the address can be shared, and what arrives meanwhile is searched too."""
    conversation(http, "Where is my parcel?")
    conversation(http, "Something else")
    opened(page)
    page.keyboard.press("/")
    page.keyboard.type("parc")
    expect(titles(page)).to_have_text(["Where is my parcel?"])
    expect(page.locator("mark")).to_have_text(["parcel"])
    expect(page).to_have_url(re.compile(r"/\?q=parc$"))
    conversation(http, "Another parcel")
    expect(titles(page)).to_have_text(["Another parcel", "Where is my parcel?"])
    expect(page.locator("#q")).to_be_focused()
    page.reload()
    expect(page.locator("#q")).to_have_value("parc")
    page.fill("#q", "elephant")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_role("link", name="All conversations").click()
    expect(titles(page)).to_have_count(3)


def test_a_click_lands_while_the_list_changes(page: Page, http: httpx.Client) -> None:
    """No part is replaced between press and release: the click would be lost."""
    first = conversation(http, "One")
    opened(page)
    page.locator("#total").hover()
    press_while_another_arrives(page, http)
    expect(titles(page)).to_have_count(1)
    page.mouse.up()
    expect(titles(page)).to_have_count(2)
    page.locator(f"#{first}").hover()
    press_while_another_arrives(page, http)
    page.mouse.up()
    expect(page).to_have_url(re.compile(first))


def press_while_another_arrives(page: Page, http: httpx.Client) -> None:
    page.mouse.down()
    with page.expect_response(lambda answer: answer.request.headers.get("hx-target") == "list") as answer:
        conversation(http, "Another")
    answer.value.finished()


def test_filters_narrow_the_list(page: Page, http: httpx.Client) -> None:
    """By status, prompt, model, session and errors, one upon the other."""
    failed = {"role": "user", "content": "x", "metadata": {"error": {"type": "E"}}, "model": "gpt-4o"}
    content = json.dumps({"messages": [{"role": "user", "content": "Bad"}], "metadata": {"sessionId": "s1"}})
    bad = conversation(http, "", content=content, promptId="other")
    http.post(f"/conversations/{bad}/messages", json={"messages": [failed], "status": "completed"})
    conversation(http, "Good")
    opened(page)
    expect(titles(page)).to_have_count(2)
    for choose in (
        lambda: page.select_option("[name=status]", "completed"),
        lambda: page.select_option("[name=prompt]", "other"),
        lambda: page.select_option("[name=model]", "gpt-4o"),
        lambda: page.check("[name=errors]"),
    ):
        choose()
        expect(titles(page)).to_have_text(["Bad"])
    expect(page).to_have_url(re.compile(r"/\?status=completed&prompt=other&model=gpt-4o&errors=yes$"))
    page.fill("[name=session]", "s2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing matches")).to_be_visible()


def test_filters_offer_what_came_up_meanwhile(page: Page, http: httpx.Client) -> None:
    """The page was open before the first conversation; its prompt and model can be chosen without a reload."""
    opened(page)
    found = conversation(http, "New", promptId="late_prompt")
    answer = {"role": "assistant", "content": "x", "model": "late-model"}
    http.post(f"/conversations/{found}/messages", json={"messages": [answer]})
    conversation(http, "Other")
    expect(titles(page)).to_have_count(2)
    page.select_option("[name=prompt]", "late_prompt")
    page.select_option("[name=model]", "late-model")
    expect(titles(page)).to_have_text(["New"])
    page.get_by_role("link", name="show all").click()
    expect(titles(page)).to_have_count(2)


def test_the_list_stays_where_it_is_read(page: Page, http: httpx.Client) -> None:
    """What arrives on top does not push away what one is looking at."""
    for number in range(30):
        conversation(http, f"No. {number}")
    opened(page)
    looked_at = page.get_by_role("link", name="No. 12", exact=True)
    looked_at.scroll_into_view_if_needed()
    page.evaluate("() => scrollBy(0, 120)")
    before = looked_at.bounding_box()
    conversation(http, "On top")
    expect(titles(page)).to_have_count(31)
    after = looked_at.bounding_box()
    assert before
    assert after
    assert abs(after["y"] - before["y"]) < 2


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_jumps_when_numbers_change(page: Page, http: httpx.Client, width: int) -> None:
    """Turns, tokens, status, errors and the strip of requests change in their places."""
    page.set_viewport_size({"width": width, "height": 900})
    found = [conversation(http, f"No. {number}") for number in range(4)]
    opened(page)
    places = """() => ["#list", ".line:not(.head)", ".line .title", ".line .cell-status", "#health a"]
        .flatMap(each => [...document.querySelectorAll(each)])
        .map(each => each.getBoundingClientRect()).map(each => [Math.round(each.left), Math.round(each.top)])"""
    append = f"/conversations/{found[0]}/messages"
    http.post(append, json={"messages": [{"role": "assistant", "content": "x", "model": "m"}]})
    expect(page.locator(".model")).to_have_text("m")
    before = page.evaluate(places)
    answer = {"role": "assistant", "content": "x", "model": "m", "latencyMs": 1234}
    for number in range(3):
        usage = {"promptTokens": 10 ** (2 * number + 1), "completionTokens": 10**number}
        body = {"messages": [answer | {"usage": usage}], "status": "completed" if number == 2 else "active"}
        http.post(append, json=body)
        http.get("/conversations/none")
        expect(page.locator("#health")).to_contain_text(f"{number + 1} refused")
    row = page.locator(".line").filter(has=page.locator(f"#{found[0]}"))
    expect(row.locator(".status")).to_have_text("completed")
    assert page.evaluate(places) == before


def test_the_last_of_many_is_shown_too(page: Page, http: httpx.Client) -> None:
    """However close upon one another they come, the page ends up with all of them."""
    opened(page, "/requests")
    for count in range(1, 9):
        http.get("/conversations")
        if count % 2:
            time.sleep(0.02)
    expect(page.locator("#log .line:not(.head)")).to_have_count(8)
    expect(page.locator("#health")).to_contain_text("last 8 requests")


def test_hidden_tabs_hold_no_connection(page: Page, context: BrowserContext, http: httpx.Client) -> None:
    """A browser has six connections to a server for all its tabs: with ten open, each one is shown and up to date."""
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    tabs = [page, *(context.new_page() for _ in range(9))]
    for tab in tabs:
        opened(tab)
        tab.evaluate(hide, True)
    conversation(http, "While nobody looked")
    tabs[3].evaluate(hide, False)
    expect(titles(tabs[3])).to_have_text(["While nobody looked"])
    assert titles(tabs[4]).count() == 0


def test_times_are_those_of_the_reader(browser: Browser, server: LocalServer, http: httpx.Client) -> None:
    """The server tells UTC; each page shows it in the zone of the browser, and a new day with its date."""
    said = [
        {"role": "user", "content": "late", "timestamp": "2025-01-20T14:59:59Z"},
        {"role": "assistant", "content": "later", "timestamp": "2025-01-20T17:00:00+02:00"},
        {"role": "user", "content": "last", "timestamp": "2025-01-20T15:00:01"},
    ]
    found = conversation(http, "", content=json.dumps({"messages": said}))
    with browser.new_context(base_url=server.url, timezone_id="Asia/Tokyo") as context:
        page = context.new_page()
        page.goto(f"/conversations/{found}")
        times = page.locator("article time")
        expect(times).to_have_text(["2025-01-20 23:59:59", "2025-01-21 00:00:00", "00:00:01"])
        expect(times.nth(1)).to_have_attribute("title", "2025-01-20T15:00:00.000Z")
        page.goto("/requests")
        page.evaluate("() => tellTimes()")
        received = page.locator("#log time")
        hour = int(str(received.get_attribute("datetime"))[11:13])
        expect(received).to_have_text(re.compile(rf"^{(hour + 9) % 24:02}:\d\d:\d\d\.\d\d\d$"))


def test_the_keyboard_does_it_all(page: Page, http: httpx.Client) -> None:
    """j, k and the arrows move, Enter opens, Escape goes back, ? explains."""
    for number in range(3):
        conversation(http, f"No. {number}")
    opened(page)
    focused = page.locator("a.title:focus")
    for key, title in (("j", "No. 2"), ("ArrowDown", "No. 1"), ("j", "No. 0"), ("j", "No. 0"), ("k", "No. 1")):
        page.keyboard.press(key)
        expect(focused).to_have_text(title)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("No. 1")
    page.keyboard.press("Escape")
    expect(titles(page)).to_have_count(3)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("j")
    expect(page.locator("#q")).to_have_value("j")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).not_to_be_focused()


def test_what_to_type_can_be_copied(page: Page, context: BrowserContext, server: LocalServer) -> None:
    """The empty page says what to type, and a button takes it along."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened(page)
    page.locator("pre[data-copy] button").first.click()
    expect(page.get_by_text("Copied")).to_be_visible()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == f"export CONVERRA_BASE_URL={server.base_url} CONVERRA_API_KEY=dev"


def test_pages_fit_any_width(page: Page, http: httpx.Client) -> None:
    """Nothing has to be scrolled sideways, whatever the words."""
    conversation(http, "w" * 300, promptId="p" * 100)
    for width in (400, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        for path in ("/", "/requests", "/chaos", "/webhooks", "/?q=nothing"):
            page.goto(path)
            expect(page.locator("main")).to_be_visible()
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (path, width)


def test_a_server_that_comes_back_is_live_again(page: Page, server: LocalServer, http: httpx.Client) -> None:
    """The page says when it hears nothing, and shows what it missed."""
    opened(page)
    server.store.changes.close()
    expect(page.locator("#live")).to_have_text("offline")
    conversation(http, "Missed")
    expect(titles(page)).to_have_text(["Missed"])
    expect(page.locator("#live")).to_have_text("live")


def test_conversations_are_deleted_after_a_question(browser: Browser, server: LocalServer, http: httpx.Client) -> None:
    """Ticked in the list, or from a page of its own; Cancel keeps them. It needs no script."""
    for number in range(4):
        conversation(http, f"No. {number}")
    with browser.new_context(base_url=server.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_role("link", name="Delete…").click()
        page.get_by_label("No. 1").check()
        page.get_by_label("No. 3").check()
        page.get_by_role("button", name="Delete the chosen…").click()
        expect(page.locator("h1")).to_have_text("Delete 2 conversations?")
        page.get_by_role("link", name="Cancel").click()
        expect(titles(page)).to_have_count(4)
        page.go_back()
        page.get_by_role("button", name="Delete 2 conversations").click()
        expect(page.get_by_text("2 conversations deleted.")).to_be_visible()
        expect(titles(page)).to_have_text(["No. 2", "No. 0"])
        titles(page).first.click()
        page.get_by_role("link", name="Delete…").click()
        page.get_by_role("button", name="Delete 1 conversation").click()
        expect(titles(page)).to_have_text(["No. 0"])
