"""A conversation, and the panels, in a real browser."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from converra.server.store.records import NewConversation
from tests.browser.test_list import conversation, opened

if TYPE_CHECKING:
    import httpx
    from playwright.sync_api import BrowserContext, Page

    from converra.server.run import LocalServer

HOSTILE = (
    '<script>alert("said")</script><img src="http://evil.example/x.png" onerror="alert(1)"></div></article>'
    '<style>*{display:none}</style><iframe srcdoc="<script>alert(2)</script>"></iframe>{{ 7*7 }}'
    '<a href="javascript:alert(3)">x</a>'
    '\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd " onfocus="alert(4)" autofocus'
)
CALL = {"role": "tool", "content": "", "toolCalls": [{"id": "1", "name": "look_up", "arguments": {"order": 7}}]}
RESULT = {"role": "tool", "content": "lost at sea", "toolCalls": [{"id": "1", "name": "look_up"}]}


def append(http: httpx.Client, conversation_id: str, *messages: Any, **fields: Any) -> None:
    body = {"messages": list(messages)} | fields
    http.post(f"/conversations/{conversation_id}/messages", json=body).raise_for_status()


def test_a_chat_grows_while_it_is_looked_at(page: Page, http: httpx.Client) -> None:
    """A result finds its call, which stays open; the numbers and the insights follow."""
    found = conversation(http, "Where is it?")
    opened(page, f"/conversations/{found}")
    append(http, found, CALL)
    call = page.locator("details.call")
    expect(call.locator(".badge")).to_have_text("no result")
    call.locator("summary").click()
    append(http, found, RESULT, {"role": "assistant", "content": "It is lost."}, status="completed")
    expect(page.locator("article.assistant")).to_contain_text("It is lost.")
    expect(call.locator(".badge")).to_have_text("answered")
    expect(call.locator(".result")).to_be_visible()
    expect(call.locator(".result")).to_have_text("lost at sea")
    expect(page.locator("article")).to_have_count(3)
    expect(page.locator("#status")).to_have_text("completed")
    expect(page.locator(".insights .badge")).to_have_text("simulated")
    expect(page.get_by_text("The conversation is open.")).to_be_hidden()


def test_an_answer_is_read_while_it_is_streamed(page: Page, http: httpx.Client, server: LocalServer) -> None:
    """Word by word, below the turns that are recorded, and in their place once it is recorded itself."""
    found = conversation(http, "Hello")
    append(http, found, {"role": "assistant", "content": "Hi!"})
    opened(page, f"/conversations/{found}")
    asked = "Where is it? [[slow:0.15]] [[say:It is on the way to you now.]]"
    said = [("user", "Hello"), ("assistant", "Hi!"), ("user", asked)]
    body = {"model": "m", "messages": [{"role": role, "content": text} for role, text in said], "stream": True}
    with http.stream("POST", f"{server.openai_url}/chat/completions", json=body) as stream:
        draft = page.locator(".draft.assistant .bubble")
        expect(draft).to_have_text(re.compile("^It is"))
        assert "now." not in draft.inner_text()
        expect(page.locator(".draft.user .bubble")).to_contain_text("Where is it?")
        for _ in stream.iter_lines():
            pass
    expect(draft).to_have_text("It is on the way to you now.")
    answer = {"role": "assistant", "content": "It is on the way to you now."}
    append(http, found, {"role": "user", "content": asked}, answer)
    expect(page.locator("#bubbles article")).to_have_count(4)
    expect(page.locator(".draft")).to_have_count(0)


def test_a_tool_call_unfolds(page: Page, http: httpx.Client) -> None:
    """One line says what was called and what came of it; a click shows all of it."""
    found = conversation(http, "Where is it?")
    append(http, found, CALL, RESULT)
    page.goto(f"/conversations/{found}")
    call = page.locator("details.call")
    expect(call.locator("summary")).to_contain_text("look_up(order=7) → lost at sea")
    expect(call.locator(".side").first).to_be_hidden()
    call.locator("summary").click()
    expect(call.locator(".side").first).to_be_visible()


def test_the_keyboard_reads_a_chat(page: Page, http: httpx.Client) -> None:
    """From turn to turn with j and k; x unfolds the calls, G and g go to the end and back, Escape to the list."""
    found = conversation(http, "Where is it?", promptId="chosen")
    append(http, found, CALL, RESULT, *[{"role": "assistant", "content": f"{n}\n" * 20} for n in range(5)])
    page.goto("/?prompt=chosen")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Where is it?")
    page.keyboard.press("j")
    expect(page.locator("article.user")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("article.tool")).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("details.call .result")).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator("details.call .result")).to_be_hidden()
    page.keyboard.press("G")
    expect(page.locator("article").last).to_be_in_viewport()
    page.keyboard.press("g")
    expect(page.locator("h1")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/\?prompt=chosen$"))


def test_a_title_comes_with_the_first_words_of_the_user(page: Page, http: httpx.Client) -> None:
    """Opened with its system prompt alone, a conversation is called by what is asked once it is."""
    content = {"messages": [{"role": "system", "content": "You sell tents."}]}
    found = conversation(http, "", content=json.dumps(content))
    opened(page, f"/conversations/{found}")
    expect(page.locator("h1")).to_have_text("You sell tents.")
    append(http, found, {"role": "user", "content": "Where is it?"})
    expect(page.locator("h1")).to_have_text("Where is it?")


def test_the_fields_of_a_message_unfold(page: Page, http: httpx.Client) -> None:
    """What has no place of its own on the page is a click away, as JSON."""
    found = conversation(http, "Hello")
    append(http, found, {"role": "user", "content": "x", "metadata": {"messageId": "m-7"}})
    page.goto(f"/conversations/{found}")
    page.locator("article").last.get_by_label("Its other fields").click()
    expect(page.locator("article").last.locator("pre")).to_have_text('{"metadata": {"messageId": "m-7"}}')


def test_five_hundred_messages_are_read_at_once(page: Page, http: httpx.Client) -> None:
    """A conversation as full as can be opens, grows and is left like any other."""
    lines = [{"role": ("user", "assistant")[n % 2], "content": f"{n} " + "long " * 190} for n in range(499)]
    found = conversation(http, "", content=json.dumps({"messages": lines}))
    opened(page, f"/conversations/{found}")
    expect(page.locator("article")).to_have_count(499)
    page.keyboard.press("G")
    append(http, found, {"role": "assistant", "content": "the last one"}, status="completed")
    expect(page.get_by_text("the last one")).to_be_in_viewport()
    expect(page.locator("article")).to_have_count(500)


def test_a_chat_fits_any_width(page: Page, http: httpx.Client, server: LocalServer) -> None:
    """Nothing has to be scrolled sideways, whatever the words, with everything unfolded."""
    long = "w" * 400
    call = {"role": "tool", "content": "", "toolCalls": [{"id": "1", "name": long, "arguments": {long: long}}]}
    content = {"messages": [{"role": "user", "content": long}], "metadata": {"sessionId": long, long: long}}
    found = conversation(http, "", content=json.dumps(content), promptId=long, companyName=long, llmModel=long)
    append(http, found, call, {"role": "tool", "content": long, "toolCalls": [{"id": "1"}]})
    answer = {"usage": {"promptTokens": 10**15, "completionTokens": 10**15}, "latencyMs": 10**7, "model": long}
    append(http, found, {"role": "assistant", "content": long, "metadata": {"error": long}} | answer)
    fields = "[...document.querySelectorAll('.line > *, .facts dd')]"
    paths = (f"/conversations/{found}", "/", f"/requests/{server.requests[-1].number}")
    for width, path in itertools.product((400, 1400), paths):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(path)
        for details in page.locator("details").all():
            details.evaluate("each => { each.open = true }")
        where = f"{path}, {width} px"
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), where
        assert page.evaluate(f"() => {fields}.every(each => each.getBoundingClientRect().right <= innerWidth)"), where


def test_conversations_that_belong_together_are_linked(page: Page, http: httpx.Client) -> None:
    """One that was full, the one that goes on, and the session of both."""
    first = conversation(http, "Part one")
    content = {
        "messages": [{"role": "user", "content": "Part two"}],
        "metadata": {"continues": first, "sessionId": "s"},
    }
    conversation(http, "", content=json.dumps(content))
    page.goto(f"/conversations/{first}")
    page.locator("#ending a").click()
    expect(page.locator("h1")).to_have_text("Part two")
    page.get_by_role("link", name=first).click()
    expect(page.locator("h1")).to_have_text("Part one")


def test_hostile_words_are_only_words(page: Page, http: httpx.Client, server: LocalServer) -> None:
    """In every field of every page: nothing runs, nothing is fetched, nothing leaves its bubble."""
    call = {
        "role": "tool",
        "content": "",
        "model": HOSTILE,
        "toolCalls": [{"id": "1", "name": HOSTILE, "arguments": HOSTILE}],
    }
    metadata = dict.fromkeys(("error", "finishReason", "thread", "part", "reasoning", "attachments"), HOSTILE)
    content = {
        "messages": [{"role": "user", "content": HOSTILE}],
        "metadata": {"sessionId": HOSTILE, "continues": HOSTILE},
    }
    found = conversation(http, "", content=json.dumps(content), promptId=HOSTILE, companyName=HOSTILE, llmModel=HOSTILE)
    append(http, found, call, {"role": "tool", "content": HOSTILE, "toolCalls": [{"id": "1"}]})
    append(http, found, {"role": "assistant", "content": HOSTILE, "metadata": metadata}, status="completed")
    http.get("/conversations", params={"status": HOSTILE})
    for path in ("/", "/?q=script", f"/conversations/{found}", "/requests", f"/requests/{server.requests[0].number}"):
        page.goto(path)
        for details in page.locator("details").all():
            details.evaluate("each => { each.open = true }")
        if path != "/requests":  # where refusals do not repeat what was refused
            expect(page.get_by_text("<script>alert(").locator("visible=true").first).to_be_visible()
        assert (
            page.locator("script:not([src]), img:not([src^='/static']), iframe, main style, main [onerror]").count()
            == 0
        )


def test_an_exported_page_is_harmless_too(
    page: Page, context: BrowserContext, http: httpx.Client, server: LocalServer, tmp_path: Path
) -> None:
    """From the disk, without this server: it reads the same, and nothing in it runs or is fetched."""
    found = conversation(http, HOSTILE)
    append(http, found, CALL, RESULT | {"content": HOSTILE})
    file = tmp_path / "chat.html"
    file.write_text(http.get(f"{server.url}/conversations/{found}/export/html").text)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    exported = context.new_page()
    exported.on("request", lambda request: asked.append(request.url))
    exported.on("dialog", lambda dialog: asked.append(dialog.message))
    exported.goto(file.as_uri())
    expect(exported.get_by_text("<script>alert(").locator("visible=true").first).to_be_visible()
    exported.locator("details.call summary").click()
    expect(exported.locator(".result")).to_contain_text("7*7")
    assert asked == [file.as_uri()]


def test_a_megabyte_and_broken_text_are_shown(page: Page, server: LocalServer) -> None:
    """Folded away until it is asked for, the rest on a page of its own; half a character becomes a mark."""
    huge = "x" * 1_000_000 + "end"
    broken = {"role": "tool", "content": '{"half": "\\ud83d"}', "toolCalls": [{"name": "half"}]}
    said: list[dict[str, Any]] = [{"role": "user", "content": huge}, broken]
    new = NewConversation("big", "a", "p", "active", "", said, title="Big")
    server.store.create(new)
    page.goto("/conversations/big")
    expect(page.get_by_text("197,000 more characters")).to_be_visible()
    page.locator("details.fold summary").click()
    expect(page.locator("details.fold .bubble")).to_have_text("x" * 197_000)
    page.get_by_role("link", name="The whole message").click()
    expect(page.locator("body")).to_contain_text("xend")
    page.go_back()
    expect(page.locator("article.tool .bubble, article.tool pre").first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_it_can_be_copied_and_saved(page: Page, context: BrowserContext, http: httpx.Client) -> None:
    """To the clipboard and as a file, with the same words in both."""
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = conversation(http, "Take me along")
    for kind, suffix in (("JSON", "json"), ("Structured content", "content.json")):
        page.goto(f"/conversations/{found}")
        row = page.locator(".exports div").filter(has_text=kind)
        row.get_by_role("button").click()
        expect(row.get_by_role("button")).to_have_text("Copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        with page.expect_download() as download:
            row.get_by_role("link").click()
        assert download.value.suggested_filename == f"{found}.{suffix}"
        assert Path(download.value.path()).read_text() == copied
        assert "Take me along" in copied


def test_chaos_is_a_click_away(page: Page, http: httpx.Client) -> None:
    """A switch spoils the next request, the log shows it as it happens, and one button ends it all."""
    page.goto("/chaos")
    page.select_option("[name=times]", "3")
    page.get_by_role("button", name="503").click()
    expect(page.locator("#on li").first).to_contain_text("503")
    expect(page.locator(".nav .badge")).to_have_text("1 on")
    page.get_by_role("link", name="Requests").click()
    expect(page.locator("#live")).to_have_text("live")
    assert http.post("/conversations", json={"promptId": "p", "content": "User: a"}).status_code == 503
    expect(page.locator("#log")).to_contain_text("chaos: 503")
    opened(page, "/chaos")
    expect(page.locator("#on")).to_contain_text("2 more times")
    http.get("/conversations")
    expect(page.locator("#on")).to_contain_text("once more")
    page.select_option("[name=times]", "always")
    page.get_by_role("button", name="Hang").click()
    page.get_by_role("button", name="Switch hang off").click()
    expect(page.locator("#on li .badge")).to_have_text(["503"])
    page.get_by_role("button", name="Switch everything off").click()
    expect(page.locator("#on")).to_contain_text("Nothing.")
    expect(page.locator(".nav .badge")).to_be_hidden()
    assert http.post("/conversations", json={"promptId": "p", "content": "User: a"}).status_code == 200


def test_webhooks_are_shown_as_they_go(page: Page, http: httpx.Client) -> None:
    """The address is set on the page; what became of each delivery appears there."""
    opened(page, "/webhooks")
    page.fill("#url", "http://127.0.0.1:1/hooks")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("button", name="Change")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")
    append(http, conversation(http, "Hello"), {"role": "user", "content": "x"})
    expect(page.locator("#deliveries .badge")).to_have_text("no answer")
    page.locator("#deliveries summary").click()
    expect(page.locator("#deliveries pre").first).to_contain_text("conversation.updated")
    page.get_by_role("button", name="Switch off").click()
    expect(page.locator("#url")).to_have_value("")


def test_an_address_elsewhere_is_refused_in_the_form(context: BrowserContext, server: LocalServer) -> None:
    """With the reason beside it, and what was typed still there to be corrected."""
    page = context.new_page()
    page.goto("/webhooks")
    page.fill("#url", "http://elsewhere.example/hooks")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("alert")).to_contain_text("on this machine")
    expect(page.locator("#url")).to_have_value("http://elsewhere.example/hooks")
