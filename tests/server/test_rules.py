"""Every rule by which the API refuses a request, in a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

KB = 1024
HELLO = {"promptId": "p", "content": "User: Hello"}
CALL = "messages[0].toolCalls[0]"
CONTENT_FIELDS = "Unknown field; known are: role, content, timestamp, model, tokens"
LABELS = "Neither JSON with a messages array nor text with role labels: the transcript has no role label at the start"


def structured(*messages: Any, **fields: Any) -> str:
    return json.dumps({"messages": list(messages)} | fields)


CREATE_RULES: list[tuple[Any, dict[str, str]]] = [
    ({}, {"promptId": "Required field", "content": "Required field"}),
    ([], {"body": "Expected an object, got an array"}),
    ("User: Hello", {"body": "Expected an object, got a string"}),
    (HELLO | {"promptId": None}, {"promptId": "Expected a string, got null"}),
    (HELLO | {"promptId": 7}, {"promptId": "Expected a string, got a number"}),
    (HELLO | {"promptId": ""}, {"promptId": "Must not be empty"}),
    (HELLO | {"content": ""}, {"content": "Must not be empty"}),
    (HELLO | {"content": {"messages": []}}, {"content": "Expected a string, got an object"}),
    (
        HELLO | {"content": '"User: Hello"'},
        {"content": f"{LABELS} of a line; known are User/Assistant, Human/AI, Customer/Agent"},
    ),
    (
        HELLO | {"content": "User: "},
        {"content": f"{LABELS} of a line; known are User/Assistant, Human/AI, Customer/Agent"},
    ),
    (
        HELLO | {"content": '{"messages": ['},
        {"content": f"{LABELS} of a line; known are User/Assistant, Human/AI, Customer/Agent"},
    ),
    (HELLO | {"content": "{}"}, {"content.messages": "Required field"}),
    (HELLO | {"content": structured()}, {"content.messages": "At least one is required"}),
    (HELLO | {"content": structured("hi")}, {"content.messages[0]": "Expected an object, got a string"}),
    (
        HELLO | {"content": structured({"role": "tool", "content": "x"})},
        {"content.messages[0].role": "Must be one of: user, assistant, system"},
    ),
    (
        HELLO | {"content": structured({"role": "user", "content": ""})},
        {"content.messages[0].content": "Must not be empty"},
    ),
    (
        HELLO
        | {"content": structured({"role": "user", "content": "x", "timestamp": "noon", "tokens": "many", "model": 4})},
        {
            "content.messages[0].timestamp": "Expected an ISO 8601 date and time, such as 2025-01-20T14:30:00Z",
            "content.messages[0].tokens": "Expected a number, got a string",
            "content.messages[0].model": "Expected a string, got a number",
        },
    ),
    (
        HELLO | {"content": structured({"role": "user", "content": "x", "metadata": {}, "latencyMs": 1})},
        {f"content.messages[0].{name}": CONTENT_FIELDS for name in ("metadata", "latencyMs")},
    ),
    (
        HELLO
        | {"content": structured({"role": "user", "content": "x"}, {"role": "user", "content": "y", "name": "z"})},
        {"content.messages[1].name": CONTENT_FIELDS},
    ),
    (
        HELLO | {"content": structured({"role": "user", "content": "x"}, metadata={"userId": 7})},
        {"content.metadata.userId": "Expected a string, got a number"},
    ),
    (
        HELLO | {"content": structured({"role": "user", "content": "x"}, metadata=[])},
        {"content.metadata": "Expected an object, got an array"},
    ),
    (HELLO | {"status": "open"}, {"status": "Must be one of: completed, abandoned, in_progress, active"}),
    (HELLO | {"status": None}, {"status": "Expected a string, got null"}),
    (HELLO | {"llmModel": True}, {"llmModel": "Expected a string, got true or false"}),
    (HELLO | {"companyName": ["Acme"]}, {"companyName": "Expected a string, got an array"}),
    (HELLO | {"idempotencyKey": ""}, {"idempotencyKey": "Must not be empty"}),
    (
        HELLO | {"prompt_id": "p"},
        {"prompt_id": "Unknown field; known are: promptId, content, status, llmModel, companyName, idempotencyKey"},
    ),
]


def messages(*given: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(given)} | fields


def said(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": "x"} | fields


APPEND_RULES: list[tuple[Any, dict[str, str]]] = [
    ({}, {"messages": "Required field"}),
    (messages(), {"messages": "At least one is required"}),
    ({"messages": {}}, {"messages": "Expected an array, got an object"}),
    (messages(None), {"messages[0]": "Expected an object, got null"}),
    (messages({}), {"messages[0].role": "Required field", "messages[0].content": "Required field"}),
    (messages(said(), said(role="developer")), {"messages[1].role": "Must be one of: user, assistant, system, tool"}),
    (messages(said(role=None)), {"messages[0].role": "Expected a string, got null"}),
    (messages(said(content=None)), {"messages[0].content": "Expected a string, got null"}),
    (messages(said(content=[])), {"messages[0].content": "Expected a string, got an array"}),
    (messages(said(content="")), {"messages[0].content": "Must not be empty"}),
    (messages(said(role="assistant", content="", toolCalls=[])), {"messages[0].content": "Must not be empty"}),
    (messages(said(role="system", content="")), {"messages[0].content": "Must not be empty"}),
    (
        messages(said(timestamp="2025-13-01T00:00:00Z")),
        {"messages[0].timestamp": "Expected an ISO 8601 date and time, such as 2025-01-20T14:30:00Z"},
    ),
    (messages(said(timestamp=1737374400)), {"messages[0].timestamp": "Expected a string, got a number"}),
    (messages(said(model=None)), {"messages[0].model": "Expected a string, got null"}),
    (messages(said(tokens=-1)), {"messages[0].tokens": "Must be at least 0"}),
    (messages(said(tokens=True)), {"messages[0].tokens": "Expected a number, got true or false"}),
    (messages(said(latencyMs="1")), {"messages[0].latencyMs": "Expected a number, got a string"}),
    (messages(said(toolCalls={})), {"messages[0].toolCalls": "Expected an array, got an object"}),
    (messages(said(toolCalls=["f"])), {"messages[0].toolCalls[0]": "Expected an object, got a string"}),
    (messages(said(toolCalls=[{"id": None}])), {"messages[0].toolCalls[0].id": "Expected a string, got null"}),
    (
        messages(said(toolCalls=[{"arguments": None}])),
        {f"{CALL}.arguments": "Expected an object or an array or a string or a number or true or false, got null"},
    ),
    (messages(said(usage={"promptTokens": 1})), {"messages[0].usage.completionTokens": "Required field"}),
    (
        messages(said(usage={"promptTokens": 1, "completionTokens": None})),
        {"messages[0].usage.completionTokens": "Expected a number, got null"},
    ),
    (messages(said(usage=None)), {"messages[0].usage": "Expected an object, got null"}),
    (messages(said(metadata="x")), {"messages[0].metadata": "Expected an object, got a string"}),
    (messages(said(), status="abandoned"), {"status": "Must be one of: active, completed"}),
    (messages(said(), status=None), {"status": "Expected a string, got null"}),
    (messages(said(), metadata=None), {"metadata": "Expected an object, got null"}),
    (messages(said(), promptId="p"), {"promptId": "Unknown field; known are: messages, status, metadata"}),
]

QUERY_RULES = [
    ("limit=0", {"limit": "Must be at least 1"}),
    ("limit=101", {"limit": "Must be at most 100"}),
    ("limit=ten", {"limit": "Expected a whole number, got a string"}),
    ("limit=", {"limit": "Expected a whole number, got a string"}),
    ("limit=1&offset=0&limit=2", {"limit": "Given more than once"}),
    ("offset=-1", {"offset": "Must be at least 0"}),
    ("hasInsights=yes", {"hasInsights": "Expected true or false, got a string"}),
    ("prompt_id=p", {"prompt_id": "Unknown field; known are: promptId, status, hasInsights, limit, offset"}),
    ("status=open", {"status": "Must be one of: completed, abandoned, in_progress, active"}),
]


def refused(answer: httpx.Response, message: str, details: dict[str, str]) -> None:
    error = {"code": "VALIDATION_ERROR", "message": message, "details": details}
    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.fixture
def conversation(http: httpx.Client) -> str:
    return str(http.post("/conversations", json=HELLO).json()["id"])


@pytest.mark.parametrize(("body", "details"), CREATE_RULES)
def test_a_create_that_breaks_a_rule_is_refused(http: httpx.Client, body: Any, details: dict[str, str]) -> None:
    """Each broken rule is named with its field, and nothing is stored."""
    refused(http.post("/conversations", json=body), "Invalid request body", details)
    assert http.get("/conversations").json()["pagination"]["total"] == 0


@pytest.mark.parametrize(("body", "details"), APPEND_RULES)
def test_an_append_that_breaks_a_rule_is_refused(
    http: httpx.Client, conversation: str, body: Any, details: dict[str, str]
) -> None:
    """Each broken rule is named with its field, and none of the batch is stored."""
    refused(http.post(f"/conversations/{conversation}/messages", json=body), "Invalid request body", details)
    assert len(http.get(f"/conversations/{conversation}").json()["messages"]) == 1


@pytest.mark.parametrize(("query", "details"), QUERY_RULES)
def test_a_query_that_breaks_a_rule_is_refused(http: httpx.Client, query: str, details: dict[str, str]) -> None:
    """A filter that cannot be read is not silently ignored."""
    refused(http.get(f"/conversations?{query}"), "Invalid query parameters", details)


def test_a_get_with_an_unreadable_flag_is_refused(http: httpx.Client, conversation: str) -> None:
    """`includeInsights` is true or false."""
    details = {"includeInsights": "Expected true or false, got a string"}
    refused(http.get(f"/conversations/{conversation}?includeInsights=1"), "Invalid query parameters", details)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"promptId": NaN}', b'"\\ud800"', b'{"promptId": "\xff"}', b"[" * 5000], ids=repr
)
def test_a_body_that_is_no_strict_json_is_refused(http: httpx.Client, conversation: str, body: bytes) -> None:
    """Broken JSON, NaN, lone surrogates and broken UTF-8 get the error shape of any bad request."""
    for path in ("/conversations", f"/conversations/{conversation}/messages"):
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["message"]) == (400, "VALIDATION_ERROR", "Invalid JSON")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_refused(http: httpx.Client, content_type: str) -> None:
    """JSON is sent as JSON: a form of another site cannot be."""
    answer = http.post("/conversations", content=json.dumps(HELLO), headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": ""},
        {"role": "tool", "content": "", "toolCalls": [{}]},
        said(toolCalls=[{"id": "1", "name": "f", "arguments": "{broken"}, {"arguments": [1], "type": "custom"}]),
        said(timestamp="2025-01-20T14:30:00.123456+02:00"),
        said(timestamp="2025-01-20t14:30:00z"),
        said(tokens=0, latencyMs=0.5, usage={"promptTokens": 0, "completionTokens": 12}),
        said(metadata={"anything": None, "nested": {"a": [None, 1]}}),
    ],
)
def test_what_the_document_allows_is_stored_as_it_is(
    http: httpx.Client, conversation: str, message: dict[str, Any]
) -> None:
    """Strict is not narrow: free-form fields are free, and come back field for field."""
    answer = http.post(f"/conversations/{conversation}/messages", json={"messages": [message]})
    assert answer.status_code == 200
    assert answer.json()["messages"][1] == message


@pytest.mark.parametrize(
    "content",
    [
        "User: Hello\nAssistant: Hi!",
        "Human: Hello\nAI: Hi!",
        "Customer: Hello\nAgent: Hi!",
        structured({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}),
    ],
)
def test_both_content_formats_become_messages(http: httpx.Client, content: str) -> None:
    """Each pair of labels and the structured form say the same."""
    conversation_id = http.post("/conversations", json=HELLO | {"content": content}).json()["id"]
    assert http.get(f"/conversations/{conversation_id}").json()["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
    ]


def too_large(answer: httpx.Response, details: dict[str, str]) -> None:
    error = {"code": "PAYLOAD_TOO_LARGE", "message": "Payload Too Large", "details": details}
    assert (answer.status_code, answer.json()) == (413, {"error": error})


def create(http: httpx.Client, content: str) -> httpx.Response:
    return http.post("/conversations", json={"promptId": "p", "content": content})


def test_content_holds_512_kb_of_utf8(http: httpx.Client) -> None:
    """The limit counts bytes, not characters: the last byte fits, one more does not."""
    lines = ["User: " + "é" * 51_000 for _ in range(5)]  # 102,006 bytes a message
    whole = "\n".join(lines)
    rest = 512 * KB - len(whole.encode()) - len("\nUser: ")
    fits = f"{whole}\nUser: {'x' * rest}"
    assert len(fits.encode()) == 512 * KB
    assert create(http, fits).status_code == 200
    too_large(create(http, fits + "x"), {"content": "524,289 bytes; at most 524,288"})


def test_a_message_holds_100_kb_of_utf8(http: httpx.Client, conversation: str) -> None:
    """In a create and in an append."""
    fits = "é" * (50 * KB)
    assert create(http, f"User: {fits}").status_code == 200
    too_large(create(http, f"User: {fits}x"), {"content.messages[0].content": "102,401 bytes; at most 102,400"})
    path = f"/conversations/{conversation}/messages"
    assert http.post(path, json=messages(said(content=fits))).status_code == 200
    too_large(
        http.post(path, json=messages(said(), said(content=fits + "x"))),
        {"messages[1].content": "102,401 bytes; at most 102,400"},
    )


def test_a_conversation_holds_500_messages(http: httpx.Client) -> None:
    """In structured content, and over all appends; the batch that is too much is not stored at all."""
    too_large(create(http, structured(*[said()] * 501)), {"messages": "501 messages; at most 500"})
    conversation_id = create(http, structured(*[said()] * 499)).json()["id"]
    path = f"/conversations/{conversation_id}/messages"
    too_large(http.post(path, json=messages(said(), said())), {"messages": "501 messages; at most 500"})
    assert len(http.post(path, json=messages(said())).json()["messages"]) == 500


def test_a_conversation_grows_to_512_kb(http: httpx.Client, conversation: str) -> None:
    """What counts is the transcript that the server makes of all messages."""
    path = f"/conversations/{conversation}/messages"
    for _ in range(5):
        http.post(path, json=messages(said(content="x" * 100 * KB)))
    too_large(
        http.post(path, json=messages(said(content="x" * 20 * KB))), {"content": "532,533 bytes; at most 524,288"}
    )
    assert len(http.get(f"/conversations/{conversation}").json()["messages"]) == 6


def test_a_body_that_is_far_too_large_is_not_read_to_its_end(http: httpx.Client) -> None:
    """More than 8 MiB cannot be a valid request, whatever it holds."""
    answer = http.post("/conversations", content=b" " * (9 * KB * KB), headers={"Content-Type": "application/json"})
    error = {
        "code": "PAYLOAD_TOO_LARGE",
        "message": "Request body too large",
        "details": {"body": "At most 8,388,608 bytes"},
    }
    assert (answer.status_code, answer.json()) == (413, {"error": error})
