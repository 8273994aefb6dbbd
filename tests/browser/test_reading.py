"""Reading a conversation in a real browser: Markdown, its source, hits of a search, permalinks, neighbours."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from converra.server.store.records import NewConversation
from tests.browser.test_chat import append
from tests.browser.test_list import conversation, opened, titles

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from playwright.sync_api import BrowserContext, Page

    from converra.server.run import LocalServer

ANSWER = """## Steps

1. Install **ripgrep**.
2. Run `rg -c`:

```sh
rg -c word src/
```

| tool | time |
|------|-----:|
| rg | 0.2 s |

See [the docs](https://docs.example/a), ![a chart](https://charts.example/x.png).
"""


def chat(http: httpx.Client, *said: dict[str, Any], **fields: Any) -> str:
    return conversation(http, "", content=json.dumps({"messages": list(said)}), **fields)


def test_markdown_is_rendered(page: Page, context: BrowserContext, http: httpx.Client) -> None:
    """Lists, tables and code are what they are; code can be copied; nothing is fetched for a picture."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = chat(http, {"role": "user", "content": "How?"}, {"role": "assistant", "content": ANSWER})
    page.goto(f"/conversations/{found}")
    answer = page.locator("article.assistant")
    expect(answer.locator("strong")).to_have_text("ripgrep")
    expect(answer.locator("ol li")).to_have_count(2)
    expect(answer.locator("td").last).to_have_css("text-align", "end")
    code = answer.locator("pre code")
    assert "mono" in code.evaluate("each => getComputedStyle(each).fontFamily")
    answer.get_by_role("button", name="Copy", exact=True).click()
    expect(answer.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == "rg -c word src/\n"
    link = answer.get_by_role("link", name="the docs")
    expect(link).to_have_attribute("rel", re.compile("noopener"))
    expect(answer.get_by_role("link", name="picture: a chart")).to_be_visible()
    expect(answer.locator("img")).to_have_count(0)


def test_m_shows_the_source(page: Page, http: httpx.Client) -> None:
    """The text as it was sent, also on the next page, until it is switched back; the place that is read stays."""
    said = [{"role": ("user", "assistant")[n % 2], "content": f"**No. {n}**\n\n- a\n- b\n- c"} for n in range(40)]
    found = chat(http, *said)
    page.goto(f"/conversations/{found}#m30")
    message = page.locator("#m30")
    expect(message.locator("strong")).to_be_visible()
    before = message.bounding_box()
    page.keyboard.press("m")
    expect(message.locator(".source .bubble")).to_have_text("**No. 30**\n\n- a\n- b\n- c", use_inner_text=True)
    expect(message.locator("strong")).to_be_hidden()
    after = message.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 2
    page.reload()
    expect(message.locator("strong")).to_be_hidden()
    page.get_by_label("Source").uncheck()
    expect(message.locator("strong")).to_be_visible()


def test_an_exported_page_has_both(
    context: BrowserContext, http: httpx.Client, server: LocalServer, tmp_path: Path
) -> None:
    """Rendered and source, without a script."""
    found = chat(http, {"role": "assistant", "content": ANSWER})
    file = tmp_path / "chat.html"
    file.write_text(http.get(f"{server.url}/conversations/{found}/export/html").text)
    page = context.new_page()
    page.goto(file.as_uri())
    expect(page.locator("strong")).to_be_visible()
    page.get_by_label("Source").check()
    expect(page.locator("strong")).to_be_hidden()
    expect(page.get_by_text("2. Run `rg -c`:")).to_be_visible()


def test_each_message_can_be_copied(page: Page, context: BrowserContext, http: httpx.Client) -> None:
    """As it was sent, not as it is shown."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = chat(http, {"role": "user", "content": "How?"}, {"role": "assistant", "content": ANSWER})
    page.goto(f"/conversations/{found}")
    answer = page.locator("article.assistant")
    answer.hover()
    answer.get_by_role("button", name="Copy the message").click()
    expect(answer.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == ANSWER


def _long(http: httpx.Client) -> str:
    asked = [{"role": "user", "content": f"turn {n}: where is it?"} for n in range(60)]
    said = [each for n, ask in enumerate(asked) for each in (ask, {"role": "assistant", "content": f"Answer **{n}**"})]
    said[106] = {"role": "assistant", "content": "x " * 2_000 + "then turn 53 came"}
    return chat(http, *said)


def test_a_hit_is_what_one_sees(page: Page, http: httpx.Client) -> None:
    """From the list to the message with the words, marked and in view, also where it was folded away."""
    _long(http)
    for width in (320, 1400):
        page.set_viewport_size({"width": width, "height": 700})
        page.goto("/?q=then+turn+53")
        titles(page).click()
        expect(page).to_have_url(re.compile(r"\?q=then\+turn\+53#m106$"))
        hit = page.locator("#m106 mark.current")
        expect(hit).to_have_text("then")
        expect(hit).to_be_in_viewport()
        expect(page.locator("#found")).to_contain_text("1 of 1 with “then turn 53”")


def test_n_goes_on_to_the_next_hit(page: Page, http: httpx.Client) -> None:
    """And N back; around at the end. Messages with some of the words only are no hits."""
    found = _long(http)
    page.goto(f"/conversations/{found}?q=tûrn+5#m10")
    expect(page.locator("#m10 mark.current")).to_be_in_viewport()
    expect(page.locator("#found")).to_contain_text("1 of 11 with “tûrn 5”")
    expect(page.locator("#m12 mark")).to_have_count(0)
    page.keyboard.press("n")
    expect(page.locator("#m100 mark.current")).to_be_in_viewport()
    page.keyboard.press("N")
    page.keyboard.press("N")
    expect(page.locator("#found")).to_contain_text("11 of 11")
    expect(page.locator("#m118 mark.current")).to_be_in_viewport()
    page.get_by_role("button", name="Next hit").click()
    expect(page.locator("#m10 mark.current")).to_be_in_viewport()


def test_a_hit_in_a_tool_result_is_unfolded(page: Page, http: httpx.Client) -> None:
    """The call that it belongs to opens."""
    call = {"role": "tool", "content": "", "toolCalls": [{"id": "1", "name": "look_up", "arguments": {"order": 7}}]}
    found = conversation(http, "Where is it?")
    orders = json.dumps(
        [{"order": n, "lines": [{"sku": f"sku{n}", "deep": {"place": f"shelf{n}"}}]} for n in range(30)]
    )
    append(http, found, call, {"role": "tool", "content": orders, "toolCalls": [{"id": "1", "name": "look_up"}]})
    page.goto("/?q=shelf17")
    titles(page).click()
    expect(page.locator("#m2 mark.current")).to_have_text("shelf17")
    expect(page.locator("#m2 mark.current")).to_be_in_viewport()


def test_a_message_has_an_address(page: Page, http: httpx.Client) -> None:
    """Its time, or its number, is a link to it."""
    found = _long(http)
    page.goto(f"/conversations/{found}")
    page.locator("#m80 .permalink").click()
    expect(page).to_have_url(re.compile("#m80$"))
    page.goto("/")
    page.goto(f"/conversations/{found}#m80")
    expect(page.locator("#m80")).to_be_in_viewport()


def test_next_and_previous_follow_the_list(page: Page, http: httpx.Client) -> None:
    """As it was filtered; from an address that was opened directly, all of them."""
    for number in range(4):
        conversation(http, f"No. {number}", promptId=f"p{number % 2}")
    opened(page, "/?prompt=p0")
    expect(titles(page)).to_have_text(["No. 2", "No. 0"])
    titles(page).first.click()
    expect(page.get_by_role("link", name="Previous")).to_be_hidden()
    page.keyboard.press("J")
    expect(page.locator("h1")).to_have_text("No. 0")
    expect(page.get_by_role("link", name="Next")).to_be_hidden()
    page.get_by_role("link", name="Previous").click()
    expect(page.locator("h1")).to_have_text("No. 2")
    page.evaluate("() => sessionStorage.clear()")
    page.reload()
    page.keyboard.press("K")
    expect(page.locator("h1")).to_have_text("No. 3")


def test_ten_thousand_messages_are_pages(page: Page, server: LocalServer) -> None:
    """One holds five hundred; a hit on a later one is found there."""
    said = [{"role": ("user", "assistant")[n % 2], "content": f"**word** {n}"} for n in range(10_000)]
    said[7_777]["content"] = "the needle"
    server.store.create(NewConversation("huge", "a", "p", "active", "", said, title="Huge"))
    page.goto("/conversations/huge")
    expect(page.locator("article")).to_have_count(500)
    page.get_by_role("link", name="9,501–10,000").first.click()
    expect(page.locator("article").last).to_contain_text("word 9999")
    page.goto("/?q=needle")
    titles(page).click()
    expect(page.locator("#m7777 mark.current")).to_be_in_viewport()
