"""The pages of the local server."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from converra.server.store.records import NewConversation
from converra.server.viewer import routes

if TYPE_CHECKING:
    from converra.server.run import LocalServer
    from converra.server.store.conversations import Store

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}\u202eright to left\u202c'

SCRIPTS = ("vendor/htmx.min.js", "live.js", "viewer.js")


def page(server: LocalServer, path: str = "/") -> httpx.Response:
    return httpx.get(f"{server.url}{path}")


def conversation(http: httpx.Client, *messages: dict[str, Any], **fields: Any) -> str:
    created = http.post(
        "/conversations", json={"promptId": "prompt_1", "content": "User: Where is it?", "status": "active"} | fields
    )
    assert created.status_code == 200, created.text
    conversation_id = str(created.json()["id"])
    if messages:
        answer = http.post(
            f"/conversations/{conversation_id}/messages", json={"messages": list(messages), "status": "completed"}
        )
        assert answer.status_code == 200, answer.text
    return conversation_id


def test_an_empty_list_says_what_to_type(server: LocalServer) -> None:
    """The first page a new user sees has the one line that he needs, with the right port."""
    text = page(server).text
    assert f"export CONVERRA_BASE_URL={server.base_url} CONVERRA_API_KEY=dev" in text
    assert f"export OPENAI_BASE_URL={server.openai_url} OPENAI_API_KEY=dev" in text


def test_what_the_empty_list_says_works(server: LocalServer) -> None:
    """The command that says hello by hand makes a conversation of two turns, in any shell."""
    commands = [html.unescape(each) for each in re.findall("<code>(curl .*)</code>", page(server).text)]
    ((curl, url, _, header, _, body),) = map(shlex.split, commands)
    name, _, value = header.partition(": ")
    answer = httpx.post(url, content=body, headers={name: value, "Content-Type": "application/json"})
    assert (curl, answer.status_code) == ("curl", 200)
    (found,) = server.store.conversations()[0]
    assert server.store.messages(found) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
    ]


def test_the_list_shows_each_conversation(server: LocalServer, http: httpx.Client) -> None:
    """First words, prompt, status, messages, tokens, models and errors, with a link to the chat."""
    conversation_id = conversation(
        http,
        {
            "role": "assistant",
            "content": "There.",
            "model": "gpt-4o",
            "usage": {"promptTokens": 1234, "completionTokens": 5},
        },
        {"role": "user", "content": "No.", "metadata": {"error": {"type": "RateLimitError"}}},
    )
    text = page(server).text
    for shown in (f'href="/conversations/{conversation_id}"', "Where is it?", "prompt_1", "gpt-4o", "1,234", "1 error"):
        assert shown in text
    assert 'class="status completed"' in text


def test_a_conversation_reads_as_a_chat(server: LocalServer, http: httpx.Client) -> None:
    """Roles in order, a call with arguments and result, tokens, latency, session, simulated insights."""
    conversation_id = conversation(
        http,
        {
            "role": "tool",
            "content": "",
            "toolCalls": [{"id": "1", "name": "look_up", "arguments": {"order": 7}}],
            "latencyMs": 412,
        },
        {"role": "tool", "content": "lost at sea", "toolCalls": [{"id": "1", "name": "look_up"}]},
        {"role": "assistant", "content": "It is lost.", "metadata": {"partial": True}},
        content=json.dumps(
            {"messages": [{"role": "user", "content": "Where is it?"}], "metadata": {"sessionId": "sess_1"}}
        ),
    )
    text = page(server, f"/conversations/{conversation_id}").text
    order = ["Where is it?", "look_up", "lost at sea", "&#34;order&#34;: 7", "412 ms", "It is lost."]
    positions = [text.index(shown, text.index('id="bubbles"')) for shown in order[1:]]
    assert positions == sorted(positions)
    for shown in ("cut short", "sess_1", "simulated", "Tool call", "answered"):
        assert shown in text


def test_numbers_of_several_answers_are_named(server: LocalServer, http: httpx.Client) -> None:
    """A chart's number is its maximum, and the latency of a conversation is the sum of its answers'."""
    answers = [
        {"role": "assistant", "content": "a", "latencyMs": ms, "usage": {"promptTokens": sent, "completionTokens": 10}}
        for ms, sent in ((120, 50), (310, 90), (70, 30))
    ]
    text = page(server, f"/conversations/{conversation(http, *answers)}").text
    captions = re.findall(r"<figcaption>(.*?) <span>(.*?)</span></figcaption>", text)
    assert captions == [("Tokens per answer", "maximum 100"), ("Latency per answer", "maximum 310 ms")]
    assert re.findall(r'scale" [^>]*>(.*?)</div>', text) == [
        "<span>100</span><span>50</span><span>0</span>",
        "<span>310 ms</span><span>155 ms</span><span>0</span>",
    ]
    assert re.findall(r"<title>(.*?)</title></rect>", text)[-1] == "Answer 3: 70 ms"
    assert re.findall(r"<dt>Latency</dt><dd[^>]*>(.*?)</dd>", text) == ["500 ms in total"]
    assert text.count("500 ms in total") == 2  # also where a narrow page sums it up


def test_an_open_conversation_says_so(server: LocalServer, http: httpx.Client) -> None:
    """And has no insights yet."""
    text = page(server, f"/conversations/{conversation(http)}").text
    assert "The conversation is open." in text
    assert "Insights" not in text


def test_hostile_content_is_only_text(server: LocalServer, http: httpx.Client) -> None:
    """Whatever a user or a tool says, no tag, no attribute and no template of it comes alive."""
    conversation_id = conversation(
        http,
        {"role": "user", "content": HOSTILE, "timestamp": "2025-01-20T12:00:00Z", "colour": HOSTILE},
        {
            "role": "tool",
            "content": "",
            "model": HOSTILE,
            "toolCalls": [{"id": "1", "name": HOSTILE, "arguments": {HOSTILE: HOSTILE}}],
        },
        {"role": "tool", "content": HOSTILE, "toolCalls": [{"id": "1"}]},
        {
            "role": "assistant",
            "content": HOSTILE * 100,
            "metadata": {"error": {"type": HOSTILE}, "finishReason": HOSTILE},
        },
        promptId=HOSTILE,
        content=f"User: {HOSTILE}",
        companyName=HOSTILE,
        llmModel=HOSTILE,
    )
    chat = f"/conversations/{conversation_id}"
    for path in ("/", chat, f"{chat}/timeline", f"/compare?a={conversation_id}&b={conversation_id}"):
        text = page(server, path).text
        assert "alert(1)" in text
        assert "{{ 7*7 }}" in text
        assert re.findall("<script[^>]*>", text) == [f'<script src="/static/{name}" defer>' for name in SCRIPTS]
        assert "<img src=x" not in text
        assert "onerror=&#34;alert(2)&#34;" in text


def test_pages_are_locked_down(server: LocalServer, http: httpx.Client) -> None:
    """No script, style, picture or connection but from this server itself, no framing, no sniffing, no cache."""
    headers = page(server).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert [headers[name] for name in ("x-content-type-options", "referrer-policy", "cache-control")] == [
        "nosniff",
        "same-origin",
        "no-store",
    ]
    found = conversation(http, {"role": "assistant", "content": "|a|\n|:-:|\n|**b**|"})
    pages = (f"/conversations/{found}", f"/conversations/{found}/timeline", f"/compare?a={found}", "/requests/1")
    for path in ("/", *pages, "/conversations/conv_none"):
        text = page(server, path).text
        assert "style=" not in text
        assert "http://" not in text.replace(server.url, "")


def test_a_missing_conversation_is_a_page_too(server: LocalServer) -> None:
    """With a way back."""
    answer = page(server, "/conversations/conv_none")
    assert (answer.status_code, "There is no such conversation" in answer.text) == (404, True)


@pytest.mark.parametrize("name", ["viewer.css", "icon.svg", *SCRIPTS, "vendor/htmx.LICENSE.txt"])
def test_styles_and_scripts_come_from_this_server(server: LocalServer, name: str) -> None:
    """Nothing is fetched from anywhere else; what others wrote has its licence beside it."""
    answer = page(server, f"/static/{name}")
    kinds = {".css": "text/css", ".svg": "image/svg+xml", ".js": "text/javascript", ".txt": "text/plain"}
    kind = answer.headers["content-type"].split(";")[0].replace("application/javascript", "text/javascript")
    assert (answer.status_code, kind) == (200, kinds[PurePath(name).suffix])


def test_the_list_alone_is_for_htmx(server: LocalServer, http: httpx.Client) -> None:
    """Filtered and searched as the page is, with the address that shows the same; but history gets a whole page."""
    conversation(http)
    conversation(http, promptId="other", content="User: A needle here")
    ask = {"HX-Request": "true"}
    answer = httpx.get(f"{server.url}/?q=NEEDLE&prompt=other&status=&page=1", headers=ask)
    assert answer.headers["hx-replace-url"] == "/?q=NEEDLE&prompt=other"
    assert "<html" not in answer.text
    assert "Where is it?" not in answer.text
    assert "A <mark>needle</mark> here" in answer.text
    assert httpx.get(f"{server.url}/?page=2", headers=ask).headers["hx-replace-url"] == "/?page=2"
    assert httpx.get(server.url, headers=ask).headers["hx-replace-url"] == "/"
    assert "<html" in httpx.get(server.url, headers=ask | {"HX-History-Restore-Request": "true"}).text


def test_a_search_without_a_hit_says_so(server: LocalServer, http: httpx.Client) -> None:
    """With a way back to everything; and it keeps what was typed."""
    conversation(http)
    text = page(server, "/?q=%22nothing%22&session=s%3Cx&model=gone").text
    for shown in ("Nothing matches", 'href="/"', 'value="&#34;nothing&#34;"', 'value="s&lt;x"', "selected>gone<"):
        assert shown in text


def test_the_list_has_pages(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer and older, and any nonsense for a page number is the first."""
    monkeypatch.setattr(routes, "PAGE", 2)
    fill(server.store, 5)

    def shown(query: str) -> tuple[list[str], bool, bool]:
        text = page(server, f"/?{query}").text
        return [f"No. {n}" for n in range(5) if f"No. {n}<" in text], "← newer" in text, "older →" in text

    assert shown("") == (["No. 3", "No. 4"], False, True)
    assert shown("page=2") == (["No. 1", "No. 2"], True, True)
    assert shown("page=3") == (["No. 0"], True, False)
    for nonsense in ("page=0", "page=-1", "page=x", "page=99999999999999999999", "page=²"):
        assert shown(nonsense) == shown("")


def fill(store: Store, count: int) -> None:
    for number in range(count):
        message = {"role": "user", "content": f"No. {number}"}
        store.create(
            NewConversation(
                id=f"conv_{number}",
                account="a",
                prompt_id="p",
                status="active",
                content="",
                messages=[message],
                title=f"No. {number}",
            )
        )


def test_ten_thousand_messages_and_a_huge_one_take_bounded_room(server: LocalServer) -> None:
    """A page holds a window of a conversation, and so much of a message; the rest has addresses."""
    said = [{"role": ("user", "assistant")[at % 2], "content": f"**No. {at}**"} for at in range(10_000)]
    said[3]["content"] = "x" * 3_000_000
    server.store.create(NewConversation("huge", "a", "p", "active", "", said, title="Huge"))
    for path in ("/conversations/huge", "/conversations/huge?at=9999", "/conversations/huge/timeline"):
        assert len(page(server, path).content) < 1_500_000
    last = page(server, "/conversations/huge?at=9999").text
    assert (last.count("<article"), 'id="m9500"' in last, 'id="m9499"' in last) == (500, True, False)
    assert ('name="after" value="10000"' in last, "live:changed" in page(server, "/conversations/huge").text) == (
        True,
        False,
    )
    news = httpx.get(f"{server.url}/conversations/huge?after=9998", headers={"HX-Request": "true"}).text
    assert news.count("<article") == 2
    whole = page(server, "/conversations/huge/messages/3")
    assert (len(whole.text), whole.headers["content-type"]) == (3_000_000, "text/plain; charset=utf-8")
    assert page(server, "/conversations/huge/messages/10000").status_code == 404


def test_a_message_as_text_is_only_text(server: LocalServer, http: httpx.Client) -> None:
    """Nothing in it runs; of a message that only calls tools, the calls."""
    found = conversation(
        http,
        {"role": "assistant", "content": HOSTILE},
        {"role": "tool", "content": "", "toolCalls": [{"id": "1", "name": "look_up", "arguments": {}}]},
    )
    answer = page(server, f"/conversations/{found}/messages/1")
    assert answer.text == HOSTILE
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert json.loads(page(server, f"/conversations/{found}/messages/2").text)[0]["name"] == "look_up"


def test_a_list_names_itself(server: LocalServer, http: httpx.Client) -> None:
    """In the tab of the browser, also after a search without a reload."""
    conversation(http)
    named = "“where”, prompt_1, with errors, Conversations · converra"
    query = "q=where&prompt=prompt_1&errors=yes&sort=tokens"
    assert f"<title>{named}</title>" in page(server, f"/?{query}").text
    assert f"<title>{named}</title>" in httpx.get(f"{server.url}/?{query}", headers={"HX-Request": "true"}).text
    assert "<title>Conversations · converra</title>" in page(server).text
