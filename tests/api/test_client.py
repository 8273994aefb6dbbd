"""The client, sync and async: what it sends, what it gives back, what it raises."""

from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converra.api import retry
from converra.api.results import Insights, StoredConversation, StoredMessage, StoredUsage
from converra.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContentLimitError,
    InternalServerError,
    InvalidArgumentError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    UnreadableResponseError,
    ValidationError,
)
from converra.wire.models import Message
from tests.api.callers import KEY, Caller, each_connection, each_library
from tests.api.scripted import answer, cut, drip, hang, hang_up, refusing_url, reset, scripted
from tests.patience import HANG, LONG

if TYPE_CHECKING:
    from collections.abc import Callable

WHEN = datetime(2025, 1, 20, 14, 30, tzinfo=UTC)
HELLO = [{"role": "user", "content": "Hello"}]
GET = lambda client: client.conversations.get("conv_1")  # noqa: E731 - a row's call, named
CREATE = lambda client: client.conversations.create(prompt_id="p", content="User: x")  # noqa: E731
APPEND = lambda client: client.conversations.append_messages("conv_1", messages=HELLO)  # noqa: E731

METHODS: list[Any] = [
    pytest.param(
        lambda client: client.conversations.create(
            prompt_id="p",
            content="User: Hello",
            status="completed",
            llm_model="gpt-4o",
            company_name="Acme",
            idempotency_key="k",
        ),
        ("POST", "/api/v1/conversations"),
        {
            "promptId": "p",
            "content": "User: Hello",
            "status": "completed",
            "llmModel": "gpt-4o",
            "companyName": "Acme",
            "idempotencyKey": "k",
        },
        {"id": "conv_1", "promptId": "p", "status": "completed", "createdAt": "2025-01-20T14:30:00Z", "_links": {}},
        StoredConversation(id="conv_1", prompt_id="p", status="completed", created_at=WHEN, extra={"_links": {}}),
        id="create",
    ),
    pytest.param(
        lambda client: client.conversations.create(
            prompt_id="p", content=[Message(role="user", content="Hello")], idempotency_key="k"
        ),
        ("POST", "/api/v1/conversations"),
        {"promptId": "p", "content": '{"messages":[{"role":"user","content":"Hello"}]}', "idempotencyKey": "k"},
        {},
        StoredConversation(),
        id="create from messages",
    ),
    pytest.param(
        lambda client: client.conversations.append_messages(
            "conv_1",
            messages=[{"role": "tool", "content": "", "tool_calls": [{"id": "c", "name": "look"}], "latency_ms": 5}],
            status="completed",
            metadata={"sessionId": "s"},
        ),
        ("POST", "/api/v1/conversations/conv_1/messages"),
        {
            "messages": [{"role": "tool", "content": "", "toolCalls": [{"id": "c", "name": "look"}], "latencyMs": 5.0}],
            "status": "completed",
            "metadata": {"sessionId": "s"},
        },
        {
            "id": "conv_1",
            "userId": "user_1",
            "title": "T",
            "content": "User: Hello",
            "messages": [{"role": "user", "content": "Hello", "usage": {"promptTokens": 3}}],
            "status": "active",
            "updatedAt": "2025-01-20T14:30:00Z",
            "metadata": {"sessionId": "s"},
        },
        StoredConversation(
            id="conv_1",
            user_id="user_1",
            title="T",
            content="User: Hello",
            messages=[StoredMessage(role="user", content="Hello", usage=StoredUsage(prompt_tokens=3))],
            status="active",
            updated_at=WHEN,
            metadata={"sessionId": "s"},
        ),
        id="append_messages",
    ),
    pytest.param(
        lambda client: client.conversations.get("conv 1/ü", include_insights=False),
        ("GET", "/api/v1/conversations/conv%201%2F%C3%BC?includeInsights=false"),
        None,
        {"id": "conv 1/ü", "llmModel": "gpt-4o", "insights": {"topics": ["a"], "taskCompleted": True}},
        StoredConversation(id="conv 1/ü", llm_model="gpt-4o", insights=Insights(topics=["a"], task_completed=True)),
        id="get",
    ),
    pytest.param(
        lambda client: client.conversations.insights("conv_1"),
        ("GET", "/api/v1/conversations/conv_1/insights"),
        None,
        {"conversationId": "conv_1", "sentiment": "positive", "sentimentScore": 0.82, "issues": [], "mood": 1},
        Insights(conversation_id="conv_1", sentiment="positive", sentiment_score=0.82, issues=[], extra={"mood": 1}),
        id="insights",
    ),
]


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize(("call", "target", "body", "said", "expected"), METHODS)
def test_each_method_sends_and_reads_what_the_document_says(
    caller: Caller, call: Callable[[Any], Any], target: tuple[str, str], body: Any, said: Any, expected: Any
) -> None:
    """Both clients send the same request for the same call and read the same result from the same answer."""
    with scripted(answer(said)) as server:
        assert caller(server.base_url, call) == expected
    [asked] = server.asked
    assert (asked.method, asked.path) == target
    assert (json.loads(asked.body) if asked.body else None) == body
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["user-agent"].startswith("converra-python/")
    assert asked.headers.get("content-type") == ("application/json" if body else None)


@each_connection
def test_list_names_its_filters(caller: Caller) -> None:
    """Every filter reaches the API under its own name."""
    call = lambda client: client.conversations.list(  # noqa: E731
        prompt_id="p", status="active", has_insights=True, limit=5, offset=10
    )
    with scripted(answer({"data": [{"id": "conv_1", "hasInsights": True}], "pagination": {"total": 11}})) as server:
        page = caller(server.base_url, call)
    assert server.asked[0].path == ("/api/v1/conversations?promptId=p&status=active&hasInsights=true&limit=5&offset=10")
    assert (page.data, page.pagination.total) == ([StoredConversation(id="conv_1", has_insights=True)], 11)


@each_connection
@pytest.mark.parametrize("path", ["", "/", "//", "/api/v1", "/api/v1///", "/a%20b/v1/"])
def test_the_base_url_may_end_as_it_likes(caller: Caller, path: str) -> None:
    """Trailing slashes and any path in front make no difference."""
    with scripted(answer({})) as server:
        caller(server.base_url.removesuffix("/api/v1") + path, GET)
    assert server.asked[0].path == f"{path.rstrip('/')}/conversations/conv_1"


STATUSES: list[tuple[int, type[APIStatusError]]] = [
    (302, APIStatusError),
    (400, ValidationError),
    (401, AuthenticationError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (409, APIStatusError),
    (413, PayloadTooLargeError),
    (429, RateLimitError),
    (500, InternalServerError),
    (599, InternalServerError),
]


@each_connection
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_each_status_has_its_error(caller: Caller, status: int, kind: type[APIStatusError]) -> None:
    """An error carries the status, the API's code, words and details, and the answer's headers."""
    said = {"error": {"code": "NO", "message": "Not so", "details": {"promptId": "Required field"}}}
    with scripted(answer(said, status, X_Request_Id="r")) as server, pytest.raises(kind) as caught:
        caller(server.base_url, GET, max_retries=0)
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.code, error.message) == (status, "NO", "Not so")
    assert (error.details, error.headers["x-request-id"]) == ({"promptId": "Required field"}, "r")


@each_connection
def test_a_redirect_is_not_followed(caller: Caller) -> None:
    """The key never travels to another address; the error says where the API pointed."""
    with scripted(answer(b"", 307, Location="http://127.0.0.1:1/")) as server, pytest.raises(APIStatusError) as caught:
        caller(server.base_url, APPEND)
    assert str(caught.value) == (
        "307: the API answered 307 Temporary Redirect to http://127.0.0.1:1/; redirects are not followed, is base_url "
        "right?"
    )
    assert len(server.asked) == 1


@each_connection
@pytest.mark.parametrize("status", [408, 425, 429])
@pytest.mark.parametrize("call", [GET, CREATE, APPEND], ids=["get", "create", "append"])
def test_an_answer_that_stored_nothing_is_retried(caller: Caller, call: Callable[[Any], Any], status: int) -> None:
    """Every method is sent again, unchanged, after a status that says that nothing happened."""
    with scripted(answer({}, status, Retry_After="0"), answer({}, status, Retry_After="0"), answer({"id": "c"})) as s:
        assert caller(s.base_url, call) == StoredConversation(id="c")
    assert len(s.asked) == 3
    assert s.asked[0][:2] + s.asked[0][3:] == s.asked[2][:2] + s.asked[2][3:]


AMBIGUOUS: list[Any] = [
    pytest.param(answer({}, 500), InternalServerError, id="500"),
    pytest.param(answer({}, 503), InternalServerError, id="503"),
    pytest.param(answer(b"<html>welcome</html>"), UnreadableResponseError, id="unreadable 200"),
    pytest.param(answer([]), UnreadableResponseError, id="a list for an object"),
    pytest.param(answer(b""), UnreadableResponseError, id="empty 200"),
    pytest.param(answer(b'{"id": "c"}', Content_Encoding="gzip"), UnreadableResponseError, id="broken gzip"),
    pytest.param(reset, APIConnectionError, id="reset"),
    pytest.param(hang_up, APIConnectionError, id="closed"),
    pytest.param(cut(), APIConnectionError, id="cut"),
    pytest.param(hang, APITimeoutError, id="hang"),
]


@each_connection
@pytest.mark.parametrize("call", [GET, CREATE], ids=["get", "create"])
@pytest.mark.parametrize(("line", "_kind"), AMBIGUOUS)
def test_an_unknown_outcome_is_retried_where_that_is_safe(
    caller: Caller, call: Callable[[Any], Any], line: Any, _kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads, and creates by their idempotency key, are sent again whatever happened to the first."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)
    with scripted(line, answer({"id": "c"})) as server:
        assert caller(server.base_url, call, timeout=3 if line is hang else LONG) == StoredConversation(id="c")
    assert len({asked.body for asked in server.asked}) == 1
    assert len(server.asked) == 2


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize(("line", "kind"), AMBIGUOUS)
def test_an_append_with_unknown_outcome_is_sent_once(caller: Caller, line: Any, kind: Any) -> None:
    """An append has no key: what may be stored is never sent again, the error tells."""
    with scripted(line, answer({})) as server, pytest.raises(kind):
        caller(server.base_url, APPEND, timeout=3 if line is hang else LONG)
    assert len(server.asked) == 1


@each_library
@pytest.mark.usefixtures("library")
@each_connection
def test_nobody_listening_is_told_and_retried(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is an error that names the host and says that nothing was sent."""
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.001)
    url = refusing_url()
    with pytest.raises(APIConnectionError) as caught:
        caller(url, APPEND)
    assert str(caught.value) == f"no answer from {url.split('/')[2]}: connection refused"
    assert caught.value.sent is False


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize(
    ("number", "words"),
    [(socket.EAI_NONAME, "no such host"), (socket.EAI_AGAIN, "temporary failure in name resolution")],
)
def test_a_host_without_an_address_is_told_in_words(
    caller: Caller, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is not found, or not now, is explained without the number of the resolver's error."""

    def unknown(*_args: Any, **_kwargs: Any) -> None:
        raise socket.gaierror(number, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(APIConnectionError) as caught:
        caller("http://api.invalid/v1", APPEND, max_retries=0)
    assert (str(caught.value), caught.value.sent) == (f"no answer from api.invalid: {words}", False)


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize(("line", "words"), [(reset, "connection reset by peer"), (hang_up, "disconnected")])
def test_the_reason_is_that_of_the_request(caller: Caller, line: Any, words: str) -> None:
    """An error that the app handles by this request is not taken for the request's own."""
    with scripted(line) as server:
        try:
            Path("no such file").read_text()
        except FileNotFoundError:
            with pytest.raises(APIConnectionError) as caught:
                caller(server.base_url, APPEND)
    assert words in str(caught.value)
    assert "Errno" not in str(caught.value)


@each_connection
def test_retries_end(caller: Caller) -> None:
    """After `max_retries` further attempts the last error is raised."""
    lines = [answer({}, 503, Retry_After="0")] * 3
    with scripted(*lines) as server, pytest.raises(InternalServerError):
        caller(server.base_url, GET, max_retries=2)
    assert len(server.asked) == 3


@each_connection
def test_retry_after_is_waited_out(caller: Caller) -> None:
    """The next attempt comes when the API asked for it, not earlier."""
    with scripted(answer({}, 429, Retry_After="0.2"), answer({})) as server:
        caller(server.base_url, APPEND)
    assert server.times[1] - server.times[0] >= 0.2


@each_connection
def test_each_create_has_a_key_of_its_own(caller: Caller) -> None:
    """Two equal creates make two conversations; only a retry repeats the key."""
    with scripted(answer({}, 500, Retry_After="0"), answer({}), answer({})) as server:
        caller(server.base_url, CREATE)
        caller(server.base_url, CREATE)
    keys = [json.loads(asked.body)["idempotencyKey"] for asked in server.asked]
    assert keys[0] == keys[1] != keys[2]
    assert all(key.startswith("converra-") for key in keys)


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = [
    pytest.param(b"", id="status line"),
    pytest.param(HEAD + b"X-Slow: ", id="headers"),
    pytest.param(HEAD + b"Content-Length: 100000\r\n\r\n", id="body"),
    pytest.param(HEAD + b"\r\n", id="endless body"),
]


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize("beginning", DRIPS)
def test_a_server_that_drips_cannot_stretch_the_timeout(caller: Caller, beginning: bytes) -> None:
    """The timeout is for the whole request, however often something arrives."""
    with scripted(drip(beginning)) as server:
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            caller(server.base_url, APPEND, timeout=1)
        assert time.monotonic() - started < HANG
    assert str(caught.value) == f"no answer from 127.0.0.1:{server.server_address[1]} within 1 s"
    assert caught.value.sent is True


@each_library
@pytest.mark.usefixtures("library")
@each_connection
@pytest.mark.parametrize(
    "line", [cut(429), drip(b"HTTP/1.1 429 No\r\nContent-Length: 1000\r\n\r\n")], ids=["cut", "drip"]
)
def test_an_error_status_counts_without_its_body(caller: Caller, line: Any) -> None:
    """When the status has arrived, a body that does not adds nothing: the outcome is known."""
    with scripted(line) as server, pytest.raises(RateLimitError):
        caller(server.base_url, APPEND, timeout=3, max_retries=0)


WRONG: list[Any] = [
    (lambda c: c.conversations.create(prompt_id="", content="User: x"), "prompt_id is '', expected a non-empty string"),
    (lambda c: c.conversations.create(prompt_id=None, content="x"), "prompt_id is None, expected a non-empty string"),
    (lambda c: c.conversations.create(prompt_id=5, content="x"), "prompt_id is 5, expected a non-empty string"),
    (lambda c: c.conversations.create(prompt_id="\ud800", content="x"), "prompt_id is no valid Unicode text: "),
    (lambda c: c.conversations.create(prompt_id="p", content=" "), "content is empty, expected a transcript or"),
    (lambda c: c.conversations.create(prompt_id="p", content="\ud800"), "content is no valid Unicode text: "),
    (lambda c: c.conversations.create(prompt_id="p", content=[]), "messages is empty, expected at least one message"),
    (lambda c: c.conversations.create(prompt_id="p", content=5), "messages is int, expected a list of messages"),
    (
        lambda c: c.conversations.create(prompt_id="p", content=[{"role": "robot", "content": "x"}]),
        "messages[0]: role is 'robot', expected one of user, assistant, system, tool",
    ),
    (
        lambda c: c.conversations.create(prompt_id="p", content="User: x", status="done"),
        "status is 'done', expected one of active, in_progress, completed, abandoned",
    ),
    (
        lambda c: c.conversations.create(prompt_id="p", content="User: x", idempotency_key=""),
        "idempotency_key is '', expected a non-empty string",
    ),
    (lambda c: c.conversations.append_messages("", messages=HELLO), "conversation_id is '', expected a non-empty"),
    (lambda c: c.conversations.append_messages("..", messages=HELLO), "conversation_id is '..', which a URL cannot"),
    (lambda c: c.conversations.append_messages("c", messages=[]), "messages is empty, expected at least one message"),
    (
        lambda c: c.conversations.append_messages("c", messages=[{"role": "user", "content": ""}]),
        "messages[0]: content of a user message is empty; only a tool message may have none",
    ),
    (
        lambda c: c.conversations.append_messages("c", messages=HELLO, status="abandoned"),
        "status is 'abandoned', expected one of active, completed",
    ),
    (
        lambda c: c.conversations.append_messages("c", messages=HELLO, metadata={"x": object()}),
        "the request cannot be written as JSON: object is not JSON",
    ),
    (lambda c: c.conversations.list(limit=0), "limit is 0, expected a whole number of at least 1"),
    (lambda c: c.conversations.list(offset=-1), "offset is -1, expected a whole number of at least 0"),
    (lambda c: c.conversations.list(has_insights="yes"), "has_insights is 'yes', expected True or False"),
    (lambda c: c.conversations.get(None), "conversation_id is None, expected a non-empty string"),
    (lambda c: c.conversations.insights("."), "conversation_id is '.', which a URL cannot hold"),
]


@each_connection
@pytest.mark.parametrize(("call", "expected"), WRONG)
def test_wrong_arguments_are_refused_at_the_call(caller: Caller, call: Callable[[Any], Any], expected: str) -> None:
    """What can never work is an error that says what was found and expected, and nothing is sent."""
    with scripted() as server, pytest.raises(InvalidArgumentError) as caught:
        caller(server.base_url, call)
    assert str(caught.value).startswith(expected)
    assert server.asked == []


@each_connection
@pytest.mark.parametrize(
    "content",
    [
        "User: " + "x" * 512 * 1024,
        "User: " + "x" * (100 * 1024 + 1),
        [{"role": "user", "content": "x"}] * 501,
        json.dumps({"messages": [{"role": "user", "content": "x"}] * 501}),
    ],
    ids=["content", "message", "messages", "messages in a string"],
)
def test_content_over_the_limits_is_refused_before_sending(caller: Caller, content: Any) -> None:
    """`create` knows the API's limits and keeps them."""
    with scripted() as server, pytest.raises(ContentLimitError):
        caller(server.base_url, lambda client: client.conversations.create(prompt_id="p", content=content))
    assert server.asked == []
