"""The request log and the health strip of the viewer."""

from __future__ import annotations

import html
import re
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
from openai import OpenAI

from converra.server.run import serve
from converra.server.store.records import LoggedRequest, RequestLine, fingerprint
from converra.server.viewer import replay, request_pages
from converra.server.viewer.health import Health, Tick, health
from tests.server.test_viewer import HOSTILE, conversation, page

if TYPE_CHECKING:
    import pytest

    from converra.server.run import LocalServer

HELLO = {"promptId": "p", "content": "User: Hello"}


def test_the_log_says_what_happened(server: LocalServer, http: httpx.Client) -> None:
    """Method, path, status, bytes, attempts, the fault, and why something was refused."""
    server.faults.add("create", "status", status=503)
    http.post("/conversations", json=HELLO)
    http.post("/conversations", json=HELLO)
    http.post("/conversations", json={"promptId": "p"})
    text = page(server, "/requests").text
    for shown in (
        "<b>POST</b> /api/v1/conversations",
        "503",
        "200",
        "attempt 2",
        "chaos: 503",
        "content: Required field",
    ):
        assert shown in text
    assert text.count("data-item") == 3
    refused = page(server, "/requests?failed=yes").text
    assert (refused.count("data-item"), "attempt 2" in refused) == (2, False)


def test_what_got_no_answer_is_named(server: LocalServer, http: httpx.Client) -> None:
    """With the fault that took it."""
    server.faults.add("create", "reset", when="after")
    try:
        http.post("/conversations", json=HELLO)
    except httpx.TransportError:
        pass
    else:
        raise AssertionError
    text = page(server, "/requests").text
    assert ("no answer" in text, "chaos: reset after" in text) == (True, True)


def test_a_request_is_shown_as_it_was_received(server: LocalServer, http: httpx.Client) -> None:
    """Headers without the key, the body indented, all of it as text."""
    conversation_id = conversation(http, {"role": "assistant", "content": HOSTILE}, content=f"User: {HOSTILE}")
    text = page(server, "/requests/2").text
    for shown in ("&#34;messages&#34;: [", "alert(1)", f"sha256:{fingerprint('key-of-a-test')}", conversation_id):
        assert shown in text
    assert "key-of-a-test" not in text
    assert "<img src=x" not in text
    for number in ("99", "9" * 30, "0", "x"):
        assert page(server, f"/requests/{number}").status_code == 404


def test_structured_content_is_shown_decoded(server: LocalServer, http: httpx.Client) -> None:
    """JSON inside of JSON is hard to read, so it stands there once more; text and broken JSON do not."""
    structured = '{"messages":[{"role":"user","content":"<b>Hello"}]}'
    for content in (structured, "User: Hello", "{broken"):
        http.post("/conversations", json={"promptId": "p", "content": content})
    shown = [page(server, f"/requests/{number}").text for number in (1, 2, 3)]
    assert ["decoded</h3>" in text for text in shown] == [True, False, False]
    assert "&#34;content&#34;: &#34;&lt;b&gt;Hello&#34;" in shown[0]


def test_no_key_of_any_client_is_kept(server: LocalServer) -> None:
    """Whatever the header or the parameter is called that somebody put it in; an idempotency key is none."""
    named = ("api-key", "x-goog-api-key", "proxy-authorization", "x-auth-token", "x-client-secret")
    headers = dict.fromkeys(named, "hidden") | {"cookie": "session=hidden", "idempotency-key": "once"}
    path = "/openai/deployments/m/chat/completions?api-version=1&api_key=hidden&tokens"
    httpx.post(f"{server.url}{path}", json={"messages": []}, headers=headers)
    httpx.get(f"{server.base_url}/conversations", headers={"Authorization": "hidden"})
    kept, schemeless = server.requests
    assert {kept.headers[name] for name in named} == {f"sha256:{fingerprint('hidden')}"}
    assert kept.headers["idempotency-key"] == "once"
    assert kept.path == "/openai/deployments/m/chat/completions?api-version=1&api_key=…&tokens=…"
    assert "hidden" not in str([kept, schemeless])


def test_a_body_that_is_no_json_or_huge_is_shown_too(server: LocalServer, http: httpx.Client) -> None:
    """As text, and of a huge one the beginning."""
    http.post("/conversations", content=b"\xff not json", headers={"content-type": "application/json"})
    http.post("/conversations", json={"promptId": "x" * 300_000})
    assert "\ufffd not json" in page(server, "/requests/1").text
    huge = page(server, "/requests/2").text
    assert ("More of it is not shown." in huge, len(huge) < 250_000) == (True, True)


def test_the_log_has_pages(server: LocalServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, by number, so that a page stays the same while requests come in."""
    monkeypatch.setattr(request_pages, "PAGE", 2)
    for number in range(3):
        http.get(f"/conversations/n{number}")
    first, second = page(server, "/requests").text, page(server, "/requests?before=2").text
    assert [f"conversations/n{number}</a>" in first for number in range(3)] == [False, True, True]
    assert [f"conversations/n{number}</a>" in second for number in range(3)] == [True, False, False]
    assert ("/requests?before=2" in first, "← newest" in second) == (True, True)


def test_an_empty_log_says_what_belongs_there(server: LocalServer) -> None:
    """And the strip says that there is nothing."""
    text = page(server, "/requests").text
    assert ("No requests yet" in text, f"{server.url}/openai/v1" in text) == (True, True)
    assert "Nothing matches" in page(server, "/requests?failed=yes").text
    assert "No requests yet" in page(server, "/health").text


def test_the_strip_sums_up() -> None:
    """Each request by its outcome, oldest first, and the median of those that were answered."""

    def line(number: int, status: int | None, ms: float, fault: str | None = None) -> RequestLine:
        return RequestLine(number, 0, None, "GET", "/p", 0, status, ms, 0, 1, None, fault)

    found = health([line(4, None, 9000, "hang"), line(3, 500, 30), line(2, 404, 20), line(1, 200, 10)])
    assert found == Health(
        ticks=[
            Tick(1, "served", "GET /p: 200"),
            Tick(2, "refused", "GET /p: 404"),
            Tick(3, "failed", "GET /p: 500"),
            Tick(4, "unanswered", "GET /p: no answer, fault: hang"),
        ],
        counts={"served": 1, "refused": 1, "failed": 1, "unanswered": 1},
        median="20 ms",
    )
    assert health([]) == Health([], {"served": 0, "refused": 0, "failed": 0, "unanswered": 0}, None)


def test_openais_client_counts_its_attempts(server: LocalServer) -> None:
    """Two requests with the same words are two, unless the client says that it tries again."""
    with OpenAI(api_key="k", base_url=server.openai_url, max_retries=1) as openai:
        for words in ("hi", "hi", "[[error:500 x1]]"):
            openai.chat.completions.create(model="m", messages=[{"role": "user", "content": words}])
    assert [request.attempt for request in server.requests] == [1, 1, 1, 2]


def test_a_turn_shows_how_much_was_resent(server: LocalServer, http: httpx.Client) -> None:
    """From the log of the stand-in model: what the request sent, and what of it was new."""
    history = [{"role": "system", "content": "Be kind."}]
    conversation_id = ""
    with OpenAI(api_key="k", base_url=server.openai_url) as openai:
        for said in ("[[say:one]]", "[[say:two]]", "[[tool:look {}]]"):
            user = {"role": "user", "content": said}
            history.append(user)
            answer = openai.chat.completions.create(model="m", messages=history).choices[0].message  # type: ignore[arg-type] # plain dicts
            history.append({"role": "assistant", "content": answer.content or "?"})
            calls = [{"id": call.id, "name": "look", "arguments": {}} for call in answer.tool_calls or ()]
            turn = {"role": "tool", "content": "", "toolCalls": calls} if calls else history[-1]
            if not conversation_id:
                conversation_id = conversation(http, content=f"User: {said}")
                new = [turn]
            else:
                new = [user, turn]
            http.post(f"/conversations/{conversation_id}/messages", json={"messages": new}).raise_for_status()
    text = page(server, f"/conversations/{conversation_id}").text
    for shown in ("2 new messages, 1 resent", "2 new messages, 3 resent", "2 new messages, 5 resent"):
        assert shown in text
    number = next(r.number for r in server.requests if r.path.startswith("/openai"))
    assert f'href="/requests/{number}"' in text


def test_responses_know_what_they_were_sent(server: LocalServer, http: httpx.Client) -> None:
    """With an id of what came before, nothing is resent."""
    with OpenAI(api_key="k", base_url=server.openai_url) as openai:
        first = openai.responses.create(model="m", input="[[say:first]]")
        openai.responses.create(model="m", input="[[say:second]]", previous_response_id=first.id)
    said = [("user", "a"), ("assistant", "first"), ("user", "b"), ("assistant", "second"), ("assistant", "never said")]
    conversation_id = conversation(http, *({"role": role, "content": text} for role, text in said[1:]))
    text = page(server, f"/conversations/{conversation_id}").text
    assert text.count("2 new messages, 0 resent") == 2
    assert text.count(" resent") == 2


def test_both_sides_of_a_request_are_shown(server: LocalServer, http: httpx.Client) -> None:
    """The answer as it was sent, indented where it is JSON; a stream event by event; a hostile one as text."""
    conversation_id = conversation(http, content=f"User: {HOSTILE}")
    http.get(f"/conversations/{conversation_id}")
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "[[say:streamed words]]"}], "stream": True}
    httpx.post(f"{server.openai_url}/chat/completions", json=body, headers={"Authorization": "Bearer k"})
    created, read, streamed = (html.unescape(page(server, f"/requests/{number}").text) for number in (1, 2, 3))
    assert f'"id": "{conversation_id}"' in created
    assert "application/json" in created
    assert "<img src=x" not in page(server, "/requests/2").text
    assert "alert(1)" in read
    assert ("text/event-stream" in streamed, "data: [DONE]" in streamed) == (True, True)


def test_a_huge_answer_is_kept_and_shown_in_part(server: LocalServer) -> None:
    """The log keeps a megabyte of it, and the page says that there was more."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"[[say:{'x' * 1_500_000}]]"}]}
    httpx.post(f"{server.openai_url}/chat/completions", json=body, headers={"Authorization": "Bearer k"})
    (logged,) = server.requests
    assert (len(logged.answer), logged.answer_bytes) == (1024 * 1024, max(logged.answer_bytes or 0, 1_500_000))
    text = page(server, "/requests/1").text
    assert (text.count("More of it is not shown."), len(text) < 600_000) == (2, True)


def _named(text: str) -> list[str]:
    return re.findall(r"</b> (\S+)</a>", text)


def test_the_log_is_filtered(server: LocalServer, http: httpx.Client) -> None:
    """By API, path, model and failure; for htmx with the address that shows the same."""
    for model in ("gpt-4o", "claude"):
        httpx.post(f"{server.openai_url}/chat/completions", json={"model": model, "messages": []})
    http.get("/conversations")
    http.get("/conversations/none")
    chat, some, none = "/openai/v1/chat/completions", "/api/v1/conversations", "/api/v1/conversations/none"
    for query, expected in (
        ("api=/openai/", [chat, chat]),
        ("api=/api/", [none, some]),
        ("api=/nonsense/", [none, some, chat, chat]),
        ("q=CLAUDE", [chat]),
        ("q=none", [none]),
        ("q=%25", []),
        ("failed=yes&api=/api/", [none]),
    ):
        assert _named(page(server, f"/requests?{query}").text) == expected
    answer = httpx.get(f"{server.url}/requests?q=none&failed=yes", headers={"HX-Request": "true"})
    assert answer.headers["hx-replace-url"] == "/requests?failed=yes&q=none"
    assert "<html" not in answer.text


def test_a_request_can_be_copied_as_curl(server: LocalServer, http: httpx.Client) -> None:
    """The shell sends the same body, with the key of its environment, whatever quotes the words have."""
    said = 'User: it\'s "quoted" `$HOME` \\ and\nAssistant: more'
    http.post("/conversations", json={"promptId": "p", "content": said}, headers={"X-Own": "it's"})
    command = httpx.get(f"{server.url}/requests/1/curl").text
    assert 'Authorization: Bearer $CONVERRA_API_KEY"' in command
    assert "sha256" not in command
    run = ["sh", "-c", command.replace("curl", "curl -sS --noproxy '*'", 1)]
    done = subprocess.run(
        run, env={"CONVERRA_API_KEY": "from-the-shell", "PATH": "/usr/bin:/bin"}, check=False, timeout=60
    )
    assert done.returncode == 0
    first, second = server.requests
    assert (second.body, second.path, second.headers["x-own"]) == (first.body, first.path, "it's")
    assert second.account == fingerprint("from-the-shell")


def test_requests_in_geminis_format(server: LocalServer) -> None:
    """They are found by API and by the model, which is in the address; copied, they name Gemini's key."""
    path = "/v1beta/models/gemini-x:generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    httpx.post(f"{server.google_url}{path}", json=body, headers={"x-goog-api-key": "k"}).raise_for_status()
    for query in ("api=/google/", "q=gemini-x"):
        assert "gemini-x" in page(server, f"/requests?{query}").text
    assert "Nothing matches" in page(server, "/requests?api=/openai/").text
    assert server.store.log.lines(1)[0].model == "gemini-x"
    command = httpx.get(f"{server.url}/requests/1/curl").text
    assert '"x-goog-api-key: $GEMINI_API_KEY"' in command


def test_what_the_log_has_not_cannot_be_copied_or_sent() -> None:
    """A body that was cut, one that is no text, and a path from which a key was removed."""

    def logged(**fields: Any) -> LoggedRequest:
        plain: dict[str, Any] = {
            "number": 1,
            "received_at": 0,
            "account": None,
            "method": "PUT",
            "path": "/api/v1/x",
            "headers": {},
            "body": b"",
            "body_bytes": 0,
            "status": 200,
            "ms": 1.0,
            "answer_bytes": 0,
            "attempt": 1,
            "reason": None,
            "fault": None,
        }
        return LoggedRequest(**plain | fields)

    assert replay.curl(logged(), "http://x") == "curl http://x/api/v1/x \\\n  -X PUT"
    assert replay.curl(logged(body=b"a", body_bytes=2), "http://x") is None
    assert replay.curl(logged(body=b"\xff", body_bytes=1), "http://x") is None
    assert not replay.can_be_sent(logged(path="/api/v1/x?key=…"))


def test_a_request_is_sent_again(server: LocalServer, http: httpx.Client) -> None:
    """For the same account, without its key; the page of the new one is shown, as another attempt."""
    http.post("/conversations", json=HELLO)
    answer = httpx.post(f"{server.url}/requests/1/again")
    assert (answer.status_code, answer.headers["location"]) == (303, "/requests/2")
    first, second = server.requests
    assert (second.body, second.account, second.status, second.attempt) == (first.body, first.account, 200, 2)
    assert second.headers["authorization"] == first.headers["authorization"]
    assert http.get("/conversations").json()["pagination"]["total"] == 2
    assert httpx.post(f"{server.url}/requests/99/again").status_code == 404


def test_a_request_is_sent_again_to_the_model_and_through_chaos(server: LocalServer, http: httpx.Client) -> None:
    """A stream is answered as a stream; a fault that breaks connections leaves it without an answer."""
    body = {"model": "m", "messages": [{"role": "user", "content": "[[say:again]]"}], "stream": True}
    httpx.post(f"{server.openai_url}/chat/completions", json=body, headers={"Authorization": "Bearer k"})
    httpx.post(f"{server.url}/requests/1/again")
    assert [b"again" in request.answer for request in server.requests] == [True, True]
    http.post("/conversations", json=HELLO)
    server.faults.add("create", "reset")
    assert httpx.post(f"{server.url}/requests/3/again").status_code == 303
    assert (server.requests[-1].status, server.requests[-1].fault) == (None, "reset")


def test_another_site_cannot_have_a_request_sent_again(server: LocalServer, http: httpx.Client) -> None:
    """Its form is refused, and so is the scope's mark where a client sends it as a header."""
    http.post("/conversations", json=HELLO)
    headers = {"Origin": "https://evil.example"}
    assert httpx.post(f"{server.url}/requests/1/again", headers=headers).status_code == 403
    spoofed = httpx.get(f"{server.base_url}/conversations", headers={"converra.account": fingerprint("key-of-a-test")})
    assert spoofed.status_code == 401
    assert len(server.requests) == 2


def test_with_a_token_a_request_is_sent_again_too() -> None:
    """The page has the token in its cookie; the request itself needs none."""
    with (
        serve(token="sesame") as server,
        httpx.Client(base_url=server.url, cookies={"converra_token": "sesame"}) as browser,
    ):
        httpx.post(f"{server.base_url}/conversations", json=HELLO, headers={"Authorization": "Bearer sesame"})
        assert browser.post("/requests/1/again").headers["location"] == "/requests/2"
        assert server.requests[-1].status == 200
